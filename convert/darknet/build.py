"""Darknet sections to a Keras functional graph, one function per section.

Tensors are (1, H, W, C) throughout. Darknet's are channels first, which shows where it flattens: in connected layers
(the matrix is re-ordered once, here) and in `[reorg]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from convert.darknet.cfg import Section
from convert.darknet.weights import WeightsReader
from convert.layers import ChannelSlice, Mish, Upsample

LEAKY_SLOPE = 0.1
"""Darknet's `leaky`."""

_ACTIVATIONS: dict[str, Callable[[str], Any] | None] = {
    "linear": None,
    "leaky": lambda name: keras.layers.LeakyReLU(negative_slope=LEAKY_SLOPE, name=name),
    "relu": lambda name: keras.layers.ReLU(name=name),
    "relu6": lambda name: keras.layers.ReLU(6.0, name=name),
    "mish": lambda name: Mish(name=name),
    "swish": lambda name: keras.layers.Activation("silu", name=name),
    "logistic": lambda name: keras.layers.Activation("sigmoid", name=name),
}


@dataclass
class Graph:
    """The network while it is being built.

    Attributes:
        image: The input, (1, H, W, C).
        weights: Where parameters come from.
        layers: Output of each layer so far; None for a head, whose activated output is not built.
        heads: ([yolo] or [region] section, its raw input), in file order.
    """

    image: Any
    weights: WeightsReader
    layers: list[Any] = field(default_factory=list)
    heads: list[tuple[Section, Any]] = field(default_factory=list)

    def add(self, section: Section) -> None:
        """Append a layer.

        Raises:
            InputError: Its options contradict each other or the tensors that reach it.
        """
        build = BUILDERS[section.kind]
        self.layers.append(build(self, section, self.output(section, section.index - 1)))

    def output(self, section: Section, index: int, key: str | None = None) -> Any:
        """Return the output of layer `index` (-1: the image) for `section`, which names it in `key`."""
        if not -1 <= index < section.index:
            raise section.error(f"layer {index} is not one of the layers 0..{section.index - 1} before it", key)
        if index == -1:
            return self.image
        if self.layers[index] is None:
            # A [yolo] directly above is normal: the section is then a [route] that does not look at it.
            if section.kind == "route" and key is None:
                return None
            raise section.error(f"reads layer {index}, a detection head; heads are outputs and feed nothing", key)
        return self.layers[index]

    def referenced(self, section: Section, key: str) -> list[Any]:
        """Return the outputs of the layers listed in `key`; negative numbers count back from the section."""
        indices = section.integers(key, ())
        if not indices:
            raise section.error(f"{key}= is missing")
        absolute = [index if index >= 0 else section.index + index for index in indices]
        if min(absolute) < 0:
            raise section.error(f"{key}={section.text(key, '')} reaches before the first layer", key)
        return [self.output(section, index, key) for index in absolute]


def _name(section: Section, suffix: str = "") -> str:
    return f"{section.kind}_{section.index}{suffix}"


def _activate(section: Section, x: Any, default: str) -> Any:
    kind = section.text("activation", default)
    if kind not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise section.error(f"activation={kind} is not supported; supported: {known}", "activation")
    make = _ACTIVATIONS[kind]
    return x if make is None else make(_name(section, f"_{kind}"))(x)


def _strides(section: Section, default: int) -> tuple[int, int]:
    """Return (vertical, horizontal) stride."""
    stride = section.integer("stride", default, minimum=1)
    return section.integer("stride_y", stride, minimum=1), section.integer("stride_x", stride, minimum=1)


def _same_padding(side: int, reach: int, stride: int) -> tuple[int, int]:
    """Return what TensorFlow's SAME adds before and after a side; `reach` is the dilated kernel's size."""
    total = max((math.ceil(side / stride) - 1) * stride + reach - side, 0)
    return total // 2, total - total // 2


