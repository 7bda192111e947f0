"""What the decoders share: looking outputs up, thresholds in a tensor's own values, the last step of each."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge.decoders.base import Candidates
from edge.errors import SpecError
from edge.spec import ModelSpec
from edge.spec.model import Record
from edge.spec.validate import Model, validated
from edge.tensor import TensorInfo

log = logging.getLogger(__name__)

Float32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]
Unit = Literal["auto", "normalized", "pixels"]

NOTHING = Candidates(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))

MAX_LEVELS = 16
"""Grids that a head may have; bounds what a hostile description can make a decoder lay out."""

_FARTHEST = 1.25
"""No centre of a box in 0..1 lies beyond: anchor cells of the last row may overhang the input by a little."""

_SATURATED = 16.0
"""A logit whose float32 sigmoid is 1 to within one step: the bound for a threshold of 1."""


def params(model: type[Model], spec: ModelSpec) -> Model:
    """Return the decoder's parameters, checked.

    Raises:
        SpecError: A parameter is unknown, missing or wrong.
    """
    return validated(model, spec.decoder.params, f"decoder {spec.decoder.name}, params")


def output(spec: ModelSpec, infos: Mapping[str, TensorInfo], role: str, only: bool = False) -> TensorInfo:
    """Look up the tensor that plays a role.

    Args:
        spec: Names the tensor of each role.
        infos: The model's outputs by name.
        role: The decoder's name for it.
        only: The decoder has one role, so that a model with one output need not name it.

    Raises:
        SpecError: The role is not named, or the model has no such output.
    """
    decoder = spec.decoder
    if only and not decoder.outputs and len(infos) == 1:
        return next(iter(infos.values()))
    has = ", ".join(f"{info.name} {info.shape}" for info in infos.values())
    if role not in decoder.outputs:
        raise SpecError(
            f"decoder {decoder.name}: expected outputs to name the tensor of {role!r}, found "
            f"{', '.join(map(repr, decoder.outputs)) or 'no roles'}; the model has {has}"
        )
    name = decoder.outputs[role]
    if name not in infos:
        raise SpecError(f"decoder {decoder.name}: {role!r} is the tensor {name!r}, which is none of the outputs: {has}")
    return infos[name]


def shape_error(spec: ModelSpec, info: TensorInfo, expected: str) -> SpecError:
    """Return the error for an output whose shape contradicts the spec."""
    return SpecError(
        f"decoder {spec.decoder.name}: output {info.name!r}: expected shape {expected}, found {info.shape}"
    )


def check_labels(spec: ModelSpec, classes: int) -> None:
    """Compare the labels with the classes that the outputs have room for; no labels at all fit everything.

    Raises:
        SpecError: The numbers differ.
    """
    if classes < 1:
        raise SpecError(f"decoder {spec.decoder.name}: the outputs have room for {classes} classes, expected 1 or more")
    if spec.labels and len(spec.labels) != classes:
        raise SpecError(
            f"decoder {spec.decoder.name}: the model has {classes} classes, the labels name {len(spec.labels)}; "
            "give the list that belongs to the model with --labels"
        )


def passes(values: npt.NDArray[Any], info: TensorInfo, real: float) -> npt.NDArray[np.bool_]:
    """Return where `dequantize(values) >= real`, comparing in the tensor's own type."""
    if not info.quantized:
        result: npt.NDArray[np.bool_] = values >= real
        return result
    least = _least(info, real)
    limits = np.iinfo(info.dtype)
    if least > limits.max:
        return np.zeros(values.shape, np.bool_)
    result = values >= max(least, int(limits.min))
    return result


@lru_cache(maxsize=64)
def _least(info: TensorInfo, real: float) -> int:
    """Return the smallest integer that passes, exactly as dequantising in float32 and comparing would have it."""
    limits = np.iinfo(info.dtype)
    below, above = int(limits.min), int(limits.max) + 1
    if not math.isfinite(real):
        return above if real > 0 else below
    start = min(max(int(info.threshold(real)), below), above)
    # The rounded formula is at most a step off where a level meets the threshold.
    levels = np.arange(max(start - 2, below), min(start + 2, above))
    passing = levels[info.dequantize(levels) >= np.float32(real)]
    return int(passing[0]) if len(passing) else min(start + 2, above)


def rows_of(hit: npt.NDArray[np.bool_]) -> Index:
    """Return the rows of a mask (n, C) that have a hit, ascending.

    Comparing everything and counting the few hits is several times faster than a maximum over a short last axis.
    """
    row: Index = np.flatnonzero(hit) // hit.shape[-1]
    # numpy.unique does the same and imports numpy.ma, 20 ms before the first picture.
    first = np.ones(len(row), np.bool_)
    np.not_equal(row[1:], row[:-1], out=first[1:])
    return row[first]


