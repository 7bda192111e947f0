"""What is tried with an OpenCV that has GStreamer; run by another Python, prints a line RESULT NAME JSON for each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

sys.path.insert(0, "/opt/edge")

import cv2  # noqa: E402

from edge.errors import EdgeError, SourceLostError  # noqa: E402
from edge.sources import SourceOptions, open_source  # noqa: E402
from edge.sources.reader import Opening  # noqa: E402
from edge.sources.reconnect import Backoff, ReconnectingSource  # noqa: E402

BALL = "gst://videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1"
SHORT = SourceOptions(open_timeout_s=2, read_timeout_s=1)


def result(name: str, value: object) -> None:
    print("RESULT", name, json.dumps(value), flush=True)


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except EdgeError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing is raised"


result("version", cv2.__version__)
with open_source(BALL, SourceOptions(every=2, rotate=90)) as source:
    frames = [frame for frame, _ in zip(source, range(6))]  # noqa: B905
    result("ball", {"size_wh": source.size_wh, "fps": source.fps, "indices": [frame.index for frame in frames]})
    moved = int((frames[0].image != frames[-1].image).sum())
    result("moved", moved)
result("csi", refusal(lambda: open_source("csi://0")))
result("nonsense", refusal(lambda: Opening("gst", lambda: open_source("gst://nosuch ! x", SHORT)).result(20)))

ends = "gst://videotestsrc is-live=true num-buffers=10 ! video/x-raw,width=64,height=48,framerate=30/1"
with open_source(ends) as source:
    seen = []
    try:
        seen.extend(frame.index for frame in source)
    except SourceLostError as error:
        result("end", {"frames": len(seen), "error": str(error)})

source = ReconnectingSource(ends, backoff=Backoff(0.1, 0.2))
until = time.monotonic() + 60
for _ in source:
    if source.counters.reconnects >= 2 or time.monotonic() > until:
        source.interrupt()
result("again", {"reconnects": source.counters.reconnects, "outages": source.counters.outages})
source.close()
print("DONE", flush=True)
