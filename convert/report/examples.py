"""Pictures on which two models differ."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from convert.gate import Answer, Gate, Measurement, picture_agreement
from convert.report.data import Picture
from edge.detections import Detections
from edge.draw import Painter
from edge.frame import Image
from edge.labelled import LabelledPictures
from edge.result import Classification
from edge.spec import ModelSpec

_MOST = 6
_SIDE = 480
"""Pixels of the longer side of an example at most."""

_SMALL = 96
"""Pixels of the longer side up to which a picture is kept without losses."""

_QUALITY = 82


def examples(gate: Gate, measured: Measurement, spec: ModelSpec) -> tuple[int, tuple[tuple[Picture, ...], ...]]:
    """Compare what both models say to each picture.

    Args:
        gate: Holds the pictures and the answers of the float model.
        measured: The converted model's answers.
        spec: What the converted file says.

    Returns:
        How many pictures they differ on, and the most different ones: boxes of float and of the converted model side by
        side, or one picture with what both call it.
    """
    pairs = [
        (_shown(one, spec.conf), _shown(other, spec.conf))
        for one, other in zip(gate.reference.answers, measured.answers, strict=True)
    ]
    same = np.array([picture_agreement(one, other) for one, other in pairs])
    seen = np.array([_weight(one, other) for one, other in pairs])
    # Among equally different pictures first those with more to see.
    order = [int(i) for i in np.lexsort((-seen, same)) if same[i] < 1]
    names = ("float32", spec.quantization or "converted")
    painter = Painter(spec.labels)
    shown = []
    for i in order[:_MOST]:
        image, pair = gate.data.read(i), pairs[i]
        if isinstance(pair[0], Detections) or pair[0].box_xyxy is not None:
            truth = _truth(gate, i)
            both = zip(pair, names, strict=True)
            shown.append(tuple(_drawn(image, answer, painter, (name, *truth)) for answer, name in both))
        else:
            said = [f"{name}: {_best(answer, spec)}" for answer, name in zip(pair, names, strict=True)]
            shown.append((_encoded(_fitted(image)[0], (*_truth(gate, i), *said)),))
    return len(order), tuple(shown)


def _shown(answer: Answer, conf: float) -> Answer:
    """Return what a user would see of an answer."""
    return answer[answer.score >= conf] if isinstance(answer, Detections) else answer


def _weight(one: Answer, other: Answer) -> float:
    """Return how much two answers give to see: boxes, or how sure both were."""
    if isinstance(one, Detections) and isinstance(other, Detections):
        return len(one) + len(other)
    assert isinstance(one, Classification) and isinstance(other, Classification)
    return one.score[0] + other.score[0]


def _truth(gate: Gate, i: int) -> tuple[str, ...]:
    labels = gate.data.labels
    return (f"true: {labels.names[labels.class_id[i]]}",) if isinstance(labels, LabelledPictures) else ()


def _best(answer: Any, spec: ModelSpec) -> str:
    return f"{spec.label(answer.class_id[0])} {answer.score[0]:.2f}"


def _drawn(image: Image, answer: Answer, painter: Painter, caption: tuple[str, ...]) -> Picture:
    image, scale = _fitted(image)
    image = image.copy()
    if isinstance(answer, Detections):
        painter.draw(image, Detections(answer.xyxy * np.float32(scale), answer.score, answer.class_id))
        return _encoded(image, (f"{caption[0]}: {len(answer)} box{'es' * (len(answer) != 1)}",))
    box = answer.box_xyxy
    x1, y1, x2, y2 = (side * scale for side in box or (0, 0, 0, 0))
    painter.draw_classes(image, Classification(answer.class_id[:1], answer.score[:1], box and (x1, y1, x2, y2)))
    return _encoded(image, caption)


def _fitted(image: Image) -> tuple[Image, float]:
    """Return a picture that is no larger than an example may be, and its scale."""
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return (image if scale == 1 else np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)), scale


def _encoded(image: Image, caption: tuple[str, ...]) -> Picture:
    small = max(image.shape[:2]) <= _SMALL
    kind, options = (".png", []) if small else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    _, data = cv2.imencode(kind, image, options)
    return Picture(data.tobytes(), "image/png" if small else "image/jpeg", image.shape[1], caption)
