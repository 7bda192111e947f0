"""The contract between a model's raw outputs and the boxes that NMS sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge.spec import ModelSpec
from edge.tensor import TensorInfo

Outputs = Mapping[str, npt.NDArray[Any]]
"""Tensor name -> raw output. The arrays are views of the runtime's memory: a decoder must not keep or return them."""


class Candidates(NamedTuple):
    """Boxes before suppression.

    Attributes:
        xyxy: float32 (n, 4), x1 y1 x2 y2 in model-input pixels, not clipped.
        score: float32 (n,), 0..1, each >= the threshold that was asked for.
        class_id: int32 (n,), index into the labels.
    """

    xyxy: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int32]


class Decode(Protocol):
    """A decoder bound to one model: grids, anchors and shapes were checked and computed when it was made."""

    def __call__(self, outputs: Outputs, conf: float, multi_label: bool = False) -> Candidates:
        """Decode one inference.

        Args:
            outputs: Raw output tensors, batch 1.
            conf: Lowest score to return, 0..1.
            multi_label: Return every class of a box that passes, not only its best (as COCO evaluation does).
        """


class Classes(NamedTuple):
    """What a classification head says of each picture of a batch.

    Attributes:
        score: float32 (n, C), the probability of each class.
        xyxy: float32 (n, 4), x1 y1 x2 y2 in model-input pixels, not clipped, not always finite; None for a head without
            a box.
    """

    score: npt.NDArray[np.float32]
    xyxy: npt.NDArray[np.float32] | None


Classify = Callable[[Outputs], Classes]
"""A classification head bound to one model: raw outputs, of as many pictures as went in, -> Classes."""


class DecoderFamily(NamedTuple):
    """A row of `DECODERS`.

    Attributes:
        build: (spec, size_wh of the input, output infos by tensor name) -> Decode.
            Raises SpecError where shapes contradict the spec.
        iou: Default NMS threshold; None for a head that needs no NMS.
        summary: One line for help texts.
    """

    build: Callable[[ModelSpec, tuple[int, int], Mapping[str, TensorInfo]], Decode]
    iou: float | None
    summary: str
