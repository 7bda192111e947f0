"""Darknet's arithmetic, written down a second time: plain NumPy, channels first, from its C sources' definitions.

Networks are lists of `(kind, options)`; `write` makes the two files of one, `run` computes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Network = list[tuple[str, dict[str, Any]]]


class Weights:
    """Random parameters, handed out in Darknet's order and remembered for the file."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.chunks: list[npt.NDArray[np.float32]] = []

    def draw(self, *shape: int, low: float, high: float) -> Array:
        values = self.rng.uniform(low, high, shape).astype(np.float32)
        self.chunks.append(values.ravel())
        return values.astype(np.float64)

    def convolution(self, filters: int, fan_in: tuple[int, ...], normalized: bool) -> tuple[Array, Array, Any]:
        bias = self.draw(filters, low=-0.5, high=0.5)
        norm = self._norm(filters) if normalized else None
        limit = (3 / np.prod(fan_in)) ** 0.5
        return self.draw(filters, *fan_in, low=-limit, high=limit), bias, norm

    def connected(self, outputs: int, inputs: int, normalized: bool) -> tuple[Array, Array, Any]:
        bias = self.draw(outputs, low=-0.5, high=0.5)
        limit = (3 / inputs) ** 0.5
        matrix = self.draw(outputs, inputs, low=-limit, high=limit)
        return matrix, bias, self._norm(outputs) if normalized else None

    def _norm(self, filters: int) -> tuple[Array, Array, Array]:
        scale = self.draw(filters, low=0.5, high=1.5)
        mean = self.draw(filters, low=-0.5, high=0.5)
        return scale, mean, self.draw(filters, low=0.2, high=2.0)

    def array(self) -> npt.NDArray[np.float32]:
        return np.concatenate(self.chunks) if self.chunks else np.zeros(0, np.float32)


def write(folder: Path, network: Network, floats: npt.NDArray[np.float32], wide: bool = True) -> tuple[Path, Path]:
    """Write `net.cfg` and `net.weights`; for `wide` see `write_weights`."""
    lines = [f"[{kind}]\n" + "".join(f"{key}={value}\n" for key, value in options.items()) for kind, options in network]
    cfg, weights = folder / "net.cfg", folder / "net.weights"
    cfg.write_text("\n".join(lines))
    write_weights(weights, floats, wide)
    return cfg, weights


def write_weights(path: Path, floats: npt.NDArray[np.float32], wide: bool = True) -> None:
    """Write a `.weights` file; `wide` is the header with a 64-bit counter."""
    header = np.array([0, 2, 0], "<i4").tobytes() + np.array([64], "<u8").tobytes()
    if not wide:
        header = np.array([0, 1, 0, 64], "<i4").tobytes()
    path.write_bytes(header + floats.astype("<f4").tobytes())


def activate(x: Array, kind: str) -> Array:
    if kind == "linear":
        return x
    if kind == "leaky":
        return np.where(x > 0, x, 0.1 * x)
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "relu6":
        return np.clip(x, 0, 6)
    if kind == "logistic":
        return 1 / (1 + np.exp(-x))
    if kind == "swish":
        return x / (1 + np.exp(-x))
    if kind == "mish":
        return x * np.tanh(np.log1p(np.exp(x)))
    raise AssertionError(kind)


def normalize(x: Array, bias: Array, norm: Any) -> Array:
    """Batch normalisation of (C, ...), with the epsilon that the converter documents."""
    side = (-1, *[1] * (x.ndim - 1))
    if norm is not None:
        scale, mean, variance = norm
        x = (x - mean.reshape(side)) / np.sqrt(variance.reshape(side) + 1e-6) * scale.reshape(side)
    return x + bias.reshape(side)


