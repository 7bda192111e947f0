"""Frames, names and disks for the tests of recordings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from media import frames_of

from edge.detections import Detections
from edge.frame import Frame
from edge.result import Result
from edge.sinks.recording import View

LABELS = ("red", "green", "traffic light")
START_WALL_S = datetime(2026, 5, 4, 14, 3, 0).timestamp()
FPS = 10.0
CLEAN = View(None)


def shot(
    index: int,
    found: dict[int, float] | None = None,
    size_wh: tuple[int, int] = (64, 48),
    image: Any = None,
    step_s: float = 1 / FPS,
    wall_s: float | None = None,
    fps: float | None = FPS,
) -> Result:
    """Return a frame of a live camera of brightness 10 * (index % 25), with boxes (class -> score)."""
    at = index * step_s
    if image is None:
        image = np.full((size_wh[1], size_wh[0], 3), 10 * (index % 25), np.uint8)
    wall = START_WALL_S + at if wall_s is None else wall_s
    frame = Frame(image, index, "rtsp://h/cam", at, 1000 + at, wall, fps, live=True)
    found = found or {}
    xyxy = np.array([[8, 8, 40, 40]] * len(found), np.float32).reshape(-1, 4)
    scores, classes = np.array(list(found.values()), np.float32), np.array(list(found), np.int32)
    return Result(frame, Detections(xyxy, scores, classes), {})


def brightness(path: Path) -> list[int]:
    """Return which frame each picture of a video shows, as a remainder of 25."""
    return [round(float(np.median(image)) / 10) for image in frames_of(path)]


def marks(*parts: range) -> list[int]:
    """Return what `brightness` says of frames."""
    return [i % 25 for part in parts for i in part]


def files(root: Path) -> list[str]:
    """Return all files below a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def touch(path: Path, size: int = 1000) -> Path:
    """Write a file of zeros, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def killed(script: str, last: int, **environment: str) -> None:
    """Run a script that prints a number now and then, and end it by SIGKILL when that reaches `last`."""
    tests = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}", **environment},
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if int(line) >= last:
                break
        else:
            raise AssertionError("the script ended by itself")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
