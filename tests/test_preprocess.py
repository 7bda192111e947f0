"""Pixels to tensor: geometry, colour order, scale, every dtype and layout."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import SpecError
from edge.preprocess import Preprocessor
from edge.spec import InputSpec
from edge.tensor import TensorInfo


def run(
    image: np.ndarray, spec: InputSpec, shape: tuple[int, ...], dtype: str, scale: float = 0, zero: int = 0
) -> np.ndarray:
    info = TensorInfo("x", shape, np.dtype(dtype), scale, zero)
    out = np.full(shape, 77, dtype)
    Preprocessor(spec, info).write(image, out)
    return out


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    "mean_std", [((0.0,), (255.0,)), ((127.5,), (127.5,)), ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))]
)
def test_float_inputs_hold_what_the_formula_says(noise: np.ndarray, dtype: str, layout: str, mean_std: tuple) -> None:
    mean, std = mean_std
    shape = (1, 8, 8, 3) if layout == "NHWC" else (1, 3, 8, 8)
    out = run(noise, InputSpec(layout=layout, mean=mean, std=std), shape, dtype)
    expected = (noise[..., ::-1].astype(np.float64) - np.array(mean)) / np.array(std)
    if layout == "NCHW":
        expected = expected.transpose(2, 0, 1)
    np.testing.assert_allclose(out[0], expected, atol=2e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero"),
    [("int8", 1 / 255, -128), ("int8", 0.01865844801068306, -14), ("uint8", 1 / 255, 0), ("int16", 1 / 32768, 0)],
)
def test_quantised_inputs_stand_for_the_same_real_values(
    noise: np.ndarray, dtype: str, scale: float, zero: int
) -> None:
    for mean in ((0.0,), (10.0, 0.0, 5.0)):
        out = run(noise, InputSpec(mean=mean, std=(255.0,)), (1, 8, 8, 3), dtype, scale, zero)
        real = (out[0].astype(np.float64) - zero) * scale
        expected = (noise[..., ::-1].astype(np.float64) - np.array(mean)) / 255
        limits = (np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], np.float64) - zero) * scale
        np.testing.assert_allclose(real, np.clip(expected, *limits), atol=scale / 2 + 1e-9)


def test_integers_without_scale_take_the_pixels(noise: np.ndarray) -> None:
    out = run(noise, InputSpec(color="BGR"), (1, 8, 8, 3), "uint8")
    assert np.array_equal(out[0], noise)


def test_gray(noise: np.ndarray) -> None:
    out = run(np.full((8, 8, 3), 200, np.uint8), InputSpec(color="GRAY", std=(1.0,)), (1, 8, 8, 1), "float32")
    assert np.all(out == 200)


def test_letterbox_fills_the_bars_and_keeps_nothing_of_the_last_picture() -> None:
    info = TensorInfo("x", (1, 32, 32, 3), np.dtype("uint8"))
    pre = Preprocessor(InputSpec(color="BGR"), info)
    out = np.zeros((1, 32, 32, 3), np.uint8)
    pre.write(np.full((64, 64, 3), 255, np.uint8), out)
    assert out.min() == 255
    transform = pre.write(np.full((32, 64, 3), 9, np.uint8), out)
    assert np.all(out[0, :8] == 114) and np.all(out[0, 8:24] == 9) and np.all(out[0, 24:] == 114)
    assert transform.scale_xy == (0.5, 0.5) and transform.offset_xy == (0, 8)


def test_top_left_stretch_and_crop() -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, 32:] = 255
    topleft = run(picture, InputSpec(color="BGR", resize="letterbox-topleft"), (1, 32, 32, 3), "uint8")
    assert np.all(topleft[0, 16:] == 114) and topleft[0, :16, 20:].min() == 255
    stretched = run(picture, InputSpec(color="BGR", resize="stretch"), (1, 32, 32, 3), "uint8")
    assert stretched[0, :, :15].max() == 0 and stretched[0, :, 17:].min() == 255
    cropped = run(picture, InputSpec(color="BGR", resize="center-crop"), (1, 32, 32, 3), "uint8")
    assert cropped[0, :, :16].max() == 0 and cropped[0, :, 16:].min() == 255


@pytest.mark.parametrize(
    ("spec", "shape", "says"),
    [
        (InputSpec(), (1, 3, 8, 8), "--layout"),
        (InputSpec(color="GRAY"), (1, 8, 8, 3), "1 channels for GRAY"),
        (InputSpec(size_wh=(16, 8)), (1, 8, 8, 3), "16 x 8"),
        (InputSpec(), (4, 8, 8, 3), "one picture"),
    ],
)
def test_contradictions_are_named(spec: InputSpec, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Preprocessor(spec, TensorInfo("x", shape, np.dtype("float32")))
