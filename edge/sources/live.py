"""Network streams."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import cv2

from edge.errors import SourceError
from edge.sources.base import without_credentials
from edge.sources.options import DEFAULTS, SourceOptions, Transport
from edge.sources.video import CaptureSource

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "tcp": None}
"""Scheme -> default port, of those that begin with a TCP connection (None: the URL must name it)."""

SCHEMES = (*_PORTS, "udp", "rtp", "srt")

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
        if scheme not in SCHEMES:
            raise SourceError(f"{name}: unknown scheme {scheme!r}; expected one of {', '.join(SCHEMES)}, or a file")
        if scheme in _PORTS:
            _check_reachable(url, scheme, name, options.open_timeout_s)
        with _transport(options.transport if scheme.startswith("rtsp") else "tcp", name, options.open_timeout_s):
            capture = _open(url, options)
        if not capture.isOpened():
            raise SourceError(f"{name}: the host answers, but gives no video; check the path, user and password")
        finite = scheme in ("http", "https") and 0 < capture.get(cv2.CAP_PROP_FRAME_COUNT) < 1e9
        super().__init__(name, capture, not finite, options)


def _open(url: str, options: SourceOptions) -> Any:
    # OpenCV's own are 30 s.
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(options.open_timeout_s * 1e3),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(options.read_timeout_s * 1e3),
    ]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)


def _check_reachable(url: str, scheme: str, name: str, timeout_s: float) -> None:
    """Try a TCP connection, because OpenCV keeps the reason of a failure to itself."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS[scheme]
    except ValueError as error:
        raise SourceError(f"{name}: this is no valid URL") from error
    if not host or port is None:
        raise SourceError(f"{name}: the URL names no host" if not host else f"{name}: the URL names no port")
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
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))

    threading.Thread(target=look_up, name="edge-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise SourceError(
            f"{name}: no connection to {host} (its name is not resolved within {timeout_s:g} s)"
        ) from None
    if isinstance(answer, OSError):
        why = answer.strerror or str(answer)
        raise SourceError(f"{name}: no connection to {host} port {port} ({why})") from answer
    return answer


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
