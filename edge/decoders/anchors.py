"""Darknet's anchor heads, raw as the last convolution leaves them: YOLOv3, v4 and tiny, and the region head of v2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from edge.decoders.base import Candidates, Outputs
from edge.decoders.tools import (
    MAX_LEVELS,
    NOTHING,
    Float32,
    Index,
    best_class,
    check_labels,
    corners,
    finish,
    join,
    largest,
    logit,
    output,
    params,
    passes,
    quiet,
    shape_error,
    sigmoid,
    softmax,
)
from edge.spec import ModelSpec
from edge.spec.model import Record
from edge.tensor import TensorInfo

Positive = Annotated[float, Field(gt=0, le=1e6)]
Anchor = tuple[Positive, Positive]
Count = Annotated[int, Field(gt=0)]


class YoloAnchorsParams(Record):
    """Parameters; one entry a head, `head_0` first.

    Attributes:
        anchors: Anchor sizes [w, h] of each head in pixels of the input.
        strides: Input pixels per cell.
        scale_x_y: Darknet's factor that lets a centre reach its cell's border; 1 where not given.
        new_coords: The convolution has a logistic activation already, and sizes are `(2 t)^2 * anchor`.
        classes: Number of classes.
    """

    anchors: Annotated[
        tuple[Annotated[tuple[Anchor, ...], Field(min_length=1)], ...], Field(min_length=1, max_length=MAX_LEVELS)
    ]
    strides: tuple[Count, ...]
    scale_x_y: tuple[Positive, ...] = ()
    new_coords: bool = False
    classes: Count

    @model_validator(mode="after")
    def _lengths(self) -> YoloAnchorsParams:
        if len(self.strides) != len(self.anchors) or len(self.scale_x_y) not in (0, len(self.anchors)):
            raise ValueError(
                f"anchors, strides and scale_x_y need one entry a head, they have {len(self.anchors)}, "
                f"{len(self.strides)} and {len(self.scale_x_y)}"
            )
        return self


class RegionParams(Record):
    """Parameters.

    Attributes:
        anchors: Anchor sizes [w, h] in cells of the grid.
        classes: Number of classes.
        softmax: Class scores are a softmax, else one sigmoid each.
    """

    anchors: Annotated[tuple[Anchor, ...], Field(min_length=1)]
    classes: Count
    softmax: bool = True


class _Head:
    """One head: cells x anchors of 5 + C values, NHWC (1, H, W, A * (5 + C)) or NCHW (1, A * (5 + C), H, W)."""

    def __init__(
        self,
        spec: ModelSpec,
        info: TensorInfo,
        grid_wh: tuple[int, int],
        anchors: npt.NDArray[np.float32],
        classes: int,
    ) -> None:
        width, height = grid_wh
        values = 5 + classes
        channels = len(anchors) * values
        if info.shape == (1, height, width, channels):
            self._planar = False
        elif info.shape == (1, channels, height, width):
            self._planar = True
        else:
            raise shape_error(
                spec,
                info,
                f"(1, {height}, {width}, {channels}) for {len(anchors)} anchors of 5 + {classes} values each",
            )
        self.info = info
        self.anchors = anchors
        self.largest = largest(info)
        self._cells = (height, width, len(anchors))

    def rows(self, outputs: Outputs, objectness: float) -> tuple[Float32, Float32, Index]:
        """Return what passes the objectness: values (n, 5 + C), cell column and row (n, 2), and anchor (n,)."""
        height, width, anchors = self._cells
        raw = outputs[self.info.name]
        if self._planar:
            cells = raw.reshape(anchors, -1, height, width).transpose(2, 3, 0, 1)
        else:
            cells = raw.reshape(height, width, anchors, -1)
        keep = np.flatnonzero(passes(cells[..., 4], self.info, objectness))
        y, x, anchor = np.unravel_index(keep, self._cells)
        return self.info.dequantize(cells[y, x, anchor]), np.stack([x, y], axis=1).astype(np.float32), anchor


class _SplitHead:
    """One head in four tensors, each with a scale of its own in int8: NHWC (1, H, W, A * k) with k values an anchor."""

    def __init__(
        self,
        spec: ModelSpec,
        infos: Mapping[str, TensorInfo],
        role: str,
        grid_wh: tuple[int, int],
        anchors: npt.NDArray[np.float32],
        classes: int,
    ) -> None:
        width, height = grid_wh
        self._infos = []
        for part, values in (("xy", 2), ("wh", 2), ("obj", 1), ("cls", classes)):
            info = output(spec, infos, f"{role}_{part}")
            expected = (1, height, width, len(anchors) * values)
            if info.shape != expected:
                raise shape_error(spec, info, f"{expected} for {len(anchors)} anchors of {values} values each")
            self._infos.append(info)
        self.anchors = anchors
        self.largest = largest(self._infos[2])
        self._cells = (height, width, len(anchors))

    def rows(self, outputs: Outputs, objectness: float) -> tuple[Float32, Float32, Index]:
        """Return the same as `_Head.rows`."""
        info = self._infos[2]
        keep = np.flatnonzero(passes(outputs[info.name].reshape(-1), info, objectness))
        y, x, anchor = np.unravel_index(keep, self._cells)
        # Cells and anchors are the leading axes of every part, so one index finds a box in all of them.
        parts = [info.dequantize(outputs[info.name].reshape(math.prod(self._cells), -1)[keep]) for info in self._infos]
        return np.concatenate(parts, axis=1), np.stack([x, y], axis=1).astype(np.float32), anchor


class YoloAnchors:
    """Decodes `head_0`, `head_1`, ...: `x = (s * sigmoid(t) - (s - 1) / 2 + column) * stride`, `w = exp(t) * anchor`.

    A head may come in four tensors instead, roles `head_0_xy`, `head_0_wh`, `head_0_obj` and `head_0_cls`.

    Source of the formulas: Darknet's yolo layer (Redmon, Farhadi, "YOLOv3"; Bochkovskiy et al., "YOLOv4" for s =
    scale_x_y; Wang et al., "Scaled-YOLOv4" for new_coords).
    """

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the heads' shapes.

        Raises:
            SpecError: They contradict the spec.
        """
        given = params(YoloAnchorsParams, spec)
        check_labels(spec, given.classes)
        self._new = given.new_coords
        self._heads = []
        for i, (pairs, stride) in enumerate(zip(given.anchors, given.strides, strict=True)):
            anchors, grid = np.array(pairs, np.float32), (size_wh[0] // stride, size_wh[1] // stride)
            head: _Head | _SplitHead
            if f"head_{i}_obj" in spec.decoder.outputs:
                head = _SplitHead(spec, infos, f"head_{i}", grid, anchors, given.classes)
            else:
                info = output(spec, infos, f"head_{i}", only=len(given.strides) == 1)
                head = _Head(spec, info, grid, anchors, given.classes)
            scale = np.float32(given.scale_x_y[i] if given.scale_x_y else 1)
            self._heads.append((head, np.float32(stride), scale))

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode; see `edge.decoders.base.Decode`."""
        with quiet():
            return join([self._head(outputs, *head, conf, multi_label) for head in self._heads])

    def _head(
        self,
        outputs: Outputs,
        head: _Head | _SplitHead,
        stride: np.float32,
        scale: np.float32,
        conf: float,
        multi_label: bool,
    ) -> Candidates | None:
        least = conf / max(1.0, head.largest) if self._new else logit(conf)
        values, cell, anchor = head.rows(outputs, least)
        if not len(values):
            return None
        objectness, scores, center = values[:, 4:5], values[:, 5:], values[:, :2]
        if not self._new:
            # Sigmoids of the winning class alone would do, but few rows are left here.
            objectness, scores, center = sigmoid(objectness), sigmoid(scores), sigmoid(center)
        row, class_id, score = best_class(scores * objectness, conf, multi_label)
        center = (center * scale - (scale - 1) / 2 + cell) * stride
        t = values[:, 2:4]
        size = (np.square(t * 2) if self._new else np.exp(t)) * head.anchors[anchor]
        return finish(corners(center, size)[row], score, class_id)


class Region:
    """Decodes role `head_0`, YOLOv2: sizes as `exp(t) * anchor` cells, classes as softmax times objectness.

    Source of the formulas: Redmon, Farhadi, "YOLO9000", and Darknet's region layer.
    """

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the head's shape.

        Raises:
            SpecError: It contradicts the spec.
        """
        given = params(RegionParams, spec)
        check_labels(spec, given.classes)
        info = output(spec, infos, "head_0", only=True)
        channels = len(given.anchors) * (5 + given.classes)
        if len(info.shape) != 4:
            raise shape_error(spec, info, f"(1, H, W, {channels})")
        height, width = info.shape[1:3] if info.shape[3] == channels else info.shape[2:4]
        if min(height, width) < 1:
            raise shape_error(spec, info, f"(1, H, W, {channels})")
        self._head = _Head(spec, info, (width, height), np.array(given.anchors, np.float32), given.classes)
        self._cell_wh = np.array([size_wh[0] / width, size_wh[1] / height], np.float32)
        self._activate = softmax if given.softmax else sigmoid

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode; see `edge.decoders.base.Decode`."""
        head = self._head
        with quiet():
            values, cell, anchor = head.rows(outputs, logit(conf))
            if not len(values):
                return NOTHING
            scores = self._activate(values[:, 5:]) * sigmoid(values[:, 4:5])
            row, class_id, score = best_class(scores, conf, multi_label)
            center = (sigmoid(values[:, :2]) + cell) * self._cell_wh
            size = np.exp(values[:, 2:4]) * head.anchors[anchor] * self._cell_wh
            return finish(corners(center, size)[row], score, class_id)
