"""Network streams."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2

from edge.errors import SourceError
from edge.sources.attempt import Attempt
from edge.sources.options import DEFAULTS, SourceOptions, Transport
from edge.sources.reduce import is_jpeg
from edge.sources.urls import check_url, without_credentials
from edge.sources.video import CaptureSource

log = logging.getLogger(__name__)

_SATURATED = 0.9
_SATURATED_S = 3.0
"""A reading thread that computes for more than this share of so many seconds cannot decode as fast as frames come."""

_BACKLOG_S = 1.0
"""For how long frames are passed over at most when a stream begins."""

_USUAL_S = 1 / 30
"""From one frame to the next where the stream does not say."""

_heavy: set[str] = set()
"""Streams that one thread cannot decode, by URL: next time they begin with several."""

_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class StreamSource(CaptureSource):
    """An http(s), rtsp, ... URL. A video file behind http is read like a file; everything else is live."""

    def __init__(self, url: str, options: SourceOptions = DEFAULTS) -> None:
        """Connect and read the first frame.

        Args:
            url: With user and password, where it needs them.
            options: Time-outs, transport, which frames to give and how to turn them.

        Raises:
            SourceError: The scheme is unknown, the host does not answer, or there is no video at the URL.
        """
        name = without_credentials(url)
        scheme = url.partition("://")[0].lower()
        address = check_url(url)
        if address is not None:
            _check_reachable(*address, name, options.open_timeout_s)
        self.name, self._url, self._options = name, url, options
        self._scheme = scheme
        # A decoder with several threads gives a frame that many frames later. A file may as well be decoded by all.
        self._one_thread = not scheme.startswith("http") and url not in _heavy
        start_s = time.monotonic()
        capture = self._connect()
        if not capture.isOpened():
            if time.monotonic() - start_s >= options.open_timeout_s:
                raise SourceError(
                    f"{name}: the host takes the connection, but gives no video within {options.open_timeout_s:g} s"
                )
            raise SourceError(f"{name}: the host answers, but gives no video; check the path, user and password")
        finite = scheme in ("http", "https") and 0 < capture.get(cv2.CAP_PROP_FRAME_COUNT) < 1e9
        if scheme.startswith("rtsp"):
            _skip_backlog(capture)
        super().__init__(name, capture, not finite, options)
        self._load_since = (time.monotonic(), time.thread_time())

    def _connect(self) -> Any:
        options = self._options
        # OpenCV's own are 30 s.
        wanted = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            round(options.open_timeout_s * 1e3),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            round(options.read_timeout_s * 1e3),
        ]
        if self._one_thread and hasattr(cv2, "CAP_PROP_N_THREADS"):
            wanted += [cv2.CAP_PROP_N_THREADS, 1]
        transport = options.transport if self._scheme.startswith("rtsp") else "tcp"
        with _transport(transport, self.name, options.open_timeout_s):
            return cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, wanted)

    def _use(self, capture: Any) -> None:
        super()._use(capture)
        # RTSP does not tell where a frame ends: FFmpeg's parser gives it when the next one begins. JPEG is not parsed.
        self._late = self._scheme.startswith("rtsp") and not is_jpeg(capture)
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._began_s = time.monotonic() - (1 / fps if 1 <= fps <= 120 else _USUAL_S)

    def _captured_s(self, position_s: float) -> float:
        """Return when this frame began to arrive."""
        began_s, self._began_s = self._began_s, time.monotonic()
        return began_s if self._late else self._began_s

    def _grab(self) -> float | None:
        if self._one_thread and self.captured and self._saturated():
            # Frames would pile up in the network and come later and later.
            log.info("%s: one thread cannot decode it as fast as it comes; it is opened again with several", self.name)
            self._one_thread = False
            _heavy.add(self._url)
            self._capture.release()
            self.beat()
            self._use(self._connect())
            self.beat()
        return super()._grab()

    def _saturated(self) -> bool:
        """Whether this thread has computed without a pause for a while; with one thread the decoder runs in it."""
        since_s, since_cpu_s = self._load_since
        now = time.monotonic()
        if now - since_s < _SATURATED_S:
            return False
        cpu_s = time.thread_time()
        self._load_since = (now, cpu_s)
        return cpu_s - since_cpu_s > _SATURATED * (now - since_s)


def _skip_backlog(capture: Any) -> None:
    """Pass over what came in while the stream was analysed: seconds of old frames."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    new_s = 0.5 / fps if 1 <= fps <= 120 else 0.02
    until = time.monotonic() + _BACKLOG_S
    while (start := time.monotonic()) < until and capture.grab():
        if time.monotonic() - start > new_s:
            # This one had to be waited for.
            return


def _check_reachable(host: str, port: int, name: str, timeout_s: float) -> None:
    """Try a TCP connection, because OpenCV keeps the reason of a failure to itself."""
    deadline = time.monotonic() + timeout_s
    reason: OSError | None = None
    for family, kind, protocol, _, address in _resolve(host, port, name, timeout_s):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.settimeout(max(0.01, deadline - time.monotonic()))
                probe.connect(address)
                return
        except OSError as error:
            # The first: a host's second address is often one that this machine cannot reach at all.
            reason = reason or error
    if isinstance(reason, TimeoutError):
        raise SourceError(f"{name}: {host} port {port} does not answer within {timeout_s:g} s") from reason
    why = (reason.strerror or str(reason)) if reason is not None else "it has no address"
    raise SourceError(f"{name}: no connection to {host} port {port} ({why})") from reason


def _resolve(host: str, port: int, name: str, timeout_s: float) -> list[Any]:
    """Return the addresses of a host; without a network the system's look-up alone can take half a minute."""
    try:
        return Attempt(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)).result(timeout_s)
    except TimeoutError:
        raise SourceError(
            f"{name}: no connection to {host} (its name is not resolved within {timeout_s:g} s)"
        ) from None
    except (OSError, UnicodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SourceError(f"{name}: no connection to {host} port {port} ({why})") from error


class _Transports:
    """Which transport those streams use that are being opened at the moment."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.transport: Transport = "tcp"
        self.opening = 0


_transports = _Transports()


@contextmanager
def _transport(transport: Transport, name: str, timeout_s: float) -> Iterator[None]:
    """Let FFmpeg take RTSP over this transport while a stream is opened.

    It can be told by an environment variable only, which is one for the whole process: streams that want the same open
    side by side, others wait for them. TCP is OpenCV's own choice and needs none.

    Raises:
        SourceError: One with another transport has been opening for too long.
    """
    state = _transports
    with state.changed:
        # Opening has a time-out of its own; more than that is a hang.
        if not state.changed.wait_for(lambda: not state.opening or state.transport == transport, 4 * timeout_s):
            raise SourceError(f"{name}: another stream has been opening for too long")
        if not state.opening:
            state.transport = transport
        state.opening += 1
        before = os.environ.get(_FFMPEG_OPTIONS)
        if transport == "udp" and state.opening == 1:
            os.environ[_FFMPEG_OPTIONS] = "|".join(filter(None, [before, "rtsp_transport;udp"]))
    try:
        yield
    finally:
        with state.changed:
            state.opening -= 1
            if transport == "udp" and not state.opening:
                _restore()
            state.changed.notify_all()


def _restore() -> None:
    left = os.environ.get(_FFMPEG_OPTIONS, "").removesuffix("rtsp_transport;udp").removesuffix("|")
    if left:
        os.environ[_FFMPEG_OPTIONS] = left
    else:
        os.environ.pop(_FFMPEG_OPTIONS, None)
