"""What another detector found in the pictures of a set, as ``edge detect --json`` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from edge.errors import InputError
from edge.geometry import nms

SURE = 0.5
"""Score from which a find is taken for an object; below, the place is left open."""

_OVERLAP = 0.5


class Finds:
    """Finds by picture."""

    def __init__(self, found: dict[str, list[tuple[int, float, tuple[float, float, float, float]]]]) -> None:
        """Hold (class index, score, xyxy) rows by the name of the picture."""
        self._found = found

    def of(self, file_name: str) -> Iterator[tuple[int, tuple[float, float, float, float], bool]]:
        """Give class index, box (x, y, width, height) and whether it is doubtful, for each find in a picture."""
        rows = self._found.get(PurePosixPath(file_name).name, [])
        if not rows:
            return
        boxes = np.array([box for _, _, box in rows], np.float32)
        scores = np.array([score for _, score, _ in rows], np.float32)
        classes = np.array([class_id for class_id, _, _ in rows], np.int32)
        for i in nms(boxes, scores, classes, _OVERLAP, len(rows)):
            x1, y1, x2, y2 = (float(value) for value in boxes[i])
            yield int(classes[i]), (x1, y1, x2 - x1, y2 - y1), bool(scores[i] < SURE)


def read_finds(files: Sequence[Path], classes: Sequence[str], labels: Sequence[str]) -> Finds | None:
    """Read the finds of some classes from files of ``edge detect --json``; None without files.

    Pictures are matched by their file names without folders.

    Raises:
        InputError: A file cannot be read or holds something else.
    """
    if not files:
        return None
    index = {name: labels.index(name) for name in classes}
    found: dict[str, list[tuple[int, float, tuple[float, float, float, float]]]] = {}
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from error
        for number, line in enumerate(lines, 1):
            try:
                picture = json.loads(line)
                rows = found.setdefault(PurePosixPath(picture["source"]).name, [])
                for find in picture["detections"]:
                    if find["name"] in index:
                        box = tuple(float(find["box"][side]) for side in ("x1", "y1", "x2", "y2"))
                        rows.append((index[find["name"]], float(find["confidence"]), box))  # type: ignore[arg-type]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}, line {number}: expected a line of edge detect --json ({error!r})") from error
    return Finds(found)
