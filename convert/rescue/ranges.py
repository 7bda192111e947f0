"""Which range of values each activation gets in int8.

Everything outside of the range is clipped, everything inside is rounded to 256 levels; "minmax" clips nothing, so that
one outlier in one picture coarsens every level. What only a leaky ReLU reads is judged behind it: a clipped value far
below 0 costs a tenth of what it seems to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from convert.rescue.network import FOLLOWS, Float32, Network
from convert.rescue.simulate import Range
from convert.rescue.statistics import Activation

PERCENTILE = 0.01
"""Per cent of the values on each side that "percentile" clips."""

_FRACTIONS = np.linspace(0.1, 1.0, 46)
"""Of the farthest value: the ranges that "mse" tries."""
_MAX_VALUES = 30_000
_FIXED: dict[str, Range] = {"LOGISTIC": (0.0, 255 / 256), "SOFTMAX": (0.0, 255 / 256), "TANH": (-1.0, 127 / 128)}
"""Kinds of operators whose output has one range in every int8 model, by the TFLite specification."""


def choose_ranges(network: Network, activations: Mapping[int, Activation], method: str) -> dict[int, Range]:
    """Return a range for each activation.

    Args:
        network: The network.
        activations: What its activations do.
        method: A key of `METHODS`.
    """
    slopes = _leaky(network)
    result: dict[int, Range] = {}
    for members in same_scale(network):
        ranges = [METHODS[method](activations[t], slopes.get(t, 1.0)) for t in members]
        joint = (min(low for low, _ in ranges), max(high for _, high in ranges))
        result |= dict.fromkeys(members, joint)
    # Pixels have no outliers: white stays white.
    result[network.input] = _minmax(activations[network.input], 1.0)
    return result | {op.outputs[0]: _FIXED[op.kind] for op in network.ops if op.kind in _FIXED}


def same_scale(network: Network) -> list[list[int]]:
    """Return the activations in groups that must have one scale in int8: what only moves values does not requantise."""
    group = {tensor: [tensor] for tensor in network.activations()}
    for op in network.ops:
        if op.kind in FOLLOWS:
            joined = group[op.outputs[0]]
            for source in op.inputs:
                if source in group and group[source] is not joined:
                    joined += group[source]
                    for tensor in group[source]:
                        group[tensor] = joined
    return list({id(members): members for members in group.values()}.values())


def free_scales(network: Network, ranges: Mapping[int, Range]) -> list[list[int]]:
    """Return the groups of `same_scale` whose range can be moved: not that of pixels, nor one that TFLite fixes."""
    fixed = {network.input} | {op.outputs[0] for op in network.ops if op.kind in _FIXED}
    groups = [group for group in same_scale(network) if fixed.isdisjoint(group)]
    return [group for group in groups if len({ranges[tensor] for tensor in group}) == 1]


def _leaky(network: Network) -> dict[int, float]:
    return {
        tensor: float(ops[0].options.alpha)
        for tensor, ops in network.readers().items()
        if len(ops) == 1 and ops[0].kind == "LEAKY_RELU"
    }


def _minmax(activation: Activation, slope: float) -> Range:
    return float(activation.low.min()), float(activation.high.max())


def _percentile(activation: Activation, slope: float) -> Range:
    low, high = np.percentile(activation.sample, (PERCENTILE, 100 - PERCENTILE))
    return float(low), float(high)


def _mse(activation: Activation, slope: float) -> Range:
    """Return the range with the smallest mean squared error, found side by side: first one, then the other, twice."""
    values = activation.sample.ravel()
    values = values[:: -(-len(values) // _MAX_VALUES)]
    low, high = min(_minmax(activation, slope)[0], 0.0), max(_minmax(activation, slope)[1], 0.0)
    best_low, best_high = low, high
    for _ in range(2):
        if high > 0:
            best_high = _best(values, slope, [(best_low, high * f) for f in _FRACTIONS])[1]
        if low < 0:
            best_low = _best(values, slope, [(low * f, best_high) for f in _FRACTIONS])[0]
    return float(best_low), float(best_high)


def _best(values: Float32, slope: float, candidates: list[Range]) -> Range:
    return min(candidates, key=lambda c: _error(values, slope, *c))


def _error(values: Float32, slope: float, low: float, high: float) -> float:
    scale = np.float32((high - low) / 255 or 1.0)
    error = np.clip(np.round(values / scale), round(low / scale), round(high / scale)) * scale - values
    error = np.where(values < 0, error * np.float32(slope), error)
    return float(np.mean(np.square(error)))


Method = Callable[[Activation, float], Range]

METHODS: dict[str, Method] = {"minmax": _minmax, "percentile": _percentile, "mse": _mse}
"""Name -> (activation, slope below 0 of what reads it) -> range."""
