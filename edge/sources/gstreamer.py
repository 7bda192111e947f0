"""GStreamer pipelines, where OpenCV was built with it."""

from __future__ import annotations

import re
from typing import Any

import cv2

from edge.errors import SourceError
from edge.sources.base import without_credentials
from edge.sources.options import DEFAULTS, SourceOptions
from edge.sources.video import CaptureSource

APPSINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
"""Ends a pipeline: BGR pictures, and of those that wait only the newest."""

SYSTEM_OPENCV = (
    "sudo apt install python3-opencv, and a virtual environment with --system-site-packages and without the "
    "opencv-python wheel"
)
"""How to come by an OpenCV with GStreamer on Debian, Ubuntu and Raspberry Pi OS."""


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


def open_pipeline(name: str, pipeline: str, options: SourceOptions) -> Any:
    """Return an open cv2.VideoCapture.

    Raises:
        SourceError: The pipeline does not run.
    """
    if "appsink" not in pipeline:
        pipeline = f"{pipeline.rstrip(' !')} ! {APPSINK}"
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(options.open_timeout_s * 1e3),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(options.read_timeout_s * 1e3),
    ]
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, limits)
    if not capture.isOpened() and cv2.__version__.startswith("4.") and int(cv2.__version__.split(".")[1]) < 8:
        # Older ones have no time-outs, and refuse what they do not know.
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError(f"{name}: GStreamer does not run this pipeline; try it with gst-launch-1.0")
    return capture
