"""Average precision of a detector on labelled pictures, with pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edge.geometry import nms
from models.detection.data import Part, Pool
from models.detection.deployed import Deployed


def detect(
    network: Deployed, part: Part, batch_size: int = 16, confidence: float = 0.003, iou: float = 0.65
) -> list[dict[str, Any]]:
    """Run a detector over a part and return COCO results in pixels of the original images.

    Args:
        network: The detector.
        part: The data.
        batch_size: Images per call.
        confidence: Lowest score kept.
        iou: Overlap above which the lower-scored of two boxes of a class is dropped.
    """
    results = []
    records = part.truth["images"]
    for start in range(0, len(part), batch_size):
        found = network(part.images[start : start + batch_size], confidence)
        for index, (boxes, scores, labels) in enumerate(found, start):
            # A net at its start answers everywhere; the best thousand are plenty for 100 detections.
            best = np.argsort(-scores, kind="stable")[:1000]
            kept = best[nms(boxes[best], scores[best], labels[best], iou, max_det=100)]
            for box, score, label in zip(
                part.transforms[index].to_source(boxes[kept]).tolist(), scores[kept], labels[kept], strict=True
            ):
                results.append(
                    {
                        "image_id": records[index]["id"],
                        "category_id": int(label) + 1,
                        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                        "score": float(score),
                    }
                )
    return results


def average_precision(part: Part, labels: Sequence[str], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Score COCO results against a part.

    Returns:
        ``ap50`` and ``ap`` (0.50:0.95), each 0..1, ``per_class`` mapping a label to its ``[ap50, ap]``, and ``boxes``,
        the number of labelled objects of each such class; a class without any is left out.
    """
    boxes = Counter(labels[row["category_id"] - 1] for row in part.truth["annotations"] if not row["iscrowd"])
    shown = [label for label in labels if boxes[label]]
    per_class = {label: [0.0, 0.0] for label in shown}
    if results and shown:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            truth = COCO()
            truth.dataset = {"info": {}, **part.truth}
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, 2]  # (IoU, recall, class), all areas, 100 detections
        for label in shown:
            values = precision[:, :, labels.index(label)].clip(0.0)
            per_class[label] = [float(values[0].mean()), float(values.mean())]
    ap50, ap = np.mean(list(per_class.values()) or [[0.0, 0.0]], axis=0)
    return {
        "ap50": float(ap50),
        "ap": float(ap),
        "per_class": per_class,
        "boxes": {label: boxes[label] for label in shown},
        "images": len(part),
    }


def measure(network: Deployed, pool: Pool) -> dict[str, Any]:
    """Score a detector on every part of a pool.

    Returns:
        ``ap50`` and ``ap``, the means over the parts, and ``parts``: by name what `average_precision` gives.
    """
    parts = {part.name: average_precision(part, pool.labels, detect(network, part)) for part in pool.parts}
    ap50, ap = (float(np.mean([scores[key] for scores in parts.values()])) for key in ("ap50", "ap"))
    return {"ap50": ap50, "ap": ap, "parts": parts}
