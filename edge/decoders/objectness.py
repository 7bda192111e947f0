"""Heads with decoded rows of box, objectness and classes in one tensor: YOLOv5 (also v7) and YOLOX."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from edge.decoders.base import Candidates, Outputs
from edge.decoders.tools import (
    MAX_LEVELS,
    NOTHING,
    BoxUnit,
    BoxUnitParams,
    Float32,
    Index,
    best_class,
    check_labels,
    corners,
    finish,
    largest,
    output,
    params,
    passes,
    quiet,
    shape_error,
)
from edge.errors import SpecError
from edge.spec import ModelSpec
from edge.spec.model import Record
from edge.tensor import TensorInfo

Stride = Annotated[int, Field(gt=0)]


class _Rows(ABC):
    """Role `output`, (1, N, 5 + C): cx, cy, w, h, objectness, C class probabilities; score = objectness x class."""

    def __init__(self, spec: ModelSpec, infos: Mapping[str, TensorInfo]) -> None:
        self._info = output(spec, infos, "output", only=True)
        shape = self._info.shape
        if len(shape) != 3 or shape[0] != 1 or shape[2] < 6:
            raise shape_error(spec, self._info, f"(1, N, 5 + {len(spec.labels) or 'classes'})")
        check_labels(spec, shape[2] - 5)
        # A quantised class score may exceed 1 by a few steps, so that the product may exceed the objectness.
        self._most = max(1.0, largest(self._info))

    @abstractmethod
    def _boxes(self, real: Float32, keep: Index) -> Float32:
        """Return x1 y1 x2 y2 in input pixels of real rows (n, 5 + C) with row numbers `keep`."""

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode; see `edge.decoders.base.Decode`."""
        info = self._info
        raw = outputs[info.name][0]
        keep = np.flatnonzero(passes(raw[:, 4], info, conf / self._most))
        if not len(keep):
            return NOTHING
        real = info.dequantize(raw[keep])
        with quiet():
            row, class_id, score = best_class(real[:, 5:] * real[:, 4:5], conf, multi_label)
            if not len(row):
                return NOTHING
            return finish(self._boxes(real[row], keep[row]), score, class_id)


class YoloV5(_Rows):
    """YOLOv5 and v7 with their boxes decoded: normalised in TFLite exports of v5, pixels elsewhere."""

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the output's shape.

        Raises:
            SpecError: It contradicts the spec.
        """
        super().__init__(spec, infos)
        self._unit = BoxUnit(params(BoxUnitParams, spec).boxes, size_wh, spec.decoder.name)

    def _boxes(self, real: Float32, keep: Index) -> Float32:
        return self._unit.to_pixels(corners(real[:, :2], real[:, 2:4]))


class YoloXParams(Record):
    """Parameters.

    Attributes:
        decoded: "pixels" when the export already decoded the boxes, "grid" when they are raw, "auto" to look.
        strides: Strides of the grids, in the order of their rows.
    """

    decoded: Literal["auto", "pixels", "grid"] = "auto"
    strides: Annotated[tuple[Stride, ...], Field(min_length=1, max_length=MAX_LEVELS)] = (8, 16, 32)


class YoloX(_Rows):
    """YOLOX, raw (`x = (t + column) * stride`, `w = exp(t) * stride`) or decoded in pixels.

    Source of the formula: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", and its demo_postprocess.
    """

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the output's shape and lay out the grids.

        Raises:
            SpecError: It contradicts the spec.
        """
        super().__init__(spec, infos)
        given = params(YoloXParams, spec)
        grids = []
        for stride in given.strides:
            y, x = np.mgrid[: size_wh[1] // stride, : size_wh[0] // stride]
            grids.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
        self._grid = np.concatenate(grids).astype(np.float32)
        rows = self._info.shape[1]
        if given.decoded != "pixels" and len(self._grid) != rows:
            raise SpecError(
                f"decoder {spec.decoder.name}: output {self._info.name!r}: expected {len(self._grid)} rows for an "
                f"input of {size_wh[0]} x {size_wh[1]} with strides {given.strides}, found {rows}"
            )
        self._decoded = given.decoded

    def _boxes(self, real: Float32, keep: Index) -> Float32:
        decoded = self._decoded
        if decoded == "auto":
            # Raw values are offsets and logarithms of a few units; decoded ones reach across the input.
            far = real[:, :4].max(axis=1)
            decoded = "pixels" if np.partition(far, len(far) // 2)[len(far) // 2] > 6 else "grid"
        if decoded == "pixels":
            return corners(real[:, :2], real[:, 2:4])
        cell = self._grid[keep]
        stride = cell[:, 2:]
        return corners((real[:, :2] + cell[:, :2]) * stride, np.exp(real[:, 2:4]) * stride)
