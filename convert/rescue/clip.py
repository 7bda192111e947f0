"""Activation-range clipping: logits that a sigmoid will read need no levels where it is flat.

A class logit of -40 and one of -10 are the same nothing. Beyond `LIMIT` the sigmoid is within 0.0001 of 0 or 1, and
the levels are worth more near 0.
"""

from __future__ import annotations

from convert.rescue.network import Network
from convert.rescue.simulate import Range
from edge.spec import ModelSpec

LIMIT = 9.2
"""ln(9999): the logit of 0.9999."""

_LOGITS = {"yolo_anchors": ("_xy", "_obj", "_cls"), "anchor_free": ("cls_",)}
"""Decoder -> what names a role whose tensor holds logits and nothing else."""


def clip_logits(network: Network, ranges: dict[int, Range], names: tuple[str, ...], spec: ModelSpec) -> int:
    """Narrow the ranges of logit outputs in place.

    Returns:
        How many were narrowed.
    """
    logits = logit_outputs(spec)
    narrowed = 0
    for name, tensor in zip(names, network.outputs, strict=True):
        if name in logits:
            low, high = ranges[tensor]
            ranges[tensor] = (max(low, -LIMIT), min(high, LIMIT))
            narrowed += ranges[tensor] != (low, high)
    return narrowed


def logit_outputs(spec: ModelSpec) -> frozenset[str]:
    """Return the names of the outputs that hold logits and nothing else."""
    marks = () if spec.decoder.params.get("new_coords") else _LOGITS.get(spec.decoder.name, ())
    return frozenset(name for role, name in spec.decoder.outputs.items() if any(mark in role for mark in marks))
