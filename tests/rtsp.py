"""An RTSP camera on this machine that is killed, frozen and started again on demand."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SCRIPT = Path(__file__).parent / "sources" / "rtsp_camera.py"

NEEDS = (
    "no GStreamer RTSP server: install Debian's python3-gi gir1.2-gst-rtsp-server-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)

CLOCK_BITS = 32


def drawn_s(image: Any) -> float:
    """Return `time.monotonic()` of the drawing of a picture."""
    cell = image.shape[1] // CLOCK_BITS
    cells = image[100:200, : cell * CLOCK_BITS, 1].reshape(100, CLOCK_BITS, cell)[:, :, cell // 4 : -cell // 4]
    ticks = sum(1 << bit for bit, bright in enumerate(cells.mean((0, 2)) > 126) if bright)
    now = int(time.monotonic() * 1e4)
    return (ticks + (now >> CLOCK_BITS << CLOCK_BITS)) / 1e4


class NoRtspServerError(Exception):
    """The system cannot serve RTSP."""


class RtspCamera:
    """Serves /cam over TCP and UDP, and /udp over UDP only."""

    def __init__(self, size_wh: tuple[int, int] = (160, 120), fps: int = 15, clock: bool = False) -> None:
        """Start it.

        Raises:
            NoRtspServerError: What it needs is not installed.
        """
        self.size_wh = size_wh
        self._fps = fps
        self._clock = clock
        self._port = "0"
        self._server: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/cam"

    def start(self) -> None:
        """Start it on the port that it had before; or let it go on after `freeze`."""
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)
            return
        command = ["/usr/bin/python3", str(SCRIPT), *map(str, self.size_wh), "--port", self._port]
        command += ["--fps", str(self._fps), *(["--clock"] if self._clock else [])]
        # Python's own settings of the test run must not reach another Python.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        try:
            server = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
            )
        except OSError as error:
            raise NoRtspServerError("no /usr/bin/python3") from error
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            server.wait()
            server.stdout.close()
            raise NoRtspServerError(NEEDS)
        self._port, self._server = port, server

    def said(self) -> str:
        """Wait for its next line and return it."""
        assert self._server is not None and self._server.stdout is not None
        assert select.select([self._server.stdout], [], [], 30)[0], "the RTSP server says nothing"
        return self._server.stdout.readline().strip()

    def freeze(self) -> None:
        """Keep the connections, send nothing, answer nothing."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it, connections and all."""
        if self._server is None:
            return
        self._server.kill()
        self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()
        self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
