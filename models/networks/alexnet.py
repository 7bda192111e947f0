"""AlexNet.

Source: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
section 3 and figure 2, with the two halves that its two graphics cards held: they see one another in conv_3 and in the
dense layers only. 227 x 227 pixels, from which alone the 55 x 55 of the first layer follow (the paper says 224).

    conv_1   55 x 55 x 2 x  48   11 x 11 stride 4; normalised, pooled 3 x 3 stride 2 to 27 x 27
    conv_2   27 x 27 x 2 x 128    5 x  5; normalised, pooled to 13 x 13
    conv_3   13 x 13 x 2 x 192    3 x  3, of both halves
    conv_4   13 x 13 x 2 x 192    3 x  3
    conv_5   13 x 13 x 2 x 128    3 x  3; pooled to 6 x 6
    dense_1, dense_2   4096, with a dropout of one half before each
"""

from __future__ import annotations

from typing import Any

import keras

from models.layers import LocalResponseNormalization
from models.networks.blocks import classifier


def alexnet(
    input_shape: tuple[int, int, int] = (227, 227, 3), num_classes: int = 1000, weights: None = None
) -> keras.Model:
    """Build AlexNet: 60,965,224 parameters, the "60 million" of the paper and the count of Caffe's version.

    Args:
        input_shape: Height, width and channels; at least 67 x 67.
        num_classes: Number of classes.
        weights: There are no pretrained ones.
    """
    image = keras.Input(input_shape, name="image")
    both = keras.layers.Concatenate(name="conv_2")([_half(image, half) for half in "ab"])
    halves = []
    for half in "ab":
        x = _conv(both, 192, 3, f"conv_3{half}")
        x = _conv(x, 192, 3, f"conv_4{half}")
        x = _conv(x, 128, 3, f"conv_5{half}")
        halves.append(keras.layers.MaxPooling2D(3, 2, name=f"pool_5{half}")(x))
    x = keras.layers.Concatenate(name="conv_5")(halves)
    x = keras.layers.Flatten(name="flatten")(x)
    for index in (1, 2):
        x = keras.layers.Dropout(0.5, name=f"dropout_{index}")(x)
        x = keras.layers.Dense(4096, activation="relu", name=f"dense_{index}")(x)
    return classifier(image, x, num_classes, "alexnet")


def _half(image: Any, half: str) -> Any:
    """Build one half of the first two layers."""
    x = keras.layers.Conv2D(48, 11, 4, activation="relu", name=f"conv_1{half}")(image)
    x = _conv(_normalised_pool(x, f"1{half}"), 128, 5, f"conv_2{half}")
    return _normalised_pool(x, f"2{half}")


def _normalised_pool(x: Any, name: str) -> Any:
    return keras.layers.MaxPooling2D(3, 2, name=f"pool_{name}")(LocalResponseNormalization(name=f"norm_{name}")(x))


def _conv(x: Any, filters: int, kernel: int, name: str) -> Any:
    return keras.layers.Conv2D(filters, kernel, padding="same", activation="relu", name=name)(x)
