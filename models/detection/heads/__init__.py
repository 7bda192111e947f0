"""The heads of our detectors: raw output tensors, a loss on them, and how the runtime decodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from edge.spec import DecoderSpec
from models.detection.blocks import Blocks

HEADS = {
    "anchor-free": "models.detection.heads.anchor_free:AnchorFree",
    "anchors": "models.detection.heads.anchors:Anchors",
}
"""Name -> "module:class"."""


class Head(Protocol):
    """A kind of head."""

    @property
    def iou(self) -> float:
        """Overlap above which NMS drops the weaker of two boxes."""

    def outputs(self, blocks: Blocks, features: Sequence[Any], width: int, classes: int) -> dict[str, Any]:
        """Lay the head on the features of strides 8, 16 and 32.

        Args:
            blocks: The parts to lay it with.
            features: Keras tensors.
            width: Their channels.
            classes: Number of classes.

        Returns:
            The raw outputs by name; for `blocks.head`, so that weights are found again by these names.
        """

    def loss(self, outputs: dict[str, Any], truth: Any) -> tuple[Any, Any]:
        """Return the class loss and the box loss, scalars.

        Args:
            outputs: What the network gave for a batch.
            truth: (B, M, 5) truth rows, see `models.detection.loss`.
        """

    def decoder(self, classes: int) -> DecoderSpec:
        """Return how the runtime decodes it, roles being the names of the outputs."""
