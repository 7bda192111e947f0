"""Image classifiers: one score a class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from edge.decoders.base import Outputs
from edge.decoders.tools import Float32, check_labels, output, params, quiet, sigmoid, softmax
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
            raise SpecError(
                f"decoder {spec.decoder.name}: output {self._info.name!r}: expected shape (1, classes), found "
                f"{self._info.shape}"
            )
        if self._classes == 1 and self._activation == "softmax":
            raise SpecError(f"decoder {spec.decoder.name}: activation: a softmax of one score is 1, expected sigmoid")
        self._pair = self._classes == 1 and len(spec.labels) == 2
        check_labels(spec, 2 if self._pair else self._classes)

    def __call__(self, outputs: Outputs) -> Float32:
        """Return the probability of each class, float32 (C,); one that is no number counts as 0."""
        # A copy: the runtime's memory must not be kept.
        scores = self._info.dequantize(outputs[self._info.name]).reshape(-1).copy()
        activation = self._activation
        with quiet():
            if activation == "auto":
                activation = _activation(scores)
            if activation == "softmax":
                scores = softmax(scores)
            elif activation == "sigmoid":
                scores = sigmoid(scores)
        if self._pair:
            scores = np.concatenate([1 - scores, scores])
        return np.nan_to_num(scores, copy=False, nan=0.0)


def _activation(scores: Float32) -> Activation:
    if len(scores) == 1:
        return "none" if 0 <= scores[0] <= 1 else "sigmoid"
    return "none" if scores.min() >= 0 and abs(float(scores.sum()) - 1) < 0.1 else "softmax"
