"""How a picture goes into a tensor: value ranges, layout and colour, from names and from the tensor itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.errors import SpecError
from edge.spec.model import Layout
from edge.tensor import TensorInfo

Scaling = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and std of `real = (pixel - mean) / std`."""

RANGES: dict[str, Scaling] = {
    "0..1": ((0.0,), (255.0,)),
    "-1..1": ((127.5,), (127.5,)),
    "0..255": ((0.0,), (1.0,)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Value ranges by the name that `--input-range` takes; "imagenet" is in RGB order."""

_LIMITS = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}
_TOLERANCE = 0.01
_TOO_WIDE = 4
"""How many levels a step of one pixel value may be before the values cannot be meant for the tensor."""


def named_range(name: str, color: str) -> Scaling:
    """Return the scaling of a named range, its channels in the order of `color`.

    Raises:
        SpecError: There is no such range.
    """
    if name not in RANGES:
        raise SpecError(f"--input-range {name!r}: expected one of {', '.join(RANGES)}")
    mean, std = RANGES[name]
    if len(mean) > 1 and color == "BGR":
        return mean[::-1], std[::-1]
    if len(mean) > 1 and color == "GRAY":
        # Luma weights are not ours to choose: a network on gray pictures was trained with numbers of its own.
        raise SpecError(f"--input-range {name}: has three channels, the input is GRAY; attach a mean and a std instead")
    return mean, std


def tensor_range(info: TensorInfo) -> Scaling | None:
    """Return the scaling that an integer input implies by its own quantisation; None where it settles nothing.

    It does where the values that the tensor can hold are those of a usual range, so that level follows level. A
    calibrated range of other limits says what the calibration pictures were, not what to feed.
    """
    if info.dtype.kind not in "iu":
        return None
    if not info.quantized:
        return RANGES["0..255"]
    limits = np.iinfo(info.dtype)
    low = (int(limits.min) - info.zero_point) * info.scale
    high = (int(limits.max) - info.zero_point) * info.scale
    for name, (least, most) in _LIMITS.items():
        slack = _TOLERANCE * (most - least)
        if abs(low - least) <= slack and abs(high - most) <= slack:
            return level_by_level(RANGES[name], info)
    return None


def level_by_level(scaling: Scaling, info: TensorInfo) -> Scaling:
    """Return the scaling that copies pixels to an 8-bit tensor, where that is what `scaling` amounts to.

    A quantised tensor of scale 1/128 covers -1..0.992, not -1..1: the rounded formula would move every second pixel
    by one level, where TensorFlow's own programs copy bytes. So they do for a uint8 tensor that cannot hold the values
    by far: "0..255", and the mean 0 and std 1 that TFLite Metadata often has, then mean the bytes themselves.
    """
    if not info.quantized or info.dtype.itemsize != 1 or len(set(scaling[0])) > 1 or len(set(scaling[1])) > 1:
        return scaling
    first = int(np.iinfo(info.dtype).min)
    mean, std = scaling[0][0], scaling[1][0]
    errors = [(pixel - mean) / std / info.scale + info.zero_point - first - pixel for pixel in (0, 255)]
    too_wide = info.dtype == np.uint8 and 1 / std > _TOO_WIDE * info.scale
    if max(map(abs, errors)) > 1.5 and not too_wide:
        return scaling
    return (float(info.zero_point - first),), (1 / info.scale,)


def layout_of(info: TensorInfo) -> tuple[Layout, int]:
    """Return the order of the input's axes and its channels.

    Raises:
        SpecError: No axis has 1 or 3 channels.
    """
    shape = info.shape
    if len(shape) == 4:
        # A picture 3 pixels wide is no picture: where both axes could be the channels, the last is.
        for layout, channels in (("NHWC", shape[3]), ("NCHW", shape[1])):
            if channels == 3:
                return _layout(layout), 3
        for layout, channels in (("NHWC", shape[3]), ("NCHW", shape[1])):
            if channels == 1:
                return _layout(layout), 1
    raise SpecError(f"input {info.name}: expected a picture, shape (1, H, W, 3) or (1, 3, H, W), found {shape}")


def _layout(name: str) -> Layout:
    return "NCHW" if name == "NCHW" else "NHWC"


def free(info: TensorInfo) -> bool:
    """Return whether the tensor's shape is open."""
    return any(n < 1 for n in info.shape)


def size_wh(info: TensorInfo, layout: Layout) -> tuple[int, int]:
    """Return the width and height of an input of fixed shape."""
    height, width = info.shape[1:3] if layout == "NHWC" else info.shape[2:4]
    return width, height


def describe(infos: Any) -> str:
    """Return tensors in a few words, for messages."""
    return ", ".join(f"{info.name} {info.shape if info.shape else '(shape open)'}" for info in infos)
