"""Anchor-free YOLO heads with decoded boxes in one tensor: Ultralytics v8, v9, 11, 12, and kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.decoders.base import Candidates, Outputs
from edge.decoders.tools import (
    NOTHING,
    BoxUnit,
    BoxUnitParams,
    check_labels,
    corners,
    finish,
    output,
    params,
    passes,
    quiet,
    rows_of,
    shape_error,
)
from edge.spec import ModelSpec
from edge.tensor import TensorInfo


class YoloV8Params(BoxUnitParams):
    """Parameters.

    Attributes:
        channels_last: The output is (1, N, 4 + C), not (1, 4 + C, N); None to tell from labels and shape.
    """

    channels_last: bool | None = None


class YoloV8:
    """Decodes role `output`: (1, 4 + C, N) or (1, N, 4 + C), each column cx, cy, w, h and C class probabilities."""

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the output's shape.

        Raises:
            SpecError: It contradicts the spec.
        """
        given = params(YoloV8Params, spec)
        self._info = output(spec, infos, "output", only=True)
        shape = self._info.shape
        expected = f"(1, 4 + {len(spec.labels) or 'classes'}, N)"
        if len(shape) != 3 or shape[0] != 1:
            raise shape_error(spec, self._info, expected)
        self._last = given.channels_last
        if self._last is None:
            wanted = 4 + len(spec.labels)
            self._last = shape[2] == wanted != shape[1] if spec.labels and wanted in shape[1:] else shape[2] < shape[1]
        channels = shape[2] if self._last else shape[1]
        if channels < 5:
            raise shape_error(spec, self._info, expected)
        check_labels(spec, channels - 4)
        self._unit = BoxUnit(given.boxes, size_wh, spec.decoder.name)

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode; see `edge.decoders.base.Decode`."""
        with quiet():
            return self._decode(outputs[self._info.name][0], conf, multi_label)

    def _decode(self, raw: npt.NDArray[Any], conf: float, multi_label: bool) -> Candidates:
        info = self._info
        if self._last:
            keep = rows_of(passes(raw[:, 4:], info, conf))
            picked = raw[keep].T
        else:
            # Numbers order alike before and after dequantising: the best class is found among raw ones.
            keep = np.flatnonzero(passes(raw[4:].max(axis=0), info, conf))
            picked = raw[:, keep]
        if not len(keep):
            return NOTHING
        if multi_label:
            column, class_id = np.nonzero(passes(picked[4:], info, conf).T)
        else:
            column, class_id = np.arange(len(keep)), picked[4:].argmax(axis=0)
        real = info.dequantize(picked)
        xyxy = self._unit.to_pixels(corners(real[:2].T, real[2:4].T))
        return finish(xyxy[column], real[class_id + 4, column], class_id)
