"""Small pictures, videos and results for tests, and a disk that is soon full."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.detections import Detections
from edge.frame import Frame
from edge.result import Classification, Result


def picture(path: Path, value: int = 100, size_wh: tuple[int, int] = (32, 24)) -> Path:
    """Write a picture of one brightness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.full((size_wh[1], size_wh[0], 3), value, np.uint8))[1].tobytes())
    return path


def clip(
    path: Path, frames: int = 12, fps: float = 10.0, size_wh: tuple[int, int] = (64, 48), codec: str = "mp4v"
) -> Path:
    """Write a video whose frame i is grey of brightness (10 * i + 20) % 250."""
    grey = (np.full((size_wh[1], size_wh[0], 3), (10 * i + 20) % 250, np.uint8) for i in range(frames))
    return film(path, grey, fps, size_wh, codec)


def film(
    path: Path,
    images: Iterator[npt.NDArray[np.uint8]],
    fps: float = 10.0,
    size_wh: tuple[int, int] = (64, 48),
    codec: str = "mp4v",
) -> Path:
    """Write a video of given pictures."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size_wh)
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


def frames_of(path: Path) -> list[npt.NDArray[np.uint8]]:
    """Decode a whole video."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    images = []
    while (read := capture.read())[0]:
        images.append(read[1])
    capture.release()
    return images


def noise(index: int, size_wh: tuple[int, int] = (64, 48)) -> npt.NDArray[np.uint8]:
    """Return a picture that hardly compresses."""
    return np.random.default_rng(index).integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8)


def result(
    index: int = 0,
    source: str = "clip.mp4",
    image: npt.NDArray[np.uint8] | None = None,
    boxes: int = 1,
    fps: float | None = 10.0,
    live: bool = False,
    timestamp_s: float | None = None,
    classification: Classification | None = None,
) -> Result:
    """Return the result of one frame, with boxes of class 0, 1, 2 ..."""
    image = np.full((48, 64, 3), 90, np.uint8) if image is None else image
    at = index / (fps or 10.0) if timestamp_s is None else timestamp_s
    frame = Frame(image, index, source, at, time.monotonic(), time.time(), fps, live, still=fps is None and not live)
    xyxy = np.array([[4 + i, 5, 20 + i, 25.5] for i in range(boxes)], np.float32).reshape(-1, 4)
    score = np.linspace(0.9, 0.5, boxes, dtype=np.float32)
    found = Detections(xyxy, score, np.arange(boxes, dtype=np.int32))
    return Result(frame, found, {"invoke": 1.5}, classification=classification)


@contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a disk of a given size; skips the test where that is not allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
