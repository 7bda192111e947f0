"""Tries of OpenCV: that it loads, what it was built with, and that it reads and writes."""

from __future__ import annotations

import base64
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from edge.doctor.probes import stage

_H264 = base64.b64decode(
    "AAAAAWdkAAqs2UR7ARAAAAMAEAAAAwFA8SJZYAAAAAFo6+PLIsAAAAFliIQAP//+5nX4FNMIGkky/EPOPzFXKecBbOdNDh9VKAxncwAAAAFBmiJsQ3/+p+5AAAAAAQGeQXkN/w3p"
)
"""Three red pictures of 64 x 48 pixels."""

_SIZE_WH = (64, 48)
_FRAMES = 5
_FRAME_MS = 4000


def opencv() -> dict[str, Any]:
    """Load it and ask what it was built with."""
    stage("loading NumPy")
    import numpy

    stage("loading OpenCV")
    from edge.cv import explain

    try:
        import cv2
    except ImportError as error:
        return {"version": None, "problem": explain(error)}
    stage("using OpenCV")
    picture = numpy.zeros((_SIZE_WH[1], _SIZE_WH[0], 3), numpy.uint8)
    done, jpeg = cv2.imencode(".jpg", cv2.resize(picture, (320, 320)))
    if not done or cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape != (320, 320, 3):
        raise RuntimeError("a JPEG picture does not come back as it was written")
    built = cv2.getBuildInformation()
    return {
        "version": cv2.__version__,
        "problem": None,
        "file": cv2.__file__,
        "ffmpeg": _built_with(built, "FFMPEG"),
        "gstreamer": _built_with(built, "GStreamer"),
        "v4l2": _built_with(built, "v4l/v4l2"),
        "gui": _gui(built),
    }


def _built_with(built: str, name: str) -> bool:
    return re.search(rf"^\s*{re.escape(name)}:\s+YES", built, re.MULTILINE) is not None


def _gui(built: str) -> str | None:
    """Return the toolkit of its windows; None for a build without."""
    found = re.search(r"^\s*GUI:[ \t]+(\S+)", built, re.MULTILINE)
    if found is not None:
        return None if found[1].upper() == "NONE" else found[1]
    # Where several were looked for, the heading stands alone and each has a line.
    return next((name for name in ("QT", "GTK", "GTK+", "WAYLAND", "Cocoa") if _built_with(built, name)), None)


def video() -> dict[str, Any]:
    """Write a video and read it again, and decode H.264, which cameras of the network send."""
    stage("loading OpenCV")
    import cv2
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        stage("writing a video")
        path = Path(folder) / "v.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, _SIZE_WH)
        opened = writer.isOpened()
        for index in range(_FRAMES):
            writer.write(numpy.full((_SIZE_WH[1], _SIZE_WH[0], 3), 50 * index, numpy.uint8))
        writer.release()
        stage("reading a video")
        written = _read(cv2, path) if opened else []
        levels = [abs(float(frame.mean()) - 50 * index) for index, frame in enumerate(written)]
        stage("decoding H.264")
        clip = Path(folder) / "c.h264"
        clip.write_bytes(_H264)
        decoded = _read(cv2, clip)
    red = [frame[..., 2].mean() > 200 and frame[..., :2].mean() < 60 for frame in decoded]
    return {
        "mp4": opened and len(written) == _FRAMES and max(levels) < 8,
        "mp4_opened": opened,
        "mp4_frames": len(written),
        "h264": len(red) == 3 and bool(all(red)),
        "h264_frames": len(red),
    }


def _read(cv2: Any, path: Path) -> list[Any]:
    frames: list[Any] = []
    capture = cv2.VideoCapture(str(path))
    while len(frames) < 100:
        there, frame = capture.read()
        if not there:
            break
        frames.append(frame)
    capture.release()
    return frames


def frame(device: str) -> dict[str, Any]:
    """Open a camera as `edge detect --source` does and read a frame.

    Args:
        device: "/dev/video0".
    """
    stage("loading OpenCV")
    from edge.cv import require_opencv

    require_opencv()
    from edge.sources import open_source

    stage(f"opening {device}")
    before = time.monotonic()
    with open_source(device) as source:
        stage(f"reading a frame from {device}")
        image = next(iter(source)).image
    height, width = image.shape[:2]
    took_ms = round((time.monotonic() - before) * 1e3)
    return {"width": width, "height": height, "took_ms": took_ms, "dark": float(image.mean()) < 3}