def convolve(x: Array, kernel: Array, stride: tuple[int, int], pad: int, dilation: int, groups: int) -> Array:
    """(C, H, W) * (F, C / groups, k, k) -> (F, h, w), zeros outside."""
    filters, per_group, size, _ = kernel.shape
    pad *= dilation
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    reach = dilation * (size - 1) + 1
    height, width = ((side - reach) // step + 1 for side, step in zip(x.shape[1:], stride, strict=True))
    out = np.zeros((filters, height, width))
    for group in range(groups):
        source = x[group * per_group : (group + 1) * per_group]
        these = slice(group * filters // groups, (group + 1) * filters // groups)
        for dy in range(size):
            for dx in range(size):
                top, left = dy * dilation, dx * dilation
                window = source[
                    :, top : top + height * stride[0] : stride[0], left : left + width * stride[1] : stride[1]
                ]
                out[these] += np.einsum("fc,chw->fhw", kernel[these, :, dy, dx], window[:, :height, :width])
    return out


def maxpool(x: Array, size: int, stride: int, padding: int) -> Array:
    channels, height, width = x.shape
    out = np.full((channels, (height + padding - size) // stride + 1, (width + padding - size) // stride + 1), -np.inf)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            top, left = i * stride - padding // 2, j * stride - padding // 2
            window = x[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)]
            out[:, i, j] = window.max(axis=(1, 2))
    return out


def reorg(x: Array, stride: int) -> Array:
    """Index by index as `reorg_cpu(..., forward=0)` does it."""
    channels, height, width = x.shape
    flat, out = x.ravel(), np.empty(x.size)
    small = channels // stride**2
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                offset = k // small
                column, row = i * stride + offset % stride, j * stride + offset // stride
                out[i + width * (j + height * k)] = flat[
                    column + width * stride * (row + height * stride * (k % small))
                ]
    return out.reshape(channels * stride**2, height // stride, width // stride)


def shortcut(x: Array, other: Array) -> Array:
    step = max(other.shape[1] // x.shape[1], 1)
    channels = min(x.shape[0], other.shape[0])
    out = x.copy()
    out[:channels] += other[:channels, ::step, ::step]
    return out


def run(network: Network, image: Array, weights: Weights) -> list[Array]:
    """Compute a network: image (C, H, W) -> raw inputs of its heads, or its last output.

    Parameters are drawn from `weights` as the layers ask for them.
    """
    outputs: list[Array] = []
    heads = []
    x = image
    for index, (kind, options) in enumerate(network[1:]):
        get = options.get
        if kind == "convolutional":
            size, groups = get("size", 1), get("groups", 1)
            shape = (x.shape[0] // groups, size, size)
            kernel, bias, norm = weights.convolution(options["filters"], shape, bool(get("batch_normalize")))
            pad = size // 2 if get("pad") else get("padding", 0)
            stride = (get("stride_y", get("stride", 1)), get("stride_x", get("stride", 1)))
            x = convolve(x, kernel, stride, pad, get("dilation", 1), groups)
            x = activate(normalize(x, bias, norm), options["activation"])
        elif kind == "connected":
            matrix, bias, norm = weights.connected(options["output"], x.size, bool(get("batch_normalize")))
            x = activate(normalize(matrix @ x.ravel(), bias, norm), options["activation"]).reshape(-1, 1, 1)
        elif kind == "maxpool":
            x = maxpool(x, options["size"], options["stride"], get("padding", options["size"] - 1))
        elif kind == "avgpool":
            x = x.mean(axis=(1, 2), keepdims=True)
        elif kind == "route":
            parts = [outputs[n if n >= 0 else index + n] for n in map(int, str(options["layers"]).split(","))]
            groups, group = get("groups", 1), get("group_id", 0)
            step = [part.shape[0] // groups for part in parts]
            x = np.concatenate([part[group * n : (group + 1) * n] for part, n in zip(parts, step, strict=True)])
        elif kind == "shortcut":
            for n in map(int, str(options["from"]).split(",")):
                x = shortcut(x, outputs[n if n >= 0 else index + n])
            x = activate(x, get("activation", "linear"))
        elif kind == "upsample":
            x = x.repeat(options["stride"], axis=1).repeat(options["stride"], axis=2)
        elif kind == "reorg":
            x = reorg(x, options["stride"])
        elif kind == "softmax":
            power = np.exp(x - x.max())
            x = power / power.sum()
        elif kind in ("yolo", "region"):
            heads.append(x)
        else:
            assert kind in ("dropout", "cost"), kind
        outputs.append(x)
    return heads or [x]
