"""What of a result is recorded: the picture, drawn on or clean and scaled; and whether it counts as an event."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence

import cv2
import numpy as np

from edge.frame import Frame, Image
from edge.result import Result
from edge.sinks.base import Overlay
from edge.sinks.video import DEFAULT_FPS, PICTURE_FPS

MAX_GAP_S = 5.0
"""What follows after a longer silence begins a file of its own, whose name tells when."""

_MOST_FPS = 60.0
"""Some streams announce the ticks of their clock as their rate."""

_FRAMES = 64
"""From so many frames a rate is taken."""

_UNSAFE = re.compile(r"[^\w.+]+")


def clock_s(frame: Frame) -> float:
    """Return when a frame was taken: by the monotonic clock, or by the media's own where it is a video file."""
    return frame.captured_s if frame.live or frame.still else frame.timestamp_s


class Rate:
    """How many frames a second really come: what is announced is often more than what is looked at.

    A video of the announced rate would have each frame several times, at the cost of encoding each.
    """

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._at_s: deque[float] = deque(maxlen=_FRAMES)

    def note(self, at_s: float) -> None:
        """Count a frame, taken at a time in seconds of any clock."""
        if self._at_s and not 0 <= at_s - self._at_s[-1] <= MAX_GAP_S:
            self._at_s.clear()
        self._at_s.append(at_s)

    def fps(self, frame: Frame) -> float:
        """Return a rate for a video that begins with a frame: at most what its source announces."""
        if frame.still:
            return PICTURE_FPS
        announced = frame.fps if frame.fps is not None and frame.fps <= _MOST_FPS else None
        if len(self._at_s) < _FRAMES or (took_s := self._at_s[-1] - self._at_s[0]) <= 0:
            return announced or DEFAULT_FPS
        # A little more, so that frames that come unevenly are all in it.
        real = min(_MOST_FPS, math.ceil((len(self._at_s) - 1) / took_s + 0.25))
        return float(real) if announced is None else min(announced, real)


class View:
    """Makes the picture of a result that is recorded."""

    def __init__(self, overlay: Overlay | None, max_width: int | None = None) -> None:
        """Prepare.

        Args:
            overlay: Draws results; None for clean pictures.
            max_width: Wider pictures are scaled down to this many pixels; None for no bound.
        """
        self._overlay = overlay
        self._max_width = max_width

    def size_wh(self, result: Result) -> tuple[int, int]:
        """Return width and height of the picture of a result."""
        width, height = result.frame.size_wh
        if self._max_width is None or width <= self._max_width:
            return width, height
        return self._max_width, max(1, round(height * self._max_width / width))

    def draw(self, result: Result) -> Image:
        """Return the picture, uint8 (H, W, 3) BGR, valid until the next result."""
        image = result.frame.image if self._overlay is None else self._overlay.draw(result)
        size = self.size_wh(result)
        if size == result.frame.size_wh:
            return image
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


class Events:
    """Says which objects of a result count."""

    def __init__(self, labels: Sequence[str], classes: Collection[int] | None = None, min_score: float = 0.5) -> None:
        """Prepare.

        Args:
            labels: Class names by class index.
            classes: Class indices that count; None for all.
            min_score: Lower scores do not count.
        """
        self._labels = labels
        self._classes = None if classes is None else frozenset(classes)
        self._min_score = min_score

    def of(self, result: Result) -> Iterator[tuple[str, float, tuple[float, float, float, float] | None]]:
        """Yield label, score and box (x1 y1 x2 y2 in frame pixels; None of a class without one) of what counts."""
        if result.classification is not None:
            for class_id, score in zip(result.classification.class_id, result.classification.score, strict=True):
                if self._counts(class_id, score):
                    yield self._label(class_id), score, result.classification.box_xyxy
            return
        for xyxy, score, class_id, _ in result.detections:
            if self._counts(class_id, score):
                x1, y1, x2, y2 = map(float, xyxy)
                yield self._label(class_id), score, (x1, y1, x2, y2)

    def _counts(self, class_id: int, score: float) -> bool:
        return score >= self._min_score and (self._classes is None or class_id in self._classes)

    def _label(self, class_id: int) -> str:
        return self._labels[class_id] if 0 <= class_id < len(self._labels) else str(class_id)


def file_word(label: str) -> str:
    """Return a label as a part of a file name."""
    return _UNSAFE.sub("_", label)[:40] or "_"
