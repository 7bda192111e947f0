"""What a trained network is on a device: its description, and its boxes by the runtime's own decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.decoders import DECODERS
from edge.decoders.base import Candidates, Decode
from edge.spec import InputSpec, ModelSpec
from edge.tensor import TensorInfo
from models.detection.data import PAD_VALUE
from models.detection.heads import Head

Predict = Callable[[NDArray[np.float32]], Mapping[str, Any]]
"""Maps float32 RGB images (B, S, S, 3) in 0..1 to the raw tensors of a head."""


def deployed_spec(name: str, size: int, labels: tuple[str, ...], head: Head) -> ModelSpec:
    """Return what the runtime must know about a network of ours."""
    return ModelSpec(
        name=name,
        task="detect",
        input=InputSpec(
            size_wh=(size, size),
            layout="NHWC",
            color="RGB",
            mean=(0.0,),
            std=(255.0,),
            resize="letterbox-center",
            pad_value=PAD_VALUE,
        ),
        decoder=head.decoder(len(labels)),
        iou=head.iou,
        labels=labels,
    )


class Deployed:
    """A network with the runtime's decoder behind it."""

    def __init__(self, predict: Predict, spec: ModelSpec) -> None:
        """Bind.

        Args:
            predict: The network.
            spec: Of `deployed_spec`.
        """
        self._predict, self._spec = predict, spec
        self._decode: Decode | None = None

    def __call__(self, images: NDArray[np.uint8], confidence: float) -> list[Candidates]:
        """Return the boxes before suppression for each of (B, S, S, 3) uint8 RGB images; a box may have two classes."""
        raw = self._predict(images.astype(np.float32) / 255.0)
        outputs = {name: np.asarray(value, np.float32) for name, value in raw.items()}
        if self._decode is None:
            infos = {name: TensorInfo(name, (1, *a.shape[1:]), a.dtype) for name, a in outputs.items()}
            size_wh = (images.shape[2], images.shape[1])
            self._decode = DECODERS[self._spec.decoder.name].build(self._spec, size_wh, infos)
        return [
            self._decode({name: a[i : i + 1] for name, a in outputs.items()}, confidence, multi_label=True)
            for i in range(len(images))
        ]
