"""Which values a picture becomes, by a name or by the tensor itself."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import SpecError
from edge.preprocess import Preprocessor
from edge.spec import InputSpec
from edge.spec.inputs import RANGES, layout_of, level_by_level, named_range, size_wh, tensor_range
from edge.tensor import TensorInfo


def info(dtype: str, scale: float = 0.0, zero_point: int = 0, shape: tuple[int, ...] = (1, 8, 8, 3)) -> TensorInfo:
    return TensorInfo("picture", shape, np.dtype(dtype), scale, zero_point)


@pytest.mark.parametrize(
    ("tensor", "implied"),
    [
        (info("uint8", 1 / 128, 128), ((128.0,), (128.0,))),
        (info("uint8", 1 / 128, 127), ((127.0,), (128.0,))),
        (info("uint8", 2 / 255, 127), ((127.0,), (127.5,))),
        (info("uint8", 1 / 255, 0), ((0.0,), (255.0,))),
        (info("int8", 1 / 255, -128), ((0.0,), (255.0,))),
        (info("int8", 1 / 128, 0), ((128.0,), (128.0,))),
        (info("int8", 1.0, -128), ((0.0,), (1.0,))),
        (info("uint8", 1.0, 0), ((0.0,), (1.0,))),
        (info("uint8"), ((0.0,), (1.0,))),
        # What calibration saw says nothing about what to feed.
        (info("int8", 0.01865844801068306, -14), None),
        (info("uint8", 0.5, 0), None),
        (info("float32"), None),
    ],
)
def test_an_integer_tensor_may_settle_its_range(tensor: TensorInfo, implied: object) -> None:
    found = tensor_range(tensor)
    if implied is None:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_allclose(found, implied, rtol=1e-6)


@pytest.mark.parametrize("tensor", [info("uint8", 1 / 128, 128), info("int8", 1 / 128, 0), info("int8", 1 / 255, -128)])
def test_pixels_are_copied_level_by_level(tensor: TensorInfo) -> None:
    implied = tensor_range(tensor)
    assert implied is not None
    mean, std = implied
    image = np.arange(8 * 8 * 3).reshape(8, 8, 3).astype(np.uint8)
    out = np.zeros(tensor.shape, tensor.dtype)
    Preprocessor(InputSpec(color="BGR", mean=mean, std=std), tensor).write(image, out)
    np.testing.assert_array_equal(out[0].astype(int) - int(np.iinfo(tensor.dtype).min), image)


def test_a_range_far_from_the_levels_is_kept() -> None:
    assert level_by_level(RANGES["0..1"], info("int8", 0.0187, -14)) == RANGES["0..1"]
    assert level_by_level(RANGES["imagenet"], info("uint8", 1 / 128, 128)) == RANGES["imagenet"]
    assert level_by_level(RANGES["-1..1"], info("float32")) == RANGES["-1..1"]


def test_named_ranges() -> None:
    assert named_range("-1..1", "RGB") == ((127.5,), (127.5,))
    mean, _ = named_range("imagenet", "RGB")
    assert named_range("imagenet", "BGR")[0] == mean[::-1]
    with pytest.raises(SpecError, match=r"--input-range '0-1': expected one of 0..1, -1..1, 0..255, imagenet"):
        named_range("0-1", "RGB")
    with pytest.raises(SpecError, match="the input is GRAY"):
        named_range("imagenet", "GRAY")


@pytest.mark.parametrize(
    ("shape", "layout", "channels", "size"),
    [
        ((1, 48, 64, 3), "NHWC", 3, (64, 48)),
        ((1, 3, 48, 64), "NCHW", 3, (64, 48)),
        ((1, 48, 64, 1), "NHWC", 1, (64, 48)),
        ((1, 1, 48, 64), "NCHW", 1, (64, 48)),
        ((1, 3, 3, 3), "NHWC", 3, (3, 3)),
    ],
)
def test_the_layout_is_told_by_the_channels(
    shape: tuple[int, ...], layout: str, channels: int, size: tuple[int, int]
) -> None:
    tensor = info("float32", shape=shape)
    found = layout_of(tensor)
    assert found == (layout, channels)
    assert size_wh(tensor, found[0]) == size


@pytest.mark.parametrize("shape", [(1, 48, 64, 4), (1, 100), (1, 48, 64), ()])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match=r"expected a picture, shape \(1, H, W, 3\)"):
        layout_of(info("float32", shape=shape))
