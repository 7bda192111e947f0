"""How good a network is on one split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """A measured split.

    Attributes:
        class_id: Predicted class of each picture, (n,).
        confidence: Its probability, (n,).
        confusion: Counts (C, C), true class by predicted class.
        numbers: "loss" (cross-entropy) and "accuracy"; of a localiser also "iou" (mean) and "both", the share of
            pictures with the right class and an IoU of 0.5 or more.
        losses: Cross-entropy of each picture, (n,): what sorts the mistakes.
        boxes: Predicted boxes (n, 4) as fractions of the input, of a localiser.
    """

    class_id: npt.NDArray[np.int64]
    confidence: Float
    confusion: npt.NDArray[np.int64]
    numbers: dict[str, float]
    losses: Float
    boxes: Float | None = None

    @property
    def selection(self) -> float:
        """What the best epoch is chosen by: accuracy, of a localiser the mean of accuracy and IoU.

        Where validation is perfect or tied, the lower loss decides.
        """
        main = self.numbers["accuracy"]
        if "iou" in self.numbers:
            main = (main + self.numbers["iou"]) / 2
        return main - 1e-4 * min(self.numbers["loss"], 10.0)


def measure(
    scores: Float, boxes: Float | None, class_id: npt.NDArray[np.int64], truth_xyxy: Float | None = None
) -> Scores:
    """Compare predictions with the truth.

    Args:
        scores: Probabilities (n, C).
        boxes: Boxes (n, 4), x1, y1, x2, y2, or None.
        class_id: True classes (n,).
        truth_xyxy: True boxes (n, 4) in the same units.
    """
    predicted = scores.argmax(axis=1)
    losses = -np.log(np.maximum(scores[np.arange(len(scores)), class_id], 1e-12))
    confusion = np.zeros((scores.shape[1], scores.shape[1]), np.int64)
    np.add.at(confusion, (class_id, predicted), 1)
    numbers = {"loss": float(losses.mean()), "accuracy": float((predicted == class_id).mean())}
    if boxes is not None and truth_xyxy is not None:
        overlap = iou(boxes, truth_xyxy)
        numbers["iou"] = float(overlap.mean())
        numbers["both"] = float(((predicted == class_id) & (overlap >= 0.5)).mean())
    return Scores(predicted, scores.max(axis=1), confusion, numbers, losses, boxes)


def iou(a: Float, b: Float) -> Float:
    """Intersection over union of boxes (n, 4), x1, y1, x2, y2, row by row; 0 where both are empty."""
    size = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    shared = size.prod(axis=1)
    areas = [np.maximum(x[:, 2:] - x[:, :2], 0).prod(axis=1) for x in (a, b)]
    union = areas[0] + areas[1] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float32)
