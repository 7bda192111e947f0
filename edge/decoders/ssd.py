"""SSD heads: with TensorFlow's post-processing inside the model, or raw with anchors (also MediaPipe's detectors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edge.decoders.base import Candidates, Outputs
from edge.decoders.tools import (
    MAX_LEVELS,
    NOTHING,
    Float32,
    best_class,
    check_labels,
    corners,
    finish,
    logit,
    output,
    params,
    passes,
    quiet,
    rows_of,
    shape_error,
    sigmoid,
    softmax,
)
from edge.errors import SpecError
from edge.spec import ModelSpec
from edge.spec.model import Record
from edge.tensor import TensorInfo

_YXYX = [1, 0, 3, 2]


class SsdPostprocessParams(Record):
    """Parameters.

    Attributes:
        order: Of the coordinates; TensorFlow's own operator gives ymin, xmin, ymax, xmax.
        boxes: Unit of the coordinates.
    """

    order: Literal["yxyx", "xyxy"] = "yxyx"
    boxes: Literal["normalized", "pixels"] = "normalized"


class SsdPostprocess:
    """Decodes roles `boxes` (1, N, 4), `classes` (1, N), `scores` (1, N) and, if the model has it, `count` (1,).

    Their shapes may be unknown until the model has run once: they are checked then.
    """

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Find the outputs.

        Raises:
            SpecError: One is missing.
        """
        given = params(SsdPostprocessParams, spec)
        roles = ["boxes", "classes", "scores", *(["count"] if "count" in spec.decoder.outputs else [])]
        self._infos = {role: output(spec, infos, role) for role in roles}
        self._spec = spec
        self._columns = _YXYX if given.order == "yxyx" else [0, 1, 2, 3]
        self._scale = np.array((*size_wh, *size_wh) if given.boxes == "normalized" else (1, 1, 1, 1), np.float32)
        for role, info in self._infos.items():
            if info.shape and -1 not in info.shape:
                self._check(role, info.shape)

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode; see `edge.decoders.base.Decode`. The model chose the classes: `multi_label` changes nothing."""
        values = {}
        for role, info in self._infos.items():
            raw = outputs[info.name]
            self._check(role, raw.shape)
            values[role] = raw.reshape(-1, 4) if role == "boxes" else raw.reshape(-1)
        boxes, classes, scores = values["boxes"], values["classes"], values["scores"]
        if not len(boxes) == len(classes) == len(scores):
            raise SpecError(
                f"decoder {self._spec.decoder.name}: expected as many classes and scores as boxes, found "
                f"{len(classes)}, {len(scores)} and {len(boxes)}"
            )
        with quiet():
            chosen = np.flatnonzero(passes(scores, self._infos["scores"], conf))
            if "count" in values:
                chosen = chosen[chosen < self._real("count", values["count"][:1])]
            class_id = np.rint(self._real("classes", classes[chosen]))
            # A class that is no number, or negative, cannot be named.
            chosen, class_id = chosen[class_id >= 0], class_id[class_id >= 0]
            if not len(chosen):
                return NOTHING
            xyxy = self._real("boxes", boxes[chosen])[:, self._columns] * self._scale
            return finish(xyxy, self._real("scores", scores[chosen]), class_id)

    def _real(self, role: str, values: npt.NDArray[Any]) -> Float32:
        return self._infos[role].dequantize(values)

    def _check(self, role: str, shape: tuple[int, ...]) -> None:
        expected = {"boxes": "(1, N, 4)", "count": "(1,)"}.get(role, "(1, N)")
        good = {
            "boxes": len(shape) in (2, 3) and shape[-1] == 4 and (len(shape) == 2 or shape[0] == 1),
            "count": int(np.prod(shape)) == 1,
        }.get(role, len(shape) in (1, 2) and (len(shape) == 1 or shape[0] == 1))
        if not good:
            raise SpecError(
                f"decoder {self._spec.decoder.name}: output {self._infos[role].name!r}, role {role!r}: expected shape "
                f"{expected}, found {shape}"
            )


Positive = Annotated[float, Field(gt=0, le=1e6)]
Place = Annotated[float, Field(ge=-1e6, le=1e6)]


class GridAnchors(Record):
    """Anchors of the input's size at the cell centres, as MediaPipe's short-range face detector has them.

    Attributes:
        grid: [stride, anchors per cell] of each level, in the order of the rows.
    """

    grid: Annotated[
        tuple[tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0, le=64)]], ...],
        Field(min_length=1, max_length=MAX_LEVELS),
    ]


class SsdAnchorsParams(Record):
    """Parameters.

    Attributes:
        anchors: Each anchor as [cx, cy, w, h], 0..1 of the input; or {"grid": [[stride, per cell], ...]}.
        variances: Factors of the box values: x, y, w, h. TensorFlow's scale factors 10, 10, 5, 5 are variances
            0.1, 0.1, 0.2, 0.2.
        order: Of the box values; TensorFlow has ty, tx, th, tw and MediaPipe x, y, w, h.
        size: "exp" for `w = exp(t * variance) * anchor`, "linear" for `w = t * variance * anchor`.
        activation: What makes probabilities of the scores.
        background: The first score column is the background, which is no class.
    """

    anchors: tuple[tuple[Place, Place, Positive, Positive], ...] | GridAnchors
    variances: tuple[Positive, Positive, Positive, Positive] = (0.1, 0.1, 0.2, 0.2)
    order: Literal["yxhw", "xywh"] = "yxhw"
    size: Literal["exp", "linear"] = "exp"
    activation: Literal["none", "sigmoid", "softmax"] = "sigmoid"
    background: bool = False


class SsdAnchors:
    """Decodes roles `boxes` (1, N, 4 or more) and `scores` (1, N, C): `x = t * variance * w_a + x_a`.

    Source of the formulas: Liu et al., "SSD", and MediaPipe's TensorsToDetections for linear sizes. Values behind the
    first four of a box (key points) are not read.
    """

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the shapes and lay out the anchors.

        Raises:
            SpecError: They contradict the spec.
        """
        given = params(SsdAnchorsParams, spec)
        if isinstance(given.anchors, GridAnchors):
            anchors = _grid_anchors(given.anchors, size_wh)
        else:
            anchors = np.array(given.anchors, np.float32).reshape(-1, 4)
        self._boxes, self._scores = output(spec, infos, "boxes"), output(spec, infos, "scores")
        count = len(anchors)
        shape = self._boxes.shape
        if len(shape) != 3 or shape[:2] != (1, count) or shape[2] < 4:
            raise shape_error(spec, self._boxes, f"(1, {count}, 4) for {count} anchors")
        shape = self._scores.shape
        if len(shape) != 3 or shape[:2] != (1, count):
            raise shape_error(spec, self._scores, f"(1, {count}, classes) for {count} anchors")
        check_labels(spec, shape[2] - given.background)
        pixels = np.array((*size_wh, *size_wh), np.float32)
        self._anchors = anchors * pixels
        self._variances = np.array(given.variances, np.float32)
        self._columns = _YXYX if given.order == "yxhw" else [0, 1, 2, 3]
        self._exp = given.size == "exp"
        self._activation = given.activation
        self._background = int(given.background)

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode; see `edge.decoders.base.Decode`."""
        raw = outputs[self._scores.name][0]
        with quiet():
            keep = self._survivors(raw, conf)
            if not len(keep):
                return NOTHING
            scores = self._scores.dequantize(raw[keep])
            if self._activation == "softmax":
                scores = softmax(scores)
            elif self._activation == "sigmoid":
                scores = sigmoid(scores)
            row, class_id, score = best_class(scores[:, self._background :], conf, multi_label)
            if not len(row):
                return NOTHING
            keep = keep[row]
            anchor = self._anchors[keep]
            t = self._boxes.dequantize(outputs[self._boxes.name][0][keep, :4])[:, self._columns] * self._variances
            size = (np.exp(t[:, 2:]) if self._exp else t[:, 2:]) * anchor[:, 2:]
            return finish(corners(t[:, :2] * anchor[:, 2:] + anchor[:, :2], size), score, class_id)

    def _survivors(self, raw: npt.NDArray[Any], conf: float) -> npt.NDArray[np.intp]:
        """Return the rows of which a class may pass."""
        if self._activation != "softmax":
            least = logit(conf) if self._activation == "sigmoid" else conf
            return rows_of(passes(raw[:, self._background :], self._scores, least))
        if not self._background:
            return np.arange(len(raw))
        # Of a softmax, p = sigmoid(class - log sum of the others) <= sigmoid(class - background).
        best = self._scores.dequantize(raw[:, 1:].max(axis=1)) - self._scores.dequantize(raw[:, 0])
        return np.flatnonzero(best >= logit(conf))


def _grid_anchors(given: GridAnchors, size_wh: tuple[int, int]) -> Float32:
    levels = []
    for stride, per_cell in given.grid:
        width, height = -(-size_wh[0] // stride), -(-size_wh[1] // stride)
        y, x = np.mgrid[:height, :width]
        centers = np.stack([(x.ravel() + 0.5) / width, (y.ravel() + 0.5) / height], axis=1)
        levels.append(np.repeat(centers, per_cell, axis=0))
    centers = np.concatenate(levels)
    return np.concatenate([centers, np.ones_like(centers)], axis=1).astype(np.float32)
