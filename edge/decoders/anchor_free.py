"""The heads of this project's own detectors: raw distances and class logits, one pair of tensors a stride."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edge.decoders.base import Candidates, Outputs
from edge.decoders.tools import (
    MAX_LEVELS,
    best_class,
    check_labels,
    finish,
    join,
    logit,
    output,
    params,
    passes,
    quiet,
    rows_of,
    shape_error,
    sigmoid,
)
from edge.errors import SpecError
from edge.spec import ModelSpec
from edge.spec.model import Record
from edge.tensor import TensorInfo


class AnchorFreeParams(Record):
    """Parameters.

    Attributes:
        strides: Input pixels per cell of each level.
    """

    strides: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1, max_length=MAX_LEVELS)] = (
        8,
        16,
        32,
    )


class _Level(NamedTuple):
    stride: int
    box: TensorInfo
    score: TensorInfo
    planar: bool
    width: int
    classes: int


class AnchorFree:
    """Decodes roles `box_8`, `cls_8`, `box_16`, ...

    `box_s` (1, H, W, 4) holds the logarithms of the distances left, top, right, bottom, in strides, from the cell's
    centre `((column + 0.5) * s, (row + 0.5) * s)`; `cls_s` (1, H, W, C) holds class logits. NCHW works too.
    """

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the shapes of all levels.

        Raises:
            SpecError: They contradict the spec.
        """
        self._levels = []
        for stride in params(AnchorFreeParams, spec).strides:
            box, score = output(spec, infos, f"box_{stride}"), output(spec, infos, f"cls_{stride}")
            width, height = size_wh[0] // stride, size_wh[1] // stride
            planar = box.shape == (1, 4, height, width) != (1, height, width, 4)
            if not planar and box.shape != (1, height, width, 4):
                raise shape_error(spec, box, f"(1, {height}, {width}, 4)")
            grid = score.shape[2:] if planar else score.shape[1:3]
            if len(score.shape) != 4 or score.shape[0] != 1 or grid != (height, width):
                raise shape_error(spec, score, f"(1, {height}, {width}, classes)")
            classes = score.shape[1] if planar else score.shape[3]
            check_labels(spec, classes)
            self._levels.append(_Level(stride, box, score, planar, width, classes))
        if len({level.classes for level in self._levels}) > 1:
            raise SpecError(
                f"decoder {spec.decoder.name}: the levels have {', '.join(str(lv.classes) for lv in self._levels)} "
                "classes, expected the same number"
            )

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode; see `edge.decoders.base.Decode`."""
        with quiet():
            return join([self._level(outputs, level, conf, multi_label) for level in self._levels])

    def _level(self, outputs: Outputs, level: _Level, conf: float, multi_label: bool) -> Candidates | None:
        hit = passes(outputs[level.score.name], level.score, logit(conf))
        if level.planar:
            cell = np.flatnonzero(hit.reshape(level.classes, -1).any(axis=0))
        else:
            cell = rows_of(hit)
        if not len(cell):
            return None
        scores = sigmoid(level.score.dequantize(_cells(outputs[level.score.name], level, cell)))
        row, class_id, score = best_class(scores, conf, multi_label)
        cell = cell[row]
        distance = np.exp(level.box.dequantize(_cells(outputs[level.box.name], level, cell)))
        center = np.stack([cell % level.width, cell // level.width], axis=1).astype(np.float32) + np.float32(0.5)
        xyxy = np.concatenate([center - distance[:, :2], center + distance[:, 2:]], axis=1)
        return finish(xyxy * np.float32(level.stride), score, class_id)


def _cells(raw: npt.NDArray[Any], level: _Level, cell: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Return the values of some cells, (n, channels)."""
    if level.planar:
        values: npt.NDArray[Any] = raw[0].reshape(raw.shape[1], -1)[:, cell].T
    else:
        values = raw.reshape(-1, raw.shape[3])[cell]
    return values
