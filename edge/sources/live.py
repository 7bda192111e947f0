"""Cameras and network streams."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import cv2

from edge.errors import SourceError
from edge.sources.base import natural_key, without_credentials
from edge.sources.video import CaptureSource

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 5000
"""OpenCV's own are 30 s."""

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "tcp": None}
"""Scheme -> default port, of those that begin with a TCP connection (None: the URL must name it)."""

SCHEMES = (*_PORTS, "udp", "rtp", "srt")


class StreamSource(CaptureSource):
    """An http(s), rtsp, ... URL. A video file behind http is read like a file; everything else is live."""

    def __init__(self, url: str) -> None:
        """Connect and read the first frame.

        Raises:
            SourceError: The scheme is unknown, the host does not answer, or there is no video at the URL.
        """
        name = without_credentials(url)
        scheme = url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise SourceError(f"{name}: unknown scheme {scheme!r}; expected one of {', '.join(SCHEMES)}, or a file")
        if scheme in _PORTS:
            _check_reachable(url, scheme, name)
        capture = cv2.VideoCapture(
            url,
            cv2.CAP_FFMPEG,
            [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS],
        )
        if not capture.isOpened():
            raise SourceError(f"{name}: the host answers, but gives no video; check the path, user and password")
        finite = scheme in ("http", "https") and 0 < capture.get(cv2.CAP_PROP_FRAME_COUNT) < 1e9
        super().__init__(name, capture, live=not finite)


def _check_reachable(url: str, scheme: str, name: str) -> None:
    """Try a TCP connection, because OpenCV keeps the reason of a failure to itself."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS[scheme]
    except ValueError as error:
        raise SourceError(f"{name}: this is no valid URL") from error
    if not host or port is None:
        raise SourceError(f"{name}: the URL names no host" if not host else f"{name}: the URL names no port")
    try:
        socket.create_connection((host, port), timeout=OPEN_TIMEOUT_MS / 1e3).close()
    except TimeoutError as error:
        raise SourceError(f"{name}: {host} port {port} does not answer within {OPEN_TIMEOUT_MS / 1e3:g} s") from error
    except OSError as error:
        raise SourceError(f"{name}: no connection to {host} port {port} ({error.strerror or error})") from error


class CameraSource(CaptureSource):
    """A camera: its number, or /dev/videoN."""

    def __init__(self, device: str) -> None:
        """Open the camera and read its first frame.

        Raises:
            SourceError: There is no such camera, or it cannot be used.
        """
        path = device if device.startswith("/") else f"/dev/video{device}"
        if sys.platform.startswith("linux"):
            _check_device(device, path)
            capture = cv2.VideoCapture(int(path.removeprefix("/dev/video")), cv2.CAP_V4L2)
        else:
            capture = cv2.VideoCapture(int(device))
        if not capture.isOpened():
            raise SourceError(f"{device}: {path} is no capture device, or another program uses it")
        super().__init__(device, capture, live=True)


def _check_device(device: str, path: str) -> None:
    if not os.path.exists(path):
        found = sorted((str(p) for p in Path("/dev").glob("video*")), key=natural_key)
        raise SourceError(f"{device}: there is no camera at {path}; found {', '.join(found) or 'no /dev/video*'}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError(f"{device}: no permission to use {path}; join its group: sudo usermod -aG video $USER")


def is_camera(uri: str) -> bool:
    """Whether a source names a camera."""
    return re.fullmatch(r"\d+|/dev/video\d+", uri) is not None
