"""Cross-layer equalisation: all channels of a tensor get the same range, and the float function stays what it was.

A tensor has one int8 scale, set by its widest channel; a channel a tenth as wide has a tenth of the levels. Dividing
channel c of a tensor by s_c and multiplying what reads it by s_c changes nothing in float. It can be done wherever
everything between two convolutions is positively homogeneous, f(s x) = s f(x): ReLU, leaky ReLU, pooling, padding,
concatenation, addition of two tensors with the same s. So channels are joined into sets that must share one factor,
over residual additions and concatenations too, and each set gets one.

Source: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019; the exponent
that shares the burden between activations and kernels: G. Xiao et al., "SmoothQuant", 2023.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from convert.rescue.network import CONVOLUTIONS, Float32, Network, Op
from convert.rescue.statistics import Activation

_HOMOGENEOUS = ("LEAKY_RELU", "RELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD")
_LIMIT = 64.0
"""Largest factor and, inverted, smallest: beyond, a channel is dead, and its factor would only be noise."""


def equalize(network: Network, activations: Mapping[int, Activation], exponent: float = 0.5) -> dict[int, Activation]:
    """Equalise a network in place.

    Args:
        network: The network.
        activations: Its activations on calibration pictures.
        exponent: Share of the burden that activations are relieved of; the rest stays, so that kernels whose input
            channels differ less keep their precision.

    Returns:
        The activations as they are now.
    """
    sets = _Sets(network)
    factors = _factors(network, activations, sets, exponent)
    for op in network.ops:
        if op.kind not in CONVOLUTIONS:
            continue
        kernel, bias = network.kernel(op)
        before, after = factors[op.inputs[0]], factors[op.outputs[0]]
        if op.kind == "DEPTHWISE_CONV_2D":
            kernel = kernel * (np.repeat(before, len(after) // len(before)) / after)
        else:
            rows = after.reshape(-1, *[1] * (kernel.ndim - 1))
            # A kernel of groups sees its own part of the channels; those have the factor 1.
            kernel = kernel * (before if kernel.shape[-1] == len(before) else np.float32(1)) / rows
        network.set_kernel(op, kernel.astype(np.float32), (bias / after).astype(np.float32))
    return {tensor: activation.divided(factors[tensor]) for tensor, activation in activations.items()}


class _Sets:
    """Channels that must have one factor: a forest over (tensor, channel); node 0 holds those that cannot change."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._first: dict[int, int] = {}
        count = 1
        for tensor in network.activations():
            self._first[tensor] = count
            count += self.channels(tensor)
        self._parent = list(range(count))
        for tensor in (network.input, *network.outputs):
            self._fix(tensor)
        for op in network.ops:
            self._add(op)

    def channels(self, tensor: int) -> int:
        """Return the last side of a tensor."""
        return (self._network.shape(tensor) or (1,))[-1]

    def of(self, tensor: int) -> npt.NDArray[np.intp]:
        """Return the set of each channel of a tensor; set 0 must keep the factor 1."""
        first = self._first[tensor]
        return np.array([self._find(first + c) for c in range(self.channels(tensor))])

    def __len__(self) -> int:
        """Return a bound of the sets' numbers."""
        return len(self._parent)

    def _find(self, node: int) -> int:
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node

    def _join(self, a: int, b: int) -> None:
        a, b = self._find(a), self._find(b)
        self._parent[max(a, b)] = min(a, b)

    def _fix(self, tensor: int) -> None:
        for c in range(self.channels(tensor)):
            self._join(0, self._first[tensor] + c)

    def _same(self, a: int, b: int, offset: int = 0) -> None:
        """Join channel c of `a` with channel `offset` + c of `b`, modulo the channels of `b`."""
        width = self.channels(b)
        for c in range(self.channels(a)):
            self._join(self._first[a] + c, self._first[b] + (offset + c) % width)

    def _add(self, op: Op) -> None:
        sources = [index for index in op.inputs if index in self._first]
        out = op.outputs[0]
        homogeneous = op.activation in ("NONE", "RELU")
        if op.kind in CONVOLUTIONS:
            kernel, _ = self._network.kernel(op)
            if not homogeneous:
                self._fix(out)
            if op.kind != "DEPTHWISE_CONV_2D" and kernel.shape[-1] != self.channels(sources[0]):
                self._fix(sources[0])
        elif op.kind in _HOMOGENEOUS and homogeneous:
            self._same(sources[0], out)
        elif op.kind == "MEAN" and self._keeps_channels(op):
            self._same(sources[0], out)
        elif (
            op.kind == "ADD" and homogeneous and len(sources) == 2 and len({*map(self.channels, (*sources, out))}) == 1
        ):
            for source in sources:
                self._same(source, out)
        elif op.kind == "CONCATENATION":
            last = op.options.axis in (-1, len(self._network.shape(out)) - 1)
            offset = 0
            for source in sources:
                self._same(source, out, offset)
                offset += self.channels(source) if last else 0
        elif op.kind == "RESHAPE" and self.channels(sources[0]) % self.channels(out) == 0:
            self._same(sources[0], out)
        elif op.kind == "DEPTH_TO_SPACE":
            self._same(sources[0], out)
        else:
            for tensor in (*sources, *op.outputs):
                if tensor in self._first:
                    self._fix(tensor)

    def _keeps_channels(self, op: Op) -> bool:
        axes = self._network.constant(op.inputs[1])
        last = len(self._network.shape(op.inputs[0])) - 1
        return axes is not None and not {-1, last} & set(axes.ravel().tolist())


