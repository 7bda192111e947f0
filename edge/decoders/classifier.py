"""Image classifiers: one score a class, and localisers: a box besides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from edge.decoders.base import Classes, Outputs
from edge.decoders.tools import Float32, check_labels, output, params, quiet, shape_error, sigmoid, softmax
from edge.errors import SpecError
from edge.spec import ModelSpec
from edge.spec.model import Record
from edge.tensor import TensorInfo

Activation = Literal["auto", "none", "softmax", "sigmoid"]


class ClassifierParams(Record):
    """Parameters.

    Attributes:
        activation: What makes probabilities of the scores: "none" when they are that already; "auto" takes a softmax
            unless the scores are one already (none negative, sum 1 within a tenth). Of a lone score, "auto" takes a
            sigmoid unless it lies in 0..1.
    """

    activation: Activation = "none"


class Classifier:
    """Turns role `scores`, (1, C) or any shape of C values, into probabilities.

    One value with two labels is the probability of the second, as Keras trains two classes.
    """

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the output's shape.

        Raises:
            SpecError: It contradicts the spec.
        """
        self._activation = params(ClassifierParams, spec).activation
        self._info = output(spec, infos, "scores", only=True)
        self._classes = math.prod(self._info.shape)
        if self._classes < 1 or self._classes != max(self._info.shape, default=0):
            raise shape_error(spec, self._info, "(1, classes)")
        if self._classes == 1 and self._activation == "softmax":
            raise SpecError(f"decoder {spec.decoder.name}: activation: a softmax of one score is 1, expected sigmoid")
        self._pair = self._classes == 1 and len(spec.labels) == 2
        check_labels(spec, 2 if self._pair else self._classes)

    def __call__(self, outputs: Outputs) -> Classes:
        """Return the probability of each class; one that is no number counts as 0. See `base.Classify`."""
        # A copy: the runtime's memory must not be kept.
        scores = self._info.dequantize(outputs[self._info.name]).reshape(-1, self._classes).copy()
        with quiet():
            if self._activation == "auto":
                scores = _probabilities(scores)
            elif self._activation == "softmax":
                scores = softmax(scores)
            elif self._activation == "sigmoid":
                scores = sigmoid(scores)
        if self._pair:
            scores = np.concatenate([1 - scores, scores], axis=1)
        return Classes(np.nan_to_num(scores, copy=False, nan=0.0), None)


class Localizer:
    """A classifier that also says where: roles `scores` and `box`, (1, 4) or any shape of 4 values.

    The box is x1, y1, x2, y2 as fractions 0..1 of the model's input.
    """

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the outputs' shapes.

        Raises:
            SpecError: They contradict the spec.
        """
        self._classify = Classifier(spec, size_wh, infos)
        self._info = output(spec, infos, "box")
        if math.prod(self._info.shape) != 4 or max(self._info.shape) != 4:
            raise shape_error(spec, self._info, "(1, 4)")
        self._factor = np.array(size_wh * 2, np.float32)

    def __call__(self, outputs: Outputs) -> Classes:
        """Return probabilities and boxes with their corners in order; see `base.Classify`."""
        corner = self._info.dequantize(outputs[self._info.name]).reshape(-1, 2, 2)
        with quiet():
            # A regression may cross its corners where it is unsure: the region between them is what it means.
            ordered = np.concatenate([corner.min(axis=1), corner.max(axis=1)], axis=1)
            return Classes(self._classify(outputs).score, ordered * self._factor)


def _probabilities(scores: Float32) -> Float32:
    """Return scores (n, C) as probabilities, each picture's by what they look like; see `ClassifierParams`."""
    if scores.shape[1] == 1:
        return np.where((scores >= 0) & (scores <= 1), scores, sigmoid(scores))
    are = (scores.min(axis=1) >= 0) & (np.abs(scores.sum(axis=1) - 1) < 0.1)
    return np.where(are[:, None], scores, softmax(scores))
