"""What a report says, apart from how it was measured and how it looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convert.quant_error import TensorError
from convert.rescue import Trial
from edge.spec import GateRecord, ModelSpec


@dataclass(frozen=True)
class Variant:
    """The model in one mode.

    Attributes:
        name: The mode, "repaired" where it was.
        size_bytes: Of the file, description included.
        ms: Median milliseconds of an inference.
        metrics: Every metric, 0..1; the judged one first.
        drop: Points of the judged metric lost against float32.
        passed: Whether that is allowed.
        chosen: Whether this is the one that was asked for.
    """

    name: str
    size_bytes: int
    ms: float
    metrics: dict[str, float]
    drop: float
    passed: bool
    chosen: bool

    @property
    def value(self) -> float:
        """The judged metric."""
        return next(iter(self.metrics.values()))


@dataclass(frozen=True)
class ClassPair:
    """Accuracy on one class.

    Attributes:
        label: Its name.
        count: Labelled boxes or pictures of it.
        reference: Of the float model, 0..1.
        value: Of the converted one.
    """

    label: str
    count: int
    reference: float
    value: float


@dataclass(frozen=True)
class Curves:
    """Precision at 101 recalls 0, 0.01 ... 1, mean over classes, IoU 0.5; the area below one is mAP50.

    Attributes:
        reference: float64 (101,), of the float model.
        value: float64 (101,), of the converted one.
    """

    reference: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Confused:
    """A mistake that a classifier makes more, or less, often than the float model.

    Attributes:
        true: The class that it is.
        predicted: The class that it was called.
        reference: How often by the float model.
        value: How often by the converted one.
    """

    true: str
    predicted: str
    reference: int
    value: int


@dataclass(frozen=True)
class Picture:
    """A picture with what a model says to it.

    Attributes:
        data: A JPEG or PNG file.
        mime: "image/jpeg" or "image/png".
        width: In pixels.
        caption: Lines below it.
    """

    data: bytes
    mime: str
    width: int
    caption: tuple[str, ...]


@dataclass(frozen=True)
class ReportData:
    """Everything that a report says.

    Attributes:
        spec: What the converted file says about itself.
        gate: The verdict on it.
        passed: Whether it was accepted.
        size_wh: Its input in pixels.
        runtime: What ran it: "LiteRT 2.3.0, CPU, 2 threads".
        machine: Where.
        variants: The model in every mode that was measured, float32 first.
        classes: Accuracy per class; empty without labels.
        class_metric: What that accuracy is called.
        curves: None for a classifier, and without labels.
        confused: Of a classifier: what changed, the largest change first.
        changed: Pictures on which both models differ.
        examples: Some of those, the most different first; each is one picture, or that of float and that of the
            converted model.
        tried: Repairs that were tried, in order.
        left_out: A line for each mode that was not measured.
        layers: Tensors before any repair, the one at which most was lost first; empty where activations are float.
    """

    spec: ModelSpec
    gate: GateRecord
    passed: bool
    size_wh: tuple[int, int]
    runtime: str
    machine: str
    variants: tuple[Variant, ...]
    classes: tuple[ClassPair, ...]
    class_metric: str
    curves: Curves | None
    confused: tuple[Confused, ...]
    changed: int
    examples: tuple[tuple[Picture, ...], ...]
    tried: tuple[Trial, ...] = ()
    left_out: tuple[str, ...] = ()
    layers: tuple[TensorError, ...] = ()

    @property
    def chosen(self) -> Variant:
        """The one that was asked for."""
        return next(variant for variant in self.variants if variant.chosen)