def _convolutional(graph: Graph, section: Section, x: Any) -> Any:
    filters = section.integer("filters", 1, minimum=1)
    size = section.integer("size", 1, minimum=1)
    groups = section.integer("groups", 1, minimum=1)
    dilation = section.integer("dilation", 1, minimum=1) if size > 1 else 1
    strides = _strides(section, 1)
    padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0, minimum=0)
    normalized = bool(section.integer("batch_normalize", 0) or section.integer("cbn", 0))
    height, width, channels = x.shape[1:]
    if channels % groups or filters % groups:
        raise section.error(f"groups={groups} divides neither {channels} input nor {filters} output channels", "groups")
    if dilation > 1 and max(strides) > 1:
        raise section.error(f"dilation={dilation} with a stride of {max(strides)} is not supported", "dilation")
    reach = dilation * (size - 1) + 1
    pads = []
    for side, stride in zip((height, width), strides, strict=True):
        count = (side + 2 * padding - size) // stride + 1
        if count < 1:
            raise section.error(f"a kernel of {size} does not fit the {width} x {height} input with padding {padding}")
        if count != (side + 2 * padding * dilation - reach) // stride + 1:
            raise section.error(f"dilation={dilation} with size={size}, padding={padding} is not defined", "dilation")
        before = padding * dilation
        pads.append((before, max((count - 1) * stride + reach - side - before, 0)))
    same = [_same_padding(side, reach, stride) for side, stride in zip((height, width), strides, strict=True)]
    if pads != same and any(sum(pad) for pad in pads):
        x = keras.layers.ZeroPadding2D(tuple(pads), name=_name(section, "_pad"))(x)

    kernel, bias = graph.weights.convolution(section, (filters, channels // groups, size, size), normalized)
    options = {
        "kernel_size": size,
        "strides": strides,
        "padding": "same" if pads == same else "valid",
        "dilation_rate": dilation,
        "bias_initializer": "zeros",
        "name": _name(section),
    }
    if groups == channels and groups > 1 and strides[0] == strides[1]:
        layer = keras.layers.DepthwiseConv2D(
            depth_multiplier=filters // channels, depthwise_initializer="zeros", **options
        )
        # (C * m, 1, kh, kw) -> (kh, kw, C, m): output c * m + j belongs to input c in both.
        kernel = kernel.reshape(channels, filters // channels, size, size).transpose(2, 3, 0, 1)
    else:
        layer = keras.layers.Conv2D(filters, groups=groups, kernel_initializer="zeros", **options)
        kernel = kernel.transpose(2, 3, 1, 0)
    x = layer(x)
    layer.set_weights([kernel, bias])
    return _activate(section, x, "logistic")


def _connected(graph: Graph, section: Section, x: Any) -> Any:
    outputs = section.integer("output", 1, minimum=1)
    height, width, channels = x.shape[1:]
    matrix, bias = graph.weights.connected(
        section, outputs, height * width * channels, bool(section.integer("batch_normalize", 0))
    )
    # Darknet flattens (C, H, W), this graph (H, W, C).
    matrix = matrix.reshape(outputs, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, outputs)
    layer = keras.layers.Dense(outputs, kernel_initializer="zeros", name=_name(section))
    x = layer(keras.layers.Flatten(name=_name(section, "_flat"))(x))
    layer.set_weights([matrix, bias])
    x = _activate(section, x, "logistic")
    return keras.layers.Reshape((1, 1, outputs), name=_name(section, "_cell"))(x)


def _maxpool(graph: Graph, section: Section, x: Any) -> Any:
    """Windows start at `stride * i - padding // 2`; what lies outside the picture does not count.

    Where neither VALID nor SAME puts the windows there, pool with stride 1 and take every `stride`-th result.
    """
    strides = _strides(section, 1)
    size = section.integer("size", strides[1], minimum=1)
    padding = section.integer("padding", size - 1, minimum=0)
    height, width, channels = x.shape[1:]
    if padding > size - 1:
        raise section.error(f"padding={padding} leaves windows without a pixel, expected at most {size - 1}", "padding")
    counts, starts, valid, same = [], [], True, True
    for side, stride in zip((height, width), strides, strict=True):
        count = (side + padding - size) // stride + 1
        if count < 1:
            raise section.error(f"a window of {size} does not fit the {width} x {height} input", "size")
        before = padding // 2
        valid &= before == 0 and (count - 1) * stride + size <= side and (side - size) // stride + 1 == count
        same &= before == _same_padding(side, size, stride)[0] and math.ceil(side / stride) == count
        counts.append(count)
        starts.append((size - 1) // 2 - before)
    if valid or same:
        mode = "valid" if valid else "same"
        return keras.layers.MaxPooling2D(size, strides, padding=mode, name=_name(section))(x)
    x = keras.layers.MaxPooling2D(size, 1, padding="same", name=_name(section))(x)
    crops = []
    for side, stride, count, start in zip((height, width), strides, counts, starts, strict=True):
        crops.append((start, side - start - ((count - 1) * stride + 1)))
    if any(sum(crop) for crop in crops):
        x = keras.layers.Cropping2D(tuple(crops), name=_name(section, "_crop"))(x)
    return x if max(strides) == 1 else _every(x, strides, _name(section, "_pick"))


def _every(x: Any, strides: tuple[int, int], name: str) -> Any:
    """Return every n-th row and column, from the first; unlike a strided slice, XNNPACK runs this convolution."""
    pick = keras.layers.DepthwiseConv2D(1, strides, use_bias=False, name=name)
    picked = pick(x)
    pick.set_weights([np.ones((1, 1, x.shape[-1], 1), np.float32)])
    return picked


def _avgpool(graph: Graph, section: Section, x: Any) -> Any:
    return keras.layers.GlobalAveragePooling2D(keepdims=True, name=_name(section))(x)


def _route(graph: Graph, section: Section, x: Any) -> Any:
    inputs = graph.referenced(section, "layers")
    groups = section.integer("groups", 1, minimum=1)
    group = section.integer("group_id", 0, minimum=0)
    if len({tuple(t.shape[1:3]) for t in inputs}) > 1:
        shapes = ", ".join(f"{t.shape[2]} x {t.shape[1]}" for t in inputs)
        raise section.error(f"joins layers of different sizes: {shapes}", "layers")
    if group >= groups:
        raise section.error(f"group_id={group}, expected 0..{groups - 1}", "group_id")
    parts = []
    for index, tensor in enumerate(inputs):
        channels = tensor.shape[-1]
        if channels % groups:
            raise section.error(f"groups={groups} does not divide {channels} channels", "groups")
        if groups > 1:
            part = channels // groups
            tensor = ChannelSlice(group * part, part, name=_name(section, f"_group_{index}"))(tensor)
        parts.append(tensor)
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(name=_name(section))(parts)


def _shortcut(graph: Graph, section: Section, x: Any) -> Any:
    """The previous layer plus others: as many channels as both have, and every n-th pixel of an n times larger one."""
    channels = x.shape[-1]
    for index, other in enumerate(graph.referenced(section, "from")):
        strides = other.shape[1] // x.shape[1], other.shape[2] // x.shape[2]
        if other.shape[1:3] != (x.shape[1] * strides[0], x.shape[2] * strides[0]):
            sizes = f"{x.shape[2]} x {x.shape[1]} and {other.shape[2]} x {other.shape[1]}"
            raise section.error(f"adds layers of sizes that do not fit: {sizes}", "from")
        if strides[0] > 1:
            other = _every(other, strides, _name(section, f"_pick_{index}"))
        if other.shape[-1] > channels:
            other = ChannelSlice(0, channels, name=_name(section, f"_head_{index}"))(other)
        if other.shape[-1] < channels:
            own = other.shape[-1]
            first = ChannelSlice(0, own, name=_name(section, f"_first_{index}"))(x)
            rest = ChannelSlice(own, channels - own, name=_name(section, f"_rest_{index}"))(x)
            added = keras.layers.Add(name=_name(section, f"_{index}"))([first, other])
            x = keras.layers.Concatenate(name=_name(section, f"_join_{index}"))([added, rest])
        else:
            x = keras.layers.Add(name=_name(section, f"_{index}"))([x, other])
    return _activate(section, x, "linear")


def _upsample(graph: Graph, section: Section, x: Any) -> Any:
    stride = section.integer("stride", 2, minimum=1)
    return x if stride == 1 else Upsample(stride, name=_name(section))(x)


def _reorg(graph: Graph, section: Section, x: Any) -> Any:
    """Darknet's space-to-depth, which reads the tensor as if it had 1 / s^2 of its channels on an s times larger grid.

    The layer was written for the opposite direction and is run backwards; trained networks depend on the resulting
    order. On channels-first memory: view (C, H, W) as (C / s^2, H, s, W, s), move the two s axes to the front, view
    the result as (C s^2, H / s, W / s).
    """
    stride = section.integer("stride", 1, minimum=1)
    height, width, channels = x.shape[1:]
    if channels % stride**2 or height % stride or width % stride:
        raise section.error(f"stride={stride} does not divide {width} x {height} x {channels}", "stride")
    steps = (
        keras.layers.Permute((3, 1, 2), name=_name(section, "_channels_first")),
        keras.layers.Reshape((channels // stride**2, height, stride, width, stride), name=_name(section, "_cells")),
        keras.layers.Permute((3, 5, 1, 2, 4), name=_name(section, "_gather")),
        keras.layers.Reshape((channels * stride**2, height // stride, width // stride), name=_name(section, "_small")),
        keras.layers.Permute((2, 3, 1), name=_name(section)),
    )
    for step in steps:
        x = step(x)
    return x


def _softmax(graph: Graph, section: Section, x: Any) -> Any:
    height, width, channels = x.shape[1:]
    if (height, width) != (1, 1):
        raise section.error(f"expected a 1 x 1 input ([avgpool] or [connected] before it), found {width} x {height}")
    x = keras.layers.Softmax(name=_name(section))(keras.layers.Flatten(name=_name(section, "_flat"))(x))
    return keras.layers.Reshape((1, 1, channels), name=_name(section, "_cell"))(x)


def _pass(graph: Graph, section: Section, x: Any) -> Any:
    """Do nothing: what the section does, it does in training."""
    return x


def _head(graph: Graph, section: Section, x: Any) -> None:
    graph.heads.append((section, x))


BUILDERS: dict[str, Callable[[Graph, Section, Any], Any]] = {
    "convolutional": _convolutional,
    "connected": _connected,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "route": _route,
    "shortcut": _shortcut,
    "upsample": _upsample,
    "dropout": _pass,
    "cost": _pass,
    "reorg": _reorg,
    "softmax": _softmax,
    "region": _head,
    "yolo": _head,
}
"""Section -> (graph, section, previous output) -> output."""
