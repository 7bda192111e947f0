"""Bias correction: what rounding shifts on average is taken off again.

Rounding a kernel changes the mean of every output channel, and later layers add these shifts up. Layer by layer, in the
order in which they run, the mean of each channel over calibration pictures is brought back to that of the float
network; each layer already sees the corrected ones before it.

Source: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, empirical
variant (appendix D).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from convert.rescue.network import CONVOLUTIONS, Float32, Network, Op, channel_axis
from convert.rescue.simulate import Range, activate, fake_quantized, fake_quantized_kernel, run_op


def correct_biases(network: Network, ranges: Mapping[int, Range], images: Float32) -> float:
    """Correct the biases of a network in place.

    Args:
        network: The network.
        ranges: Of its activations in int8.
        images: Calibration pictures, (N, H, W, C).

    Returns:
        Mean absolute shift that was taken off, in int8 steps of the output it was in.
    """
    last = {index: place for place, op in enumerate(network.ops) for index in op.inputs}
    image = tf.constant(images)
    float_values = {network.input: image}
    values = {network.input: fake_quantized(image, *ranges[network.input])}
    shifts: list[float] = []
    for place, op in enumerate(network.ops):
        out = op.outputs[0]
        if op.kind in CONVOLUTIONS:
            float_values[out], values[out] = _corrected(network, op, ranges, float_values, values, shifts)
        else:
            float_values[out] = run_op(network, op, _inputs(op, float_values))
            values[out] = fake_quantized(run_op(network, op, _inputs(op, values)), *ranges[out])
        for index in op.inputs:
            if last[index] == place:
                float_values.pop(index, None)
                values.pop(index, None)
    return float(np.mean(shifts)) if shifts else 0.0


def _corrected(
    network: Network,
    op: Op,
    ranges: Mapping[int, Range],
    float_values: Mapping[int, Any],
    values: Mapping[int, Any],
    shifts: list[float],
) -> tuple[Any, Any]:
    """Correct one layer; return its output in float and in int8."""
    kernel, bias = network.kernel(op)
    rounded = fake_quantized_kernel(tf.constant(kernel), channel_axis(op))
    exact = run_op(network, op, _inputs(op, float_values), kernel, bias, activated=False)
    found = run_op(network, op, _inputs(op, values), rounded, bias, activated=False)
    if network.has_bias(op):
        shift = tf.reduce_mean(exact - found, axis=list(range(len(exact.shape) - 1)))
        low, high = ranges[op.outputs[0]]
        shifts.append(float(tf.reduce_mean(tf.abs(shift))) / max((high - low) / 255, 1e-12))
        network.set_kernel(op, kernel, bias + shift.numpy())
        found += shift
    return activate(op, exact), fake_quantized(activate(op, found), *ranges[op.outputs[0]])


def _inputs(op: Op, values: Mapping[int, Any]) -> list[Any]:
    return [values[index] for index in op.inputs if index in values]
