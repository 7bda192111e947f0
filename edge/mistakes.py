"""The pictures in which a detector is most wrong, on one sheet."""

from __future__ import annotations

import heapq
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.detections import Detections
from edge.draw import Color
from edge.frame import Frame, Image
from edge.geometry import iou_matrix
from edge.result import Result
from edge.sinks.sheet import FRAMES, SheetSink

MATCH_IOU = 0.5
"""The overlap from which a detection is taken for a labelled box of its class."""

_KINDS = ("missed {}", "wrong {}", "{}")
_COLORS: tuple[Color, ...] = ((60, 60, 255), (0, 190, 255), (120, 200, 60))
"""Red, amber and, for what was found, green."""


class Mistakes:
    """Collects the pictures with most mistakes: labelled boxes that it missed (red), detections of nothing (amber)."""

    def __init__(self, path: Path, labels: tuple[str, ...], conf: float) -> None:
        """Prepare; the sheet is written by `close`.

        Args:
            path: The sheet, with a suffix of a picture.
            labels: Class names by class index.
            conf: Detections with lower scores do not count.

        Raises:
            OutputError: Its folder cannot be created.
        """
        names = [kind.format(label) for label in labels for kind in _KINDS]
        self._sheet = SheetSink(path, names, lambda class_id: _COLORS[class_id % len(_COLORS)])
        self._conf = conf
        self._worst: list[tuple[int, int, Result]] = []
        self._seen = 0

    def look(
        self, name: str, image: Image, found: Detections, truth: Detections, crowds: Detections | None = None
    ) -> None:
        """Compare one picture.

        Args:
            name: What stands below it on the sheet.
            image: uint8 (H, W, 3), BGR.
            found: What the detector gives; boxes in pixels.
            truth: What is labelled; its scores do not matter.
            crowds: Where it is left open how many objects of a class there are; what is found there is no mistake.
        """
        found = found[found.score >= self._conf]
        missed, wrong = unmatched(found, truth)
        if crowds is not None and len(crowds):
            unknown = wrong & in_crowds(found, crowds)
            found, wrong = found[~unknown], wrong[~unknown]
        number = int(missed.sum() + wrong.sum())
        self._seen += 1
        if not number or (len(self._worst) == FRAMES and number <= self._worst[0][0]):
            return
        boxes = Detections(
            np.concatenate((truth.xyxy[missed], found.xyxy)),
            np.concatenate((np.full(missed.sum(), np.nan, np.float32), found.score)),
            np.concatenate((truth.class_id[missed] * 3, found.class_id * 3 + np.where(wrong, 1, 2))).astype(np.int32),
        )
        frame = Frame(image, self._seen, name, 0.0, time.monotonic(), time.time(), still=True)
        # Of equally bad ones the first stays; a result is never compared.
        entry = (number, -self._seen, Result(frame, boxes, {}))
        (heapq.heappushpop if len(self._worst) == FRAMES else heapq.heappush)(self._worst, entry)

    def close(self) -> list[Path]:
        """Write the sheet, the worst picture first; returns its path, or nothing where there was no mistake.

        Raises:
            OutputError: It cannot be written.
        """
        for _, _, result in sorted(self._worst, key=lambda entry: entry[:2], reverse=True):
            self._sheet.write(result)
        self._sheet.close()
        return self._sheet.outputs


def unmatched(found: Detections, truth: Detections) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which labelled boxes no detection has, and which detections have no labelled box.

    The detection with the best score takes the box of its class that it overlaps most, if by `MATCH_IOU`; each box is
    taken once.

    Args:
        found: Best score first.
        truth: The labelled boxes.
    """
    missed, wrong = np.ones(len(truth), bool), np.ones(len(found), bool)
    if len(truth) and len(found):
        overlap = iou_matrix(found.xyxy, truth.xyxy) * (found.class_id[:, None] == truth.class_id[None])
        for i, row in enumerate(overlap):
            best = int(np.where(missed, row, 0).argmax())
            if missed[best] and row[best] >= MATCH_IOU:
                missed[best] = wrong[i] = False
    return missed, wrong


def in_crowds(found: Detections, crowds: Detections) -> npt.NDArray[np.bool_]:
    """Return which detections lie by half of their area or more in a crowd of their class, as COCO's evaluation asks.

    Args:
        found: The detections.
        crowds: At least one.
    """
    corner = np.maximum(found.xyxy[:, None, :2], crowds.xyxy[None, :, :2])
    sides = (np.minimum(found.xyxy[:, None, 2:], crowds.xyxy[None, :, 2:]) - corner).clip(0)
    area = (found.xyxy[:, 2:] - found.xyxy[:, :2]).prod(axis=1)
    inside = sides.prod(axis=2) >= 0.5 * area[:, None]
    within: npt.NDArray[np.bool_] = (inside & (found.class_id[:, None] == crowds.class_id[None])).any(axis=1)
    return within
