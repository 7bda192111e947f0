"""Heads that need no suppression: YOLOv10, YOLO26 and exports with NMS inside, rows of x1 y1 x2 y2 score class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge.decoders.base import Candidates, Outputs
from edge.decoders.tools import NOTHING, BoxUnit, BoxUnitParams, finish, output, params, passes, quiet, shape_error
from edge.spec import ModelSpec
from edge.tensor import TensorInfo


class End2End:
    """Decodes role `output`: (1, N, 6), rows x1, y1, x2, y2, score, class."""

    def __init__(self, spec: ModelSpec, size_wh: tuple[int, int], infos: Mapping[str, TensorInfo]) -> None:
        """Check the output's shape.

        Raises:
            SpecError: It contradicts the spec.
        """
        self._info = output(spec, infos, "output", only=True)
        shape = self._info.shape
        if len(shape) != 3 or shape[0] != 1 or shape[2] != 6:
            raise shape_error(spec, self._info, "(1, N, 6)")
        self._unit = BoxUnit(params(BoxUnitParams, spec).boxes, size_wh, spec.decoder.name)

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode; see `edge.decoders.base.Decode`. The model chose the classes: `multi_label` changes nothing."""
        info = self._info
        raw = outputs[info.name][0]
        real = info.dequantize(raw[passes(raw[:, 4], info, conf)])
        with quiet():
            # Rows that fill the table up may carry class -1; a class that is no number cannot be named.
            real = real[real[:, 5] > -0.5]
            if not len(real):
                return NOTHING
            return finish(self._unit.to_pixels(real[:, :4].copy()), real[:, 4], np.rint(real[:, 5]))
