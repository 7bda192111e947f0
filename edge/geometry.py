"""Geometry: the map between a picture and the model's input, overlap, and suppression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]

MAX_CANDIDATES = 30_000
"""Boxes that enter suppression at most, best first (what Ultralytics uses too): bounds the time of a bad model."""


@dataclass(frozen=True, slots=True)
class Transform:
    """Where the pixels of a picture went in the model's input: `input = source * scale + offset` per axis.

    Coordinates are continuous: 0 is the left edge of the first pixel, the width the right edge of the last.

    Attributes:
        scale_xy: Input pixels per source pixel.
        offset_xy: Input position of the source's top left corner; negative where the picture was cropped.
        source_wh: Size of the source picture in pixels.
    """

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]
    source_wh: tuple[int, int]

    def to_source(self, xyxy: Boxes) -> Boxes:
        """Map boxes from model-input pixels to source pixels and clip them to the picture.

        Args:
            xyxy: float32 (n, 4), x1 y1 x2 y2.

        Returns:
            A new float32 (n, 4).
        """
        scale = np.array(self.scale_xy * 2, np.float32)
        boxes: Boxes = (xyxy - np.array(self.offset_xy * 2, np.float32)) / scale
        np.clip(boxes, 0, np.array(self.source_wh * 2, np.float32), out=boxes)
        return boxes

    def to_input(self, xyxy: Boxes) -> Boxes:
        """Map boxes from source pixels to model-input pixels: the inverse of `to_source` without its clipping."""
        scale = np.array(self.scale_xy * 2, np.float32)
        boxes: Boxes = xyxy * scale + np.array(self.offset_xy * 2, np.float32)
        return boxes


def letterbox(
    source_wh: tuple[int, int], input_wh: tuple[int, int], centered: bool
) -> tuple[Transform, tuple[int, ...]]:
    """Fit a picture into the input with its aspect ratio kept.

    Args:
        source_wh: Picture size in pixels.
        input_wh: Input size in pixels.
        centered: Bars on both sides; else the picture lies in the top left corner.

    Returns:
        The transform, and the region (x, y, width, height) of the input that the picture fills.
    """
    (sw, sh), (iw, ih) = source_wh, input_wh
    ratio = min(iw / sw, ih / sh)
    width, height = max(1, round(sw * ratio)), max(1, round(sh * ratio))
    # An odd bar is one pixel wider at the right and bottom, as in Ultralytics' LetterBox.
    x, y = ((iw - width) // 2, (ih - height) // 2) if centered else (0, 0)
    return Transform((width / sw, height / sh), (x, y), source_wh), (x, y, width, height)


def center_crop(source_wh: tuple[int, int], input_wh: tuple[int, int]) -> tuple[Transform, tuple[int, ...]]:
    """Cut the largest centred region of the input's aspect ratio.

    Returns:
        The transform, and the region (x, y, width, height) of the SOURCE that fills the input.
    """
    (sw, sh), (iw, ih) = source_wh, input_wh
    ratio = max(iw / sw, ih / sh)
    width, height = min(sw, max(1, round(iw / ratio))), min(sh, max(1, round(ih / ratio)))
    x, y = (sw - width) // 2, (sh - height) // 2
    scale = (iw / width, ih / height)
    return Transform(scale, (-x * scale[0], -y * scale[1]), source_wh), (x, y, width, height)


def iou_matrix(a: Boxes, b: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union of each box of `a` with each of `b`.

    Args:
        a: float32 (n, 4), x1 y1 x2 y2.
        b: float32 (m, 4), x1 y1 x2 y2.

    Returns:
        float32 (n, m); 0 where both boxes are empty.
    """
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)
    area_a, area_b = (np.prod(np.clip(x[:, 2:] - x[:, :2], 0, None), axis=1) for x in (a, b))
    union = area_a[:, None] + area_b[None, :] - inter
    result: npt.NDArray[np.float32] = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return result


def nms(
    xyxy: Boxes,
    score: npt.NDArray[np.float32],
    class_id: npt.NDArray[np.int32],
    iou: float,
    max_det: int,
    agnostic: bool = False,
) -> npt.NDArray[np.intp]:
    """Greedy non-maximum suppression.

    The best box is kept, boxes that overlap it by more than `iou` are dropped, and so on. Among equal scores the
    box that came first wins, so the answer is the same every time.

    Args:
        xyxy: float32 (n, 4), x1 y1 x2 y2, any unit.
        score: float32 (n,).
        class_id: int32 (n,).
        iou: Overlap 0..1 above which the weaker box is dropped.
        max_det: Boxes to keep at most.
        agnostic: Compare boxes of different classes too.

    Returns:
        Indices of the boxes that stay, best first.
    """
    order = np.argsort(-score, kind="stable")[:MAX_CANDIDATES]
    if len(order) < 2 or iou >= 1:
        return order[:max_det]
    # OpenCV suppresses in C++ (10 to 40 times faster than NumPy here). It takes x y w h, sorts stably by score and
    # keeps boxes of different classes apart by moving each class to its own place.
    xywh = xyxy[order].astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    ranked = score[order]
    if agnostic:
        kept = cv2.dnn.NMSBoxes(xywh, ranked, 0.0, iou)
    else:
        kept = cv2.dnn.NMSBoxesBatched(xywh, ranked, class_id[order], 0.0, iou)
    # An empty answer is an empty tuple, not an array.
    return order[np.asarray(kept, np.intp).reshape(-1)][:max_det]
