"""Mixed precision: the few layers that do the damage stay float, for CPUs.

The network is cut into segments, and each is judged by the error of the outputs when it alone is int8 and all else is
float: errors of single segments nearly add up. Those that do most damage for the work they hold stay float, as many as
the time allows, which is measured: how much slower float is than int8 depends on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from convert.rescue.importance import output_error
from convert.rescue.network import CONVOLUTIONS, Float32, Network, Op
from convert.rescue.simulate import Range, forward, named_outputs
from edge.spec import ModelSpec

SLOWER = 1.1
"""How many times the latency of full int8 mixed precision may take; measured again it comes out up to 0.03 higher."""

_LONG = 8
"""Operators from which a segment is cut further, in front of each convolution."""
_OVERHEAD = 0.005
"""Share of the network's work that handing over to float and back is taken for."""
_LEAST = 0.005
"""Share of the damage from which a segment is worth a trial."""
_ROUNDS = 100


class Segment(NamedTuple):
    """Neighbouring operators that stay float together.

    Attributes:
        outputs: Their output tensors.
        work: Share of the network's multiplications, 0..1.
        damage: Share of all segments' errors that comes from this one, 0..1.
    """

    outputs: frozenset[int]
    work: float
    damage: float


def damaging_segments(
    network: Network, ranges: Mapping[int, Range], images: Float32, names: Sequence[str], spec: ModelSpec
) -> list[Segment]:
    """Return the segments of a network, the one that does most damage for its work first.

    Args:
        network: The network.
        ranges: Of its activations in int8.
        images: Calibration pictures, (N, H, W, C).
        names: Of its outputs.
        spec: Says what the outputs are.
    """
    image = tf.constant(images)
    teacher = named_outputs(network, names, forward(network, image))
    everything = frozenset(network.activations())
    segments = [(frozenset(op.outputs[0] for op in ops), sum(_work(network, op) for op in ops)) for ops in cut(network)]
    errors = []
    for outputs, _ in segments:
        student = forward(network, image, ranges, keep=everything - outputs)
        errors.append(float(output_error(spec, teacher, named_outputs(network, names, student))))
    total = max(sum(work for _, work in segments), 1.0)
    result = [
        Segment(outputs, work / total, error / max(sum(errors), 1e-12))
        for (outputs, work), error in zip(segments, errors, strict=True)
    ]
    return sorted(result, key=lambda segment: -segment.damage / (segment.work + _OVERHEAD))


def keep_float(segments: Sequence[Segment], build: Callable[[frozenset[int]], bytes]) -> frozenset[int]:
    """Return the output tensors of the operators to keep float: of one segment after the other that fits into the time.

    Args:
        segments: In the order in which they are worth it.
        build: From output tensors that stay float to a `.tflite`.
    """
    reference = build(frozenset())
    kept: frozenset[int] = frozenset()
    for segment in segments:
        # One may be slow for its work, where it stands alone; a later one may still fit.
        if segment.damage >= _LEAST and slowdown(reference, build(kept | segment.outputs)) <= SLOWER:
            kept |= segment.outputs
    return kept


def slowdown(reference: bytes, other: bytes) -> float:
    """Return the latency of one model in units of another's: the fastest of runs that take turns, on one thread."""
    runs = []
    for content in (reference, other):
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        runs.append(interpreter)
    times = np.empty((_ROUNDS, 2))
    for turn in times:
        for i, interpreter in enumerate(runs):
            start = perf_counter()
            interpreter.invoke()
            turn[i] = perf_counter() - start
    # What other programs take away is not the model's, and some runs escape them.
    fastest = times.min(axis=0)
    return float(fastest[1] / fastest[0])


def cut(network: Network) -> list[list[Op]]:
    """Cut the operators where one tensor carries everything on, and long pieces in front of each convolution."""
    last = {index: place for place, op in enumerate(network.ops) for index in op.inputs}
    last |= dict.fromkeys(network.outputs, len(network.ops))
    made: set[int] = {network.input}
    segments: list[list[Op]] = [[]]
    for place, op in enumerate(network.ops):
        live = [tensor for tensor in made if last.get(tensor, -1) >= place]
        if segments[-1] and op.kind in CONVOLUTIONS and len(live) == 1:
            segments.append([])
        segments[-1].append(op)
        made |= set(op.outputs)
    result: list[list[Op]] = []
    for ops in segments:
        for place, op in enumerate(ops):
            if place == 0 or (len(ops) > _LONG and op.kind in CONVOLUTIONS):
                result.append([])
            result[-1].append(op)
    return result


def _work(network: Network, op: Op) -> float:
    """Return the multiplications of an operator."""
    if op.kind not in CONVOLUTIONS:
        return 0.0
    kernel, _ = network.kernel(op)
    places = np.prod(network.shape(op.outputs[0])[:-1])
    per_place = kernel.size if op.kind != "DEPTHWISE_CONV_2D" else np.prod(kernel.shape[1:])
    return float(places * per_place)
