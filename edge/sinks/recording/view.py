"""What of a result is recorded: the picture, drawn on or clean and scaled; and whether it counts as an event."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import cv2
import numpy as np

from edge.frame import Image
from edge.result import Result
from edge.sinks.base import Overlay

_UNSAFE = re.compile(r"[^\w.+]+")


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
