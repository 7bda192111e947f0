"""Ultralytics' own predictor in an environment of its own, working for peers.py: ``python predictor.py MODEL THREADS``.

A line of JSON comes in, ``{"video": ...}``; a line goes out: frames, seconds, and the seconds inside of the runtime.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_VERBOSE"] = "false"

import torch
import ultralytics
from ultralytics import YOLO


class Timed:
    """The predictor's interpreter, with a stop watch around its work."""

    def __init__(self, interpreter: Any) -> None:
        """Wrap it."""
        self.seconds = 0.0
        self._interpreter = interpreter

    def invoke(self) -> None:
        """Run, and count the time."""
        start = time.perf_counter()
        self._interpreter.invoke()
        self.seconds += time.perf_counter() - start

    def __getattr__(self, name: str) -> Any:
        """Everything else is the interpreter's."""
        return getattr(self._interpreter, name)


def main() -> None:
    """Answer until the input ends."""
    path, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    model = YOLO(path, task="detect")
    timed: Timed | None = None
    print(json.dumps({"ready": ultralytics.__version__}), flush=True)
    for line in sys.stdin:
        video = json.loads(line)["video"]
        frames, start, inside = 0, time.perf_counter(), timed.seconds if timed else 0.0
        for _ in model.predict(video, stream=True, imgsz=640, verbose=False):
            frames += 1
        seconds = time.perf_counter() - start
        if timed is None:
            # There is no interpreter before the first run; that one does not count.
            backend = model.predictor.model.backend
            timed = backend.interpreter = Timed(backend.interpreter)
        answer = {"frames": frames, "seconds": seconds, "inside": timed.seconds - inside}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
