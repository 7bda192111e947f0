"""The networks: published counts, shapes, and what they cost."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

import models
from models.macs import LayerCost, layer_costs, measure
from models.networks.se_resnet import squeeze_excite

# Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COUNTS = {
    "lenet-5": (61_706, 61_706),
    "mnist-convnet-a": (93_322, 93_322),
    "mnist-convnet-b": (104_202, 104_202),
    "fashion-convnet": (1_413_834, 1_413_834),
    "alexnet": (60_965_224, 60_965_224),
    "vgg-16": (138_357_544, 138_357_544),
    "vgg-19": (143_667_240, 143_667_240),
    "googlenet": (6_998_552, 6_998_552),
    "resnet-18": (11_699_112, 11_689_512),
    "resnet-34": (21_814_696, 21_797_672),
    "resnet-50": (25_636_712, 25_583_592),
    "resnet-101": (44_707_176, 44_601_832),
    "resnet-152": (60_419_944, 60_268_520),
    "se-resnet-18": (11_788_192, 11_778_592),
    "se-resnet-34": (21_975_892, 21_958_868),
    "se-resnet-50": (28_141_144, 28_088_024),
    "xception": (22_910_480, 22_855_952),
    "mobilenet-v1-0.25": (475_544, 470_072),
    "mobilenet-v2": (3_538_984, 3_504_872),
    "yolov3": (62_001_757, 61_949_149),
    "yolov3-tiny": (8_858_734, 8_852_366),
}
"""Parameters in all and trainable ones, as published: by the papers, by Keras (VGG, deep ResNets, Xception, MobileNet),
by torchvision (ResNet-18 and 34: the trainable ones), by Caffe (AlexNet, GoogLeNet), by Darknet's files."""

MMACS = {
    "alexnet": 724,
    "vgg-16": 15_470,
    "googlenet": 1_583,
    "resnet-50": 3_858,
    "mobilenet-v2": 301,
    "yolov3": 32_932,
    "yolov3-tiny": 2_782,
}
"""Millions of multiply-accumulates as published (Darknet prints twice as many operations)."""

FEATURES = {
    "alexnet": ("conv_5", (6, 6, 256)),
    "vgg-16": ("pool_5", (7, 7, 512)),
    "vgg-19": ("pool_5", (7, 7, 512)),
    "googlenet": ("inception_5b", (7, 7, 1024)),
    "resnet-18": ("stage5_block2_out", (7, 7, 512)),
    "resnet-34": ("stage4_block6_out", (14, 14, 256)),
    "resnet-50": ("stage5_block3_out", (7, 7, 2048)),
    "resnet-101": ("stage4_block23_out", (14, 14, 1024)),
    "resnet-152": ("stage3_block8_out", (28, 28, 512)),
    "se-resnet-50": ("stage2_block3_out", (56, 56, 256)),
    "xception": ("exit_2048_relu", (10, 10, 2048)),
}
"""Output of a late layer at the published input size, from the tables of the papers."""


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_shapes_are_those_of_the_paper(name: str) -> None:
    layers = measure(name)
    assert (sum(layer.parameters for layer in layers), sum(layer.trainable for layer in layers)) == COUNTS[name]
    if name in MMACS:
        assert round(sum(layer.macs for layer in layers) / 1e6) == MMACS[name]
    if name in FEATURES:
        layer, shape = FEATURES[name]
        assert {row.name: row.output_shape for row in layers}[layer] == shape
    row = models.MODELS[name]
    assert layers[0].output_shape == row.input_shape
    if row.task == "classify":
        assert (layers[-1].name, layers[-1].output_shape) == ("scores", (row.classes,))


def test_measuring_leaves_no_variable_waiting_for_a_value() -> None:
    """They would be filled, half a gigabyte for VGG-19, the next time that anything is built."""
    measure("mnist-convnet-b")
    waiting = keras.src.backend.common.global_state.get_global_attribute("uninitialized_variables")
    assert not waiting


def test_lenet_layer_by_layer() -> None:
    layers = {layer.name: layer for layer in measure("lenet-5")}
    assert [layer.parameters for layer in layers.values() if layer.parameters] == [156, 2_416, 48_120, 10_164, 850]
    shapes = {"c1": (28, 28, 6), "s2": (14, 14, 6), "c3": (10, 10, 16), "s4": (5, 5, 16), "c5": (1, 1, 120)}
    assert {name: layers[name].output_shape for name in shapes} == shapes
    assert layers["c1"].macs == 28 * 28 * 6 * 25 and layers["f6"].macs == 120 * 84


