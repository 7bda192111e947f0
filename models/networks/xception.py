"""Xception.

Source: F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2017, figure 5.
Shapes at 299 x 299:

    entry    149 x 149 x 32, 147 x 147 x 64 (3 x 3 without padding); then 74 x 74 x 128, 37 x 37 x 256, 19 x 19 x 728
    middle   19 x 19 x 728, eight blocks of three separable convolutions
    exit     10 x 10 x 1024, then 1536 and 2048; averaged
"""

from __future__ import annotations

from typing import Any

import keras

from models.networks.blocks import classifier
from models.networks.pretrained import Base, transfer

_FILE = "xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
_MD5 = "b0042744bf5b25fce3cb969f33bebb97"


def xception(
    input_shape: tuple[int, int, int] = (299, 299, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build Xception, 22,910,480 parameters; with weights, see `models.networks.pretrained.transfer`.

    Args:
        input_shape: Height, width and channels; at least 71 x 71 with weights.
        num_classes: Number of classes.
        weights: None or "imagenet".
    """
    if weights is not None:
        base = Base(keras.applications.Xception, _FILE, _MD5, least_side=71)
        return transfer(base, "xception", input_shape, num_classes, weights)
    image = keras.Input(input_shape, name="image")
    x = _norm(keras.layers.Conv2D(32, 3, 2, use_bias=False, name="entry_conv_1")(image), "entry_norm_1")
    x = _norm(keras.layers.Conv2D(64, 3, use_bias=False, name="entry_conv_2")(_relu(x, "entry_relu_1")), "entry_norm_2")
    x = _relu(x, "entry_relu_2")
    x = _shrink(x, (128, 128), "entry_128", first_relu=False)
    x = _shrink(x, (256, 256), "entry_256")
    x = _shrink(x, (728, 728), "entry_728")
    for block in range(1, 9):
        inputs = x
        for index in range(1, 4):
            x = _separable(_relu(x, f"middle_{block}_relu_{index}"), 728, f"middle_{block}_{index}")
        x = keras.layers.Add(name=f"middle_{block}_add")([x, inputs])
    x = _shrink(x, (728, 1024), "exit_1024")
    for filters in (1536, 2048):
        x = _relu(_separable(x, filters, f"exit_{filters}"), f"exit_{filters}_relu")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return classifier(image, x, num_classes, "xception")


def _shrink(x: Any, filters: tuple[int, int], name: str, first_relu: bool = True) -> Any:
    """Two separable convolutions and a pooling of stride 2, beside a 1 x 1 convolution of stride 2."""
    shortcut = keras.layers.Conv2D(filters[-1], 1, 2, padding="same", use_bias=False, name=f"{name}_shortcut")(x)
    shortcut = _norm(shortcut, f"{name}_shortcut_norm")
    for index, count in enumerate(filters, 1):
        if index > 1 or first_relu:
            x = _relu(x, f"{name}_relu_{index}")
        x = _separable(x, count, f"{name}_{index}")
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name=f"{name}_pool")(x)
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])


def _separable(x: Any, filters: int, name: str) -> Any:
    return _norm(keras.layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x), f"{name}_norm")


def _norm(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(name=name)(x)


def _relu(x: Any, name: str) -> Any:
    return keras.layers.Activation("relu", name=name)(x)
