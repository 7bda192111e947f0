"""The steps of a rescue, in order of cost: `STEPS` is the table, a new one is a function and a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from convert.rescue.bias import correct_biases
from convert.rescue.equalize import equalize
from convert.rescue.finetune import finetune
from convert.rescue.heads import split_heads
from convert.rescue.mixed import damaging_segments, keep_float
from convert.rescue.quantizer import to_int8
from convert.rescue.state import State
from edge.errors import InputError

_BIAS_PICTURES = 32
_MIXED_PICTURES = 8


class Step(NamedTuple):
    """A row of `STEPS`.

    Attributes:
        apply: Changes a state in place and says in a line what it did.
        summary: One line for help texts.
        auto: Whether `rescue_auto` tries it.
        integer: Whether every operator is int8 after it.
    """

    apply: Callable[[State], str]
    summary: str
    auto: bool = True
    integer: bool = True


def _ranges(method: str) -> Callable[[State], str]:
    def apply(state: State) -> str:
        state.method = method
        state.changed(state.activations)
        return f"ranges by {method}"

    return apply


def _head_scales(state: State) -> str:
    before = len(state.names)
    state.names, state.spec = split_heads(state.network, state.names, state.spec)
    if len(state.names) == before:
        return "no head to split"
    state.changed()
    return f"{before} outputs became {len(state.names)}"


def _logit_clipping(state: State) -> str:
    state.clipped = True
    state.changed(state.activations)
    return "logits clipped where a sigmoid is flat"


def _equalisation(state: State) -> str:
    before = state.activations
    state.changed(equalize(state.network, before))
    return f"{len(before)} tensors equalised"


def _bias_correction(state: State) -> str:
    images = np.concatenate(state.spread(_BIAS_PICTURES))
    return f"biases moved by {correct_biases(state.network, state.ranges, images):.2f} steps of int8 in the mean"


def _mixed_precision(state: State) -> str:
    images = np.concatenate(state.spread(_MIXED_PICTURES))
    segments = damaging_segments(state.network, state.ranges, images, state.names, state.spec)
    state.keep = keep_float(segments, lambda keep: to_int8(state.network, state.ranges, keep=keep))
    work = sum(segment.work for segment in segments if segment.outputs <= state.keep)
    return f"{len(state.keep)} operators stay float, {work:.0%} of the multiplications"


def _fine_tuning(state: State) -> str:
    if state.plan.minutes == 0:
        raise InputError("left out, --rescue-minutes 0 gives it no time")
    tuned = finetune(state.network, state.ranges, state.pictures, state.names, state.spec, state.plan, state.keep)
    state.ranges = tuned.ranges
    return f"error on pictures kept back {tuned.before:.4f} -> {tuned.after:.4f} in {tuned.steps} steps"


STEPS: dict[str, Step] = {
    "percentile-ranges": Step(_ranges("percentile"), "clip one value in ten thousand on each side"),
    "mse-ranges": Step(_ranges("mse"), "ranges with the least mean squared error, instead", auto=False),
    "head-scales": Step(_head_scales, "x y, w h, objectness and classes of an anchor head as outputs of their own"),
    "logit-clipping": Step(_logit_clipping, "no levels for logits beyond 9.2"),
    "equalisation": Step(_equalisation, "channels of one tensor scaled to like ranges"),
    "bias-correction": Step(_bias_correction, "mean of every channel brought back", auto=False),
    "mixed-precision": Step(_mixed_precision, "the layers that do the damage stay float (CPU only)", integer=False),
    "fine-tuning": Step(_fine_tuning, "trained with rounding in it, the float network as teacher (minutes)"),
}
"""Name -> step, in order of cost, which is the order in which they are applied."""
