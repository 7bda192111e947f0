"""GoogLeNet.

Source: C. Szegedy et al., "Going Deeper with Convolutions", 2014, table 1. The two auxiliary classifiers, which help in
training only and are thrown away afterwards, are left out. Shapes at 224 x 224:

    conv_1   112 x 112 x   64, 7 x 7 stride 2; pooled 3 x 3 stride 2 to 56 x 56, normalised
    conv_2    56 x  56 x  192, 1 x 1 to 64, then 3 x 3; normalised, pooled to 28 x 28
    3a, 3b    28 x  28 x  480; pooled to 14 x 14
    4a - 4e   14 x  14 x  832; pooled to 7 x 7
    5a, 5b     7 x   7 x 1024; averaged, a dropout of 0.4
"""

from __future__ import annotations

from typing import Any

import keras

from models.layers import LocalResponseNormalization
from models.networks.blocks import classifier

_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Filters: 1 x 1; 1 x 1 before 3 x 3, and 3 x 3; 1 x 1 before 5 x 5, and 5 x 5; 1 x 1 after the pooling."""
_POOLED = ("3b", "4e")


def googlenet(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: None = None
) -> keras.Model:
    """Build GoogLeNet: 6,998,552 parameters, as Caffe's version counts without the auxiliary classifiers.

    Args:
        input_shape: Height, width and channels.
        num_classes: Number of classes.
        weights: There are no pretrained ones.
    """
    image = keras.Input(input_shape, name="image")
    x = _conv(image, 64, 7, "conv_1", 2)
    x = LocalResponseNormalization(name="norm_1")(_pool(x, "pool_1"))
    x = _conv(_conv(x, 64, 1, "conv_2_reduce"), 192, 3, "conv_2")
    x = _pool(LocalResponseNormalization(name="norm_2")(x), "pool_2")
    for name, filters in _INCEPTIONS.items():
        x = _inception(x, filters, f"inception_{name}")
        if name in _POOLED:
            x = _pool(x, f"pool_{name}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.4, name="dropout")(x)
    return classifier(image, x, num_classes, "googlenet")


def _inception(x: Any, filters: tuple[int, ...], name: str) -> Any:
    one, reduce_three, three, reduce_five, five, project = filters
    branches = [
        _conv(x, one, 1, f"{name}_1x1"),
        _conv(_conv(x, reduce_three, 1, f"{name}_3x3_reduce"), three, 3, f"{name}_3x3"),
        _conv(_conv(x, reduce_five, 1, f"{name}_5x5_reduce"), five, 5, f"{name}_5x5"),
        _conv(_pool(x, f"{name}_pool", 1), project, 1, f"{name}_project"),
    ]
    return keras.layers.Concatenate(name=name)(branches)


def _conv(x: Any, filters: int, kernel: int, name: str, strides: int = 1) -> Any:
    return keras.layers.Conv2D(filters, kernel, strides, padding="same", activation="relu", name=name)(x)


def _pool(x: Any, name: str, strides: int = 2) -> Any:
    return keras.layers.MaxPooling2D(3, strides, padding="same", name=name)(x)