def largest(info: TensorInfo) -> float:
    """Return the largest real value that the tensor can hold; 1 for a float tensor of probabilities."""
    if not info.quantized:
        return 1.0
    return (int(np.iinfo(info.dtype).max) - info.zero_point) * info.scale


def logit(probability: float) -> float:
    """Return the logit from which on a sigmoid reaches `probability`, a hair low so that rounding loses nothing."""
    if probability <= 0:
        return -math.inf
    if probability >= 1:
        return _SATURATED
    return min(math.log(probability / (1 - probability)), _SATURATED) - 1e-4


def sigmoid(x: Float32) -> Float32:
    """Return 1 / (1 + exp(-x)); a new array. The caller silences overflow, which gives the right 0."""
    result = np.negative(x)
    np.exp(result, out=result)
    result += 1
    np.reciprocal(result, out=result)
    return result


def softmax(x: Float32) -> Float32:
    """Return the softmax over the last axis; a new array."""
    result: Float32 = np.exp(x - x.max(axis=-1, keepdims=True))
    result /= result.sum(axis=-1, keepdims=True)
    return result


def quiet() -> np.errstate:
    """Silence overflow and NaN: a box that a bad model made infinite is dropped by `finish`, not warned about."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def corners(center: Float32, size: Float32) -> Float32:
    """Turn centres and sizes, both float32 (n, 2) as x y and w h, into corners (n, 4) as x1 y1 x2 y2."""
    boxes = np.empty((len(center), 4), np.float32)
    half = size * np.float32(0.5)
    np.subtract(center, half, out=boxes[:, :2])
    np.add(center, half, out=boxes[:, 2:])
    return boxes


def best_class(scores: Float32, conf: float, multi_label: bool) -> tuple[Index, Index, Float32]:
    """Choose the classes of boxes from their scores.

    Args:
        scores: float32 (n, C).
        conf: Lowest score.
        multi_label: Every class that passes, else the best one (the first among equals).

    Returns:
        Row, class and score of each choice, by row and then by class.
    """
    if multi_label:
        row, chosen = np.nonzero(scores >= conf)
        return row, chosen, scores[row, chosen]
    chosen = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), chosen]
    row = np.flatnonzero(best >= conf)
    return row, chosen[row], best[row]


def finish(xyxy: Float32, score: Float32, class_id: npt.NDArray[Any]) -> Candidates:
    """Make candidates: drops what is not finite, and limits scores to 1 (quantised ones may exceed it)."""
    finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(score)
    if not finite.all():
        xyxy, score, class_id = xyxy[finite], score[finite], class_id[finite]
    return Candidates(xyxy, np.minimum(score, np.float32(1)), class_id.astype(np.int32))


def join(parts: Sequence[Candidates | None]) -> Candidates:
    """Put the candidates of several heads together; None stands for a head without any."""
    found = [part for part in parts if part is not None]
    if len(found) < 2:
        return found[0] if found else NOTHING
    return Candidates(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


class BoxUnit:
    """Brings boxes that are either 0..1 of the input or its pixels to pixels.

    "auto" looks at the boxes' centres: exporters of one family differ, and a file rarely says it. In 0..1 a centre
    stays in the input, however large its box; in pixels it lies in the first of them for no box worth its score. Half
    of a picture's boxes decide, so that a wild one cannot.
    """

    def __init__(self, unit: Unit, size_wh: tuple[int, int], name: str) -> None:
        """Keep the input's size; `name` is the decoder's, for the log."""
        self._unit = unit
        self._factor = np.array((*size_wh, *size_wh), np.float32)
        self._name = name
        self._said = unit != "auto"

    def to_pixels(self, xyxy: Float32) -> Float32:
        """Return boxes, float32 (n, 4), n > 0, in pixels of the input; may scale `xyxy` in place."""
        unit = self._unit
        if unit == "auto":
            far = (xyxy[:, :2] + xyxy[:, 2:]).max(axis=1)
            far.partition(len(far) // 2)
            unit = "pixels" if far[len(far) // 2] > 2 * _FARTHEST else "normalized"
        if not self._said:
            log.info("decoder %s: the boxes look %s", self._name, unit)
            self._said = True
        if unit == "normalized":
            xyxy *= self._factor
        return xyxy


class BoxUnitParams(Record):
    """Parameters of the families whose boxes come in either unit.

    Attributes:
        boxes: Unit of the coordinates.
    """

    boxes: Unit = "auto"
