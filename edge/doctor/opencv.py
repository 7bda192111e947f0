"""OpenCV: that it loads, what it can do, and that it reads and writes videos."""

from __future__ import annotations

from collections.abc import Iterator

from edge.doctor.finding import Finding, missing, ok, warning
from edge.doctor.host import Host
from edge.doctor.isolate import Ending
from edge.doctor.trouble import split_mend, unfinished


def opencv(host: Host) -> Iterator[Finding]:
    """Whether it loads, and what it was built with."""
    outcome = host.attempt("opencv")
    if outcome.ending is not Ending.DONE:
        runtime = host.known("runtime")
        if "NumPy" in outcome.stage and runtime is not None and "NumPy" in runtime.stage:  # that has its own line
            yield missing("OpenCV", "not tried: it needs NumPy", needed=True)
        else:
            yield unfinished(host, "OpenCV", outcome, needed=True)
        return
    value = outcome.value
    if value["problem"]:
        found, mend = split_mend(host, value["problem"])
        yield missing("OpenCV", found, mend, True)
        return
    names = {"ffmpeg": "FFmpeg", "gstreamer": "GStreamer", "v4l2": "V4L2"}
    has = [label for key, label in names.items() if value[key]]
    lacks = [label for key, label in names.items() if not value[key]]
    has += [f"windows ({value['gui']})"] if value["gui"] else []
    lacks += [] if value["gui"] else ["windows (--show)"]
    found = f"{value['version']} with {', '.join(has) or 'nothing'}" + (f"; without {', '.join(lacks)}" * bool(lacks))
    facts = {key: value[key] for key in ("version", "file", "ffmpeg", "gstreamer", "v4l2", "gui")}
    if not value["v4l2"] or not (value["ffmpeg"] or value["gstreamer"]):
        what = "cameras" if not value["v4l2"] else "videos and network streams"
        yield warning("OpenCV", f"{found}: no {what}", "pip install --force-reinstall opencv-python", **facts)
    else:
        yield ok("OpenCV", found, **facts)


def video(host: Host) -> Iterator[Finding]:
    """Whether a video that is written can be read, and H.264 decoded."""
    loaded = host.attempt("opencv")
    if loaded.ending is not Ending.DONE or loaded.value["problem"]:
        yield missing("video", "not tried: it needs OpenCV")
        return
    outcome = host.attempt("video")
    if outcome.ending is not Ending.DONE:
        yield unfinished(host, "video", outcome)
        return
    value = outcome.value
    mend = "pip install --force-reinstall opencv-python"
    if value["mp4"] and value["h264"]:
        yield ok("video", "an MP4 was written and read, and H.264 decoded", **value)
    elif value["h264"]:
        yield warning("video", "H.264 is decoded, but an MP4 does not come back as it was written", mend, **value)
    else:
        found = "H.264 is not decoded: most cameras of the network and most files cannot be read"
        yield warning("video", found, mend, **value)
