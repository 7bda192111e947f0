"""Average precision of a detector on a COCO split, with pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edge.geometry import nms
from models.detection_data import DetectionSplit
from models.edge_yolo import STRIDES

Candidates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]


def decode(outputs: dict[str, NDArray[np.float32]], confidence: float) -> list[Candidates]:
    """Turn the raw outputs of a batch into candidates per image.

    Args:
        outputs: The six raw tensors described in `models.edge_yolo`, as (B, H/s, W/s, ...) arrays.
        confidence: Lowest score kept; one cell may answer for several classes.

    Returns:
        Per image: boxes xyxy (n, 4) in pixels of the network's input, scores (n,), class indices (n,).
    """
    threshold = np.log(confidence / (1.0 - confidence))
    found: list[list[Candidates]] = [[] for _ in range(len(outputs[f"box_{STRIDES[0]}"]))]
    for stride in STRIDES:
        raw, logits = outputs[f"box_{stride}"], outputs[f"cls_{stride}"]
        for image, (box, cls) in enumerate(zip(raw, logits, strict=True)):
            y, x, label = np.nonzero(cls > threshold)
            distance = np.exp(box[y, x].clip(-10.0, 10.0)) * stride
            centre = (np.stack([x, y], axis=-1) + 0.5).astype(np.float32) * stride
            boxes = np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=-1)
            score = 1.0 / (1.0 + np.exp(-cls[y, x, label]))
            found[image].append((boxes, score, label.astype(np.int32)))
    return [
        (
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
        )
        for parts in found
    ]


def detect(
    predict: Callable[[NDArray[np.float32]], dict[str, Any]],
    split: DetectionSplit,
    batch_size: int = 16,
    confidence: float = 0.003,
    iou: float = 0.65,
) -> list[dict[str, Any]]:
    """Run a detector over a split and return COCO results in pixels of the original images.

    Args:
        predict: Maps float32 RGB images (B, S, S, 3) in 0..1 to the six raw tensors.
        split: The data.
        batch_size: Images per call.
        confidence: Lowest score kept.
        iou: Overlap above which the lower-scored of two boxes of a class is dropped.
    """
    results = []
    records = split.annotations["images"]
    for start in range(0, len(split), batch_size):
        batch = split.images[start : start + batch_size].astype(np.float32) / 255.0
        outputs = {name: np.asarray(value) for name, value in predict(batch).items()}
        for index, (boxes, scores, labels) in enumerate(decode(outputs, confidence), start):
            # A net at its start answers everywhere; the best thousand are plenty for 100 detections.
            best = np.argsort(-scores, kind="stable")[:1000]
            kept = best[nms(boxes[best], scores[best], labels[best], iou, max_det=100)]
            for box, score, label in zip(
                split.transforms[index].to_source(boxes[kept]).tolist(), scores[kept], labels[kept], strict=True
            ):
                results.append(
                    {
                        "image_id": records[index]["id"],
                        "category_id": split.category_ids[int(label)],
                        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                        "score": float(score),
                    }
                )
    return results


def average_precision(split: DetectionSplit, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Score COCO results against a split.

    Returns:
        ``ap50`` and ``ap`` (0.50:0.95), each 0..1, and ``per_class`` mapping a label to its ``[ap50, ap]``; a class
        without any annotation is left out of it.
    """
    if not results:
        return {"ap50": 0.0, "ap": 0.0, "per_class": {label: [0.0, 0.0] for label in split.labels}}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = {"info": {}, **split.annotations}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # (IoU, recall, class), all areas, 100 detections
    per_class = {}
    for index, label in enumerate(split.labels):
        values = precision[:, :, index]
        if (values > -1).any():
            per_class[label] = [float(values[0].mean()), float(values.mean())]
    ap50, ap = np.mean(list(per_class.values()), axis=0)
    return {"ap50": float(ap50), "ap": float(ap), "per_class": per_class}