def test_mnist_convnet_a_before_its_head() -> None:
    layers = measure("mnist-convnet-a")
    assert sum(layer.parameters for layer in layers if layer.kind == "Conv2D") == 55_744
    assert [layer.kind for layer in layers].count("MaxPooling2D") == 2


def test_the_small_fashion_network_is_a_quarter_of_the_work_and_fits_into_a_megabyte() -> None:
    large, small = measure("fashion-convnet"), measure("fashion-convnet-small")
    assert sum(layer.macs for layer in large) > 4 * sum(layer.macs for layer in small)
    assert 2 * sum(layer.parameters for layer in small) < 1_000_000


def test_macs_of_every_kind_of_layer() -> None:
    """By hand: the multiplications of one cell times the cells."""
    image = keras.Input((8, 6, 4))
    x = keras.layers.Conv2D(6, 3, padding="same", groups=2, name="grouped")(image)
    x = keras.layers.DepthwiseConv2D(3, 2, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = keras.layers.SeparableConv2D(5, 3, padding="same", name="separable")(x)
    x = keras.layers.Conv2DTranspose(7, 2, 2, name="transposed")(x)
    x = keras.layers.Dense(3, name="dense")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    macs = {row.name: row.macs for row in layer_costs(keras.Model(image, x)) if row.macs}
    assert macs == {
        "grouped": 8 * 6 * 9 * 2 * 6,
        "depthwise": 4 * 3 * 9 * 12,
        "separable": 4 * 3 * (9 * 12 + 12 * 5),
        "transposed": 4 * 3 * 5 * 4 * 7,
        "dense": 8 * 6 * 7 * 3,
    }


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet-5", (36, 32, 1)),
        ("mnist-convnet-a", (20, 24, 1)),
        ("mnist-convnet-b", (20, 24, 3)),
        ("fashion-convnet", (16, 12, 1)),
        ("fashion-convnet-small", (16, 12, 1)),
        ("googlenet", (64, 32, 3)),
        ("resnet-18", (64, 64, 3)),
        ("resnet-18", (32, 32, 3)),
        ("se-resnet-18", (32, 32, 1)),
        ("mobilenet-v1-0.25", (64, 32, 3)),
        ("mobilenet-v2-0.35", (32, 64, 3)),
    ],
)
def test_other_sizes_and_classes(name: str, shape: tuple[int, int, int]) -> None:
    model = models.build(name, input_shape=shape, num_classes=7)
    scores = np.asarray(model(np.random.default_rng(0).random((2, *shape), np.float32), training=False))
    assert scores.shape == (2, 7) and np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    last = model.layers[-1]
    assert (model.name, model.inputs[0].name, last.name, last.dtype) == (name, "image", "scores", "float32")
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)


@pytest.mark.parametrize(("side", "cells"), [(32, 16), (63, 32), (64, 16), (128, 32)])
def test_small_pictures_reach_the_residual_blocks_with_some_cells_left(side: int, cells: int) -> None:
    layers = {row.name: row for row in measure("resnet-18", input_shape=(side, side, 3), num_classes=10)}
    assert layers["stage2_block1_out"].output_shape == (cells, cells, 64)


def test_squeeze_and_excitation_is_the_papers() -> None:
    image = keras.Input((4, 5, 32))
    model = keras.Model(image, squeeze_excite(image, "block"))
    rng = np.random.default_rng(0)
    first, first_bias, second, second_bias = (rng.normal(size=shape) for shape in ((32, 2), 2, (2, 32), 32))
    model.get_layer("block_reduce").set_weights([first[None, None], first_bias])
    model.get_layer("block_excite").set_weights([second[None, None], second_bias])
    x = rng.normal(size=(3, 4, 5, 32)).astype(np.float32)
    hidden = np.maximum(x.mean(axis=(1, 2)) @ first + first_bias, 0)
    weight = 1 / (1 + np.exp(-(hidden @ second + second_bias)))
    np.testing.assert_allclose(model(x), x * weight[:, None, None], rtol=1e-4, atol=1e-5)


def test_costs_of_a_layer_row() -> None:
    assert measure("mnist-convnet-b")[1] == LayerCost("conv_1", "Conv2D", (26, 26, 32), 320, 320, 26 * 26 * 32 * 9)
    assert math.prod(measure("edge-yolo-n")[0].output_shape) == 320 * 320 * 3
