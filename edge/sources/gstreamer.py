"""GStreamer pipelines, where OpenCV was built with it."""

from __future__ import annotations

import re
from typing import Any

import cv2

from edge.errors import SourceError
from edge.sources.attempt import Attempt
from edge.sources.options import DEFAULTS, SourceOptions
from edge.sources.urls import without_credentials
from edge.sources.video import CaptureSource

APPSINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
"""Ends a pipeline: BGR pictures, and of those that wait only the newest."""

SYSTEM_OPENCV = (
    "sudo apt install python3-opencv, and a virtual environment with --system-site-packages and without the "
    "opencv-python wheel"
)
"""How to come by an OpenCV with GStreamer on Debian, Ubuntu and Raspberry Pi OS."""


_START_S = 7.0
"""How long a pipeline may take to start beside the time-out: a Jetson's camera takes several seconds."""


def has_gstreamer() -> bool:
    """Whether OpenCV was built with GStreamer; the wheels of PyPI are not."""
    return re.search(r"^\s*GStreamer:\s+YES", cv2.getBuildInformation(), re.MULTILINE) is not None


class GStreamerSource(CaptureSource):
    """A pipeline in the notation of gst-launch. An appsink is added where it has none."""

    def __init__(self, uri: str, options: SourceOptions = DEFAULTS) -> None:
        """Start the pipeline and wait for its first frame.

        Args:
            uri: gst:// and the pipeline.
            options: Time-outs, which frames to give and how to turn them.

        Raises:
            SourceError: OpenCV has no GStreamer, or the pipeline does not run.
        """
        name = without_credentials(uri)
        if not has_gstreamer():
            raise SourceError(
                f"{name}: this OpenCV has no GStreamer, as the wheels of PyPI; use the system's: {SYSTEM_OPENCV}"
            )
        pipeline = uri.removeprefix("gst://").strip()
        if not pipeline:
            raise SourceError("gst://: the pipeline is empty; expected one like gst://v4l2src ! decodebin")
        super().__init__(name, open_pipeline(name, pipeline, options), True, options)


_attempts: dict[str, Attempt[Any]] = {}
"""Pipelines that did not start in time, by their text: one may hang for ever, and a second of it would be too much."""


def open_pipeline(name: str, pipeline: str, options: SourceOptions) -> Any:
    """Return an open cv2.VideoCapture.

    Raises:
        SourceError: The pipeline does not run, or does not start in time.
    """
    if "appsink" not in pipeline:
        pipeline = f"{pipeline.rstrip(' !')} ! {APPSINK}"
    hint = "is each of its elements installed? Try it with gst-launch-1.0"
    if pipeline in _attempts:
        if _attempts[pipeline].hangs:
            raise SourceError(f"{name}: an earlier attempt to start this pipeline still hangs; {hint}")
        del _attempts[pipeline]
    limit_s = _START_S + options.open_timeout_s
    attempt = Attempt(lambda: _start(pipeline, options), lambda capture: capture.release())
    try:
        capture = attempt.result(limit_s)
    except TimeoutError:
        # OpenCV before 4.8 waits for ever for a pipeline that lacks an element.
        _attempts[pipeline] = attempt
        raise SourceError(f"{name}: the pipeline does not start within {limit_s:g} s; {hint}") from None
    if not capture.isOpened():
        raise SourceError(f"{name}: GStreamer does not run this pipeline; {hint}")
    return capture


def _start(pipeline: str, options: SourceOptions) -> Any:
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(options.open_timeout_s * 1e3),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(options.read_timeout_s * 1e3),
    ]
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, limits)
    if not capture.isOpened() and tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 8):
        # Older ones have no time-outs, and refuse what they do not know.
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    return capture
