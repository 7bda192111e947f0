"""COCO instances, put together picture by picture and box by box; what is mended or left out is noted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from edge.labelled.objects.files import Files
from edge.labelled.objects.header import picture_wh

BROKEN = "boxes that are not finite numbers, left out"
EMPTY = "boxes without area, left out"
OUTSIDE = "boxes wholly outside the picture, left out"
CLIPPED = "boxes partly outside the picture, clipped"
UNKNOWN = "boxes of a class that is not listed, left out"
LINES = "lines of labels that are not understood, left out"
LABELS = "files of labels that cannot be read, their pictures left out"
UNREADABLE = "pictures that cannot be read, left out"
MISSING = "pictures that are not there, left out"
STRAY = "boxes of pictures that are not listed, left out"
TWICE = "pictures that are listed twice, once left out"
UNSIZED = "pictures without a size in the annotations, read from the files"

_SHOWN = 3
_MAX_SIDE = 1 << 20
_ROUNDING_PX = 1.0
"""Pixels that a box may stick out before it is a fault: annotation programs round."""


class Truth:
    """The labels of one split as COCO instances."""

    def __init__(self, categories: Iterable[tuple[int, str]]) -> None:
        """Begin.

        Args:
            categories: Id and name of each class.
        """
        # Half a surrogate pair, which JSON can hold, could not be printed.
        self._names = {number: name.encode("utf-8", "replace").decode() for number, name in categories}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._notes: dict[str, list[str]] = {}

    def note(self, kind: str, where: str) -> None:
        """Note that something was mended or left out."""
        self._notes.setdefault(kind, []).append(where)

    def image(self, file_name: str, wh: tuple[int, int], more: dict[str, Any] | None = None) -> dict[str, Any]:
        """Add a picture; its id is the next number where `more` has none."""
        row = {"id": len(self._images) + 1, **(more or {}), "file_name": file_name, "width": wh[0], "height": wh[1]}
        self._images.append(row)
        return row

    def box(
        self, image: dict[str, Any], category_id: int, xyxy: Sequence[float], where: str, crowd: bool = False,
        area: float | None = None,
    ) -> None:  # fmt: skip
        """Add a box, cut to its picture.

        Args:
            image: What `image` returned.
            category_id: Its class.
            xyxy: Two corners, in pixels.
            where: What to call it in a note.
            crowd: Whether it is left open what is there.
            area: In square pixels, where it is not that of the box.
        """
        if category_id not in self._names:
            return self.note(UNKNOWN, where)
        if not all(map(math.isfinite, xyxy)):
            return self.note(BROKEN, where)
        width, height = image["width"], image["height"]
        if xyxy[2] <= xyxy[0] or xyxy[3] <= xyxy[1]:
            return self.note(EMPTY, where)
        x1, y1, x2, y2 = max(xyxy[0], 0.0), max(xyxy[1], 0.0), min(xyxy[2], width), min(xyxy[3], height)
        if x2 <= x1 or y2 <= y1:
            return self.note(OUTSIDE, where)
        if max(x1 - xyxy[0], y1 - xyxy[1], xyxy[2] - x2, xyxy[3] - y2) > _ROUNDING_PX:
            self.note(CLIPPED, where)
        whole = [x1, y1, x2, y2] == list(xyxy)
        self._annotations.append(
            {
                "id": len(self._annotations) + 1,
                "image_id": image["id"],
                "category_id": category_id,
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "area": float(area if whole and area is not None else (x2 - x1) * (y2 - y1)),
                "iscrowd": int(crowd),
            }
        )

    def dataset(self) -> dict[str, Any]:
        """Return COCO instances."""
        categories = [{"id": number, "name": name} for number, name in self._names.items()]
        return {"images": self._images, "annotations": self._annotations, "categories": categories}

    def notes(self) -> tuple[str, ...]:
        """Return the notes in words, one a kind."""
        return tuple(
            f"{kind}: {len(places)} ({', '.join(places[:_SHOWN])}{', ...' if len(places) > _SHOWN else ''})"
            for kind, places in self._notes.items()
        )


def given_wh(width: Any, height: Any) -> tuple[int, int] | None:
    """Return a size that annotations give; None where it is no size."""
    if all(isinstance(side, int) and 0 < side < _MAX_SIDE for side in (width, height)):
        return width, height
    return None


def measured_wh(files: Files, name: str, truth: Truth) -> tuple[int, int] | None:
    """Return the size of a picture whose annotations give none; None, noted, where it is not readable."""
    found = picture_wh(files, name)
    truth.note(UNREADABLE if found is None else UNSIZED, name)
    return found
