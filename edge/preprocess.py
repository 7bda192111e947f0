"""From pixels to the input tensor, written straight into the runtime's memory."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import SpecError
from edge.frame import Image
from edge.geometry import Transform, center_crop, letterbox
from edge.spec import InputSpec
from edge.tensor import TensorInfo

_CV_LUT_DTYPES = (np.uint8, np.int8, np.float32)


class Preprocessor:
    """Resizes, reorders and scales one picture at a time; owns its buffers, so one thread uses it.

    The step from pixel value to tensor value (mean, std, quantisation) is one table look-up for every dtype.
    """

    def __init__(self, spec: InputSpec, info: TensorInfo) -> None:
        """Prepare the buffers and the table.

        Args:
            spec: What the model wants.
            info: The input tensor, shape (1, H, W, C) or (1, C, H, W) as `spec.layout` says.

        Raises:
            SpecError: Spec and tensor contradict each other.
        """
        channels = 1 if spec.color == "GRAY" else 3
        shape = info.shape
        if len(shape) != 4 or shape[0] != 1:
            raise SpecError(f"input {info.name}: expected one picture, shape (1, H, W, {channels}), found {shape}")
        height, width, found = shape[1:] if spec.layout == "NHWC" else (*shape[2:], shape[1])
        if found != channels:
            raise SpecError(
                f"input {info.name}: expected {channels} channels for {spec.color} in {spec.layout}, found shape "
                f"{shape}; give the right layout and colour in the metadata or with --layout and --color"
            )
        if spec.size_wh is not None and spec.size_wh != (width, height):
            raise SpecError(
                f"input {info.name}: the metadata says {spec.size_wh[0]} x {spec.size_wh[1]} pixels, "
                f"the tensor is {width} x {height}"
            )
        self.size_wh = (width, height)
        self._spec = spec
        self._lut = _table(spec, info, channels)
        self._canvas = np.full((height, width, 3), spec.pad_value, np.uint8)
        self._ordered = np.empty((height, width, channels) if channels == 3 else (height, width), np.uint8)
        self._geometry: tuple[Transform, tuple[int, ...]] | None = None

    def write(self, image: Image, out: npt.NDArray[Any]) -> Transform:
        """Fill the input tensor.

        Args:
            image: uint8 (H, W, 3), BGR.
            out: The tensor, of the shape and dtype that this was made for.

        Returns:
            Where the picture lies in the input, to map boxes back.
        """
        transform = self._resize(image)
        self.fill(self.reorder(self._canvas, self._ordered)[None], out)
        return transform

    def reorder(self, image: Image, out: Image | None = None) -> Image:
        """Bring pixels into the model's colours.

        Args:
            image: uint8 (H, W, 3), BGR.
            out: Where the result may go.

        Returns:
            uint8 (H, W, 3), or (H, W) for a gray input; `image` itself when it is in order.
        """
        if self._spec.color == "BGR":
            return image
        code = cv2.COLOR_BGR2RGB if self._spec.color == "RGB" else cv2.COLOR_BGR2GRAY
        return np.asarray(cv2.cvtColor(image, code, dst=out), np.uint8)

    def fill(self, pixels: Image, out: npt.NDArray[Any]) -> None:
        """Turn pictures of the input's size into tensor values.

        Args:
            pixels: uint8 (n, H, W, 3) or (n, H, W) as `reorder` orders them, contiguous.
            out: The tensor, or as many rows of a batch as there are pictures.
        """
        lut = self._lut
        if self._spec.layout == "NCHW":
            for picture, target in zip(pixels, out, strict=True):
                planes = cv2.split(picture) if picture.ndim == 3 else (picture,)
                for channel, plane in enumerate(planes):
                    _apply(lut[:, min(channel, lut.shape[1] - 1)], plane, target[channel])
        elif lut.shape[1] == 1:
            # One table for all channels: rows of plain values are faster than pixels of three.
            rows = len(pixels) * self.size_wh[1]
            _apply(lut[:, 0], pixels.reshape(rows, -1), out.reshape(rows, -1))
        elif lut.dtype in _CV_LUT_DTYPES:
            size = (-1, self.size_wh[0], lut.shape[1])
            cv2.LUT(pixels.reshape(size), lut[None], dst=out.reshape(size))
        else:
            for channel in range(lut.shape[1]):
                out[..., channel] = lut[:, channel][pixels[..., channel]]

    def _resize(self, image: Image) -> Transform:
        source_wh = (image.shape[1], image.shape[0])
        if self._geometry is None or self._geometry[0].source_wh != source_wh:
            self._geometry = self._layout(source_wh)
        transform, (x, y, width, height) = self._geometry
        if self._spec.resize == "center-crop":
            image, target = image[y : y + height, x : x + width], self._canvas
        else:
            target = self._canvas[y : y + height, x : x + width]
        if image.shape == target.shape:
            target[:] = image
        else:
            cv2.resize(image, (target.shape[1], target.shape[0]), dst=target, interpolation=cv2.INTER_LINEAR)
        return transform

    def _layout(self, source_wh: tuple[int, int]) -> tuple[Transform, tuple[int, ...]]:
        width, height = self.size_wh
        if self._spec.resize == "center-crop":
            return center_crop(source_wh, self.size_wh)
        if self._spec.resize == "stretch":
            return Transform((width / source_wh[0], height / source_wh[1]), (0, 0), source_wh), (0, 0, width, height)
        self._canvas[:] = self._spec.pad_value  # bars move when the source's shape changes
        return letterbox(source_wh, self.size_wh, self._spec.resize == "letterbox-center")


def _apply(lut: npt.NDArray[Any], values: Image, out: npt.NDArray[Any]) -> None:
    if lut.dtype in _CV_LUT_DTYPES:
        cv2.LUT(values, lut, dst=out)
    else:
        np.take(lut, values, out=out)


def _table(spec: InputSpec, info: TensorInfo, channels: int) -> npt.NDArray[Any]:
    """Return the tensor value of each pixel value: (256, 1) when all channels are alike, else (256, channels)."""
    pixel = np.arange(256, dtype=np.float64)[:, None]
    mean, std = (np.broadcast_to(np.array(v, np.float64), channels) for v in (spec.mean, spec.std))
    if len(set(zip(mean, std, strict=True))) == 1:
        mean, std = mean[:1], std[:1]
    real = (pixel - mean) / std
    if info.dtype.kind == "f":
        values = real
    elif info.dtype.kind in "iu":
        # Integers without a scale are pixels; the metadata's mean and std speak of real values and do not apply.
        levels = real / info.scale + info.zero_point if info.quantized else np.broadcast_to(pixel, real.shape)
        limits = np.iinfo(info.dtype)
        values = np.clip(np.rint(levels), limits.min, limits.max)
    else:
        raise SpecError(f"input {info.name}: expected a float or integer tensor, found {info.dtype}")
    return values.astype(info.dtype)