def _factors(
    network: Network, activations: Mapping[int, Activation], sets: _Sets, exponent: float
) -> dict[int, Float32]:
    """Return the factor of every channel of every activation."""
    width = np.zeros(len(sets))
    members = {tensor: sets.of(tensor) for tensor in network.activations()}
    slopes = _slopes(network)
    for tensor, owner in members.items():
        np.maximum.at(width, owner, _widths(activations[tensor], slopes.get(tensor, 1.0)))
    kernels = _kernel_widths(network, members, len(sets))
    factor = np.ones(len(sets))
    known = (width > 0) & (kernels > 0)
    factor[known] = width[known] ** exponent * kernels[known] ** (exponent - 1)
    # Around 1, so that no kernel's level moves more than it must.
    known[0] = False
    if known.any():
        factor[known] /= np.exp(np.mean(np.log(factor[known])))
    factor = np.clip(factor, 1 / _LIMIT, _LIMIT)
    factor[~known] = 1
    return {tensor: factor[owner].astype(np.float32) for tensor, owner in members.items()}


def _widths(activation: Activation, slope: float) -> npt.NDArray[np.float64]:
    """Return how far each channel reaches from 0; what lies below counts `slope` times."""
    return np.maximum(np.maximum(activation.high, 0), np.maximum(-activation.low, 0) * slope).astype(np.float64)


def _slopes(network: Network) -> dict[int, float]:
    """Return, for a tensor that only a leaky ReLU reads, the slope below 0: as much its negative side matters."""
    return {
        tensor: float(ops[0].options.alpha)
        for tensor, ops in network.readers().items()
        if len(ops) == 1 and ops[0].kind == "LEAKY_RELU"
    }


def _kernel_widths(
    network: Network, members: Mapping[int, npt.NDArray[np.intp]], count: int
) -> npt.NDArray[np.float64]:
    """Return the largest share that a set's channels have in the kernels that read them.

    Kernels have a scale per output channel, so only the differences between the inputs of one output cost precision;
    a depthwise kernel has none.
    """
    widths = np.zeros(count)
    for op in network.ops:
        if op.kind in CONVOLUTIONS:
            owner = members[op.inputs[0]]
            share = np.ones(len(owner))
            if op.kind != "DEPTHWISE_CONV_2D":
                kernel = np.abs(network.kernel(op)[0])
                if kernel.shape[-1] == len(owner):
                    rows = kernel.reshape(len(kernel), -1, len(owner)).max(axis=1)
                    share = (rows / np.maximum(rows.max(axis=1, keepdims=True), 1e-12)).max(axis=0)
            np.maximum.at(widths, owner, np.maximum(share, 1e-6))
    return np.where(widths > 0, widths, 1.0)
