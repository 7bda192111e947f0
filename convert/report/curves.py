"""Precision over recall, from the boxes that a detector found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from convert.gate_data import Boxes
from edge.coco import canonical
from edge.detections import Detections
from edge.geometry import iou_matrix
from edge.labelled.coco import load_instances

_IOU = 0.5
_RECALLS = np.linspace(0, 1, 101)

Float32 = npt.NDArray[np.float32]


def precision_at_recalls(answers: Sequence[Detections], labels: Boxes, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the mean over classes of the precision at 101 recalls, as COCO's evaluation defines it at IoU 0.5.

    Args:
        answers: Boxes of each picture.
        labels: The true ones.
        names: Class names of the model.

    Returns:
        float64 (101,); its mean is mAP50.
    """
    dataset = load_instances(labels.annotations)
    categories = {canonical(row["name"]): row["id"] for row in dataset["categories"]}
    true: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
    crowds: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
    for row in dataset["annotations"]:
        x, y, width, height = row["bbox"]
        kind = crowds if row["iscrowd"] else true
        kind[row["category_id"], row["image_id"]].append([x, y, x + width, y + height])
    # Where scores are equal, as those of integer models often are, COCO's order of pictures decides: by id.
    ordered = sorted(zip(labels.image_ids, answers, strict=True), key=lambda pair: pair[0])
    curves = []
    for class_id, name in enumerate(names):
        category = categories.get(canonical(name))
        boxes = {image: _boxes(true, category, image) for image in labels.image_ids}
        count = sum(map(len, boxes.values()))
        if count:
            hits = [
                _hits(answer[answer.class_id == class_id], boxes[image], _boxes(crowds, category, image))
                for image, answer in ordered
            ]
            curves.append(_curve(np.concatenate(hits), count))
    mean: npt.NDArray[np.float64] = np.mean(curves, axis=0)
    return mean


def _boxes(of: dict[tuple[int, int], list[list[float]]], category: int | None, image: int) -> Float32:
    rows = of.get((category, image), []) if category is not None else []
    return np.array(rows, np.float32).reshape(-1, 4)


def _hits(found: Detections, truth: Float32, crowds: Float32) -> npt.NDArray[np.float64]:
    """Return (n, 2): score, and 1 for a hit or 0 for a miss, of the boxes of one class in one picture.

    A box in a crowd is neither: it is left out.
    """
    overlap = iou_matrix(found.xyxy, truth)
    rows = []
    for i, score in enumerate(found.score):
        best = int(overlap[i].argmax()) if len(truth) else -1
        hit = best >= 0 and overlap[i, best] >= _IOU
        if hit:
            overlap[:, best] = 0
        elif _inside(found.xyxy[i], crowds) >= _IOU:
            continue
        rows.append((score, hit))
    return np.array(rows, np.float64).reshape(-1, 2)


def _inside(box: Float32, crowds: Float32) -> float:
    """Return the largest share of a box that lies in one of the crowds."""
    low, high = np.maximum(box[:2], crowds[:, :2]), np.minimum(box[2:], crowds[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    return float(shared.max(initial=0.0) / max(np.prod(box[2:] - box[:2]), 1e-9))


def _curve(hits: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    hit = hits[np.argsort(-hits[:, 0], kind="stable"), 1]
    right = np.cumsum(hit)
    recall, precision = right / count, right / np.arange(1, len(hit) + 1)
    # The best precision at this recall or beyond.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, _RECALLS, side="left")
    return np.append(precision, 0.0)[at]
