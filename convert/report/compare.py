"""Where two models differ: per class, in the curves, in the mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from convert.gate import Measurement
from convert.gate_data import Boxes
from convert.report.curves import precision_at_recalls
from convert.report.data import ClassPair, Confused, Curves
from edge.detections import Detections
from edge.evaluate import ClassificationAccuracy, DetectionAccuracy, LocalizationAccuracy
from edge.spec import ModelSpec

_MOST_CONFUSED = 12


def compare_classes(reference: Measurement, measured: Measurement) -> tuple[str, tuple[ClassPair, ...]]:
    """Return what the accuracy per class is called, and it, the largest loss first."""
    pairs: list[ClassPair] = []
    name = ""
    one, other = reference.detail, measured.detail
    if isinstance(one, DetectionAccuracy) and isinstance(other, DetectionAccuracy):
        name = "AP50-95"
        both = zip(one.classes, other.classes, strict=True)
        pairs = [ClassPair(a.label, a.boxes, a.map50_95, b.map50_95) for a, b in both if a.boxes]
    elif isinstance(one, LocalizationAccuracy) and isinstance(other, LocalizationAccuracy):
        name = "located"
        pairs = [
            ClassPair(a.label, a.images, a.located, b.located) for a, b in zip(one.classes, other.classes, strict=True)
        ]
    elif isinstance(one, ClassificationAccuracy) and isinstance(other, ClassificationAccuracy):
        name = "recall"
        for i, label in enumerate(one.labels):
            count = int(one.confusion[i].sum())
            right = one.confusion[i, i] / count, other.confusion[i, i] / count
            pairs.append(ClassPair(label, count, float(right[0]), float(right[1])))
    return name, tuple(sorted(pairs, key=lambda pair: pair.value - pair.reference))


def compare_curves(reference: Measurement, measured: Measurement, labels: Boxes, spec: ModelSpec) -> Curves:
    """Return both models' precision over recall."""
    one, other = (
        precision_at_recalls(cast("Sequence[Detections]", m.answers), labels, spec.labels)
        for m in (reference, measured)
    )
    return Curves(one, other)


def compare_mistakes(reference: Measurement, measured: Measurement) -> tuple[Confused, ...]:
    """Return the mistakes of a classifier whose number changed, the largest change first."""
    one, other = reference.detail, measured.detail
    if not isinstance(one, ClassificationAccuracy) or not isinstance(other, ClassificationAccuracy):
        return ()
    change = np.abs(other.confusion - one.confusion)
    np.fill_diagonal(change, 0)
    names = (*one.labels, "another class")
    found = []
    for at in np.argsort(-change, axis=None, kind="stable")[:_MOST_CONFUSED]:
        true, predicted = np.unravel_index(at, change.shape)
        if change[true, predicted]:
            counts = int(one.confusion[true, predicted]), int(other.confusion[true, predicted])
            found.append(Confused(names[true], names[predicted], *counts))
    return tuple(found)
