"""USB cameras, and whatever else Linux offers as /dev/videoN."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import cv2

from edge.errors import SourceError
from edge.sources.base import natural_key
from edge.sources.options import DEFAULTS, SourceOptions
from edge.sources.video import CaptureSource

log = logging.getLogger(__name__)

_NODE = re.compile(r"/dev/video(\d+)")
_STABLE = ("/dev/v4l/by-id/", "/dev/v4l/by-path/")
_SYSFS = "/sys/class/video4linux"

_OLDEST_S = 10.0
"""A driver's time of a frame that is further away is on another clock."""


class CameraSource(CaptureSource):
    """A camera: its number, /dev/videoN, or a link to it that outlives a replug, as in /dev/v4l/by-id."""

    def __init__(self, device: str, options: SourceOptions = DEFAULTS) -> None:
        """Open the camera and read its first frame.

        Args:
            device: As the user names it; a link is followed now, so that opening it anew finds the camera again.
            options: Size, rate and format to ask for, which frames to give and how to turn them.

        Raises:
            SourceError: There is no such camera, or it cannot be used.
        """
        path = device if device.startswith("/") else f"/dev/video{device}"
        if sys.platform.startswith("linux"):
            _check_device(device, path)
            node = os.path.realpath(path)
            number = _NODE.fullmatch(node)
            if number is None:
                raise SourceError(f"{device}: leads to {node}; expected a /dev/videoN")
            capture = cv2.VideoCapture(int(number[1]), cv2.CAP_V4L2)
        else:
            node = path
            capture = cv2.VideoCapture(int(device))
        if not capture.isOpened():
            raise SourceError(f"{device}: {_why_not(node)}")
        _ask(device, capture, options)
        super().__init__(device, capture, True, options)

    def _captured_s(self, position_s: float) -> float:
        """Return the driver's own time of the frame, where it is one of the clock that we use."""
        now = time.monotonic()
        return position_s if 0 <= now - position_s < _OLDEST_S else now


def _check_device(device: str, path: str) -> None:
    if not os.path.exists(path):
        pattern = "by-id/*" if path.startswith(_STABLE) else "video*"
        folder = "/dev/v4l" if path.startswith(_STABLE) else "/dev"
        found = sorted((str(p) for p in Path(folder).glob(pattern)), key=natural_key)
        raise SourceError(
            f"{device}: there is no camera at {path}; found {', '.join(found) or f'no {folder}/{pattern}'}"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError(f"{device}: no permission to use {path}; join its group: sudo usermod -aG video $USER")


def _why_not(node: str) -> str:
    """Say why a device that exists does not open as a camera."""
    try:
        name = Path(_SYSFS, os.path.basename(node))
        index = int((name / "index").read_text())
        siblings = [
            f"/dev/{other.name}"
            for other in Path(_SYSFS).iterdir()
            if other.name != name.name
            and (other / "device").resolve() == (name / "device").resolve()
            and int((other / "index").read_text()) < index
        ]
    except (OSError, ValueError):
        siblings = []
    if siblings:
        # A camera's further nodes are for metadata, or another stream of it.
        pictures = min(siblings, key=natural_key)
        return f"{node} is a side channel of the camera at {pictures} and gives no pictures; use {pictures}"
    return f"{node} is no capture device, or another program uses it"


def _ask(device: str, capture: Any, options: SourceOptions) -> None:
    """Ask for format, size and rate, and say what the camera gives instead."""
    # The format first: which sizes and rates there are depends on it.
    if options.format is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.format))
    if options.size_wh is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size_wh[1])
    if options.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, options.fps)
    other = []
    if options.format is not None:
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        given = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
        if given != options.format:
            other.append(f"{given.strip() if given.isprintable() else 'another format'} instead of {options.format}")
    if options.size_wh is not None:
        size = (round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if size != options.size_wh:
            other.append("{}x{} instead of {}x{}".format(*size, *options.size_wh))
    if options.fps is not None:
        fps = capture.get(cv2.CAP_PROP_FPS)
        if fps > 0 and abs(fps - options.fps) > 0.02 * options.fps:
            other.append(f"{fps:g} instead of {options.fps:g} frames/s")
    if other:
        log.warning("%s: the camera gives %s", device, ", ".join(other))


def is_camera(uri: str) -> bool:
    """Whether a source names a camera."""
    if re.fullmatch(r"\d+", uri) or uri.startswith(_STABLE):
        return True
    return uri.startswith("/dev/") and _NODE.fullmatch(os.path.realpath(uri)) is not None
