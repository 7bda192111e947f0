"""Two small convolutional networks for digits, of the kind that introductions to Keras train on MNIST.

a: Conv 32 - pool - Conv 64 - pool - Conv 64, all 3 x 3 without padding, dense 64: 28 x 28 -> 26 -> 13 -> 11 -> 5 -> 3.
b: Conv 32 - pool - Conv 64 - pool - Conv 128, flattened straight into the scores.

Source: F. Chollet, "Deep Learning with Python", 2017, section 5.1 (a) and 2nd edition 2021, section 8.1 (b).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from models.networks.blocks import classifier


def mnist_convnet_a(
    input_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10, weights: None = None
) -> keras.Model:
    """Build the network with a dense layer of 64: 55,744 parameters before it, 93,322 in all.

    Args:
        input_shape: Height, width and channels; at least 18 x 18.
        num_classes: Number of classes.
        weights: There are no pretrained ones.
    """
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Flatten(name="flatten")(_features(image, (32, 64, 64)))
    x = keras.layers.Dense(64, activation="relu", name="dense")(x)
    return classifier(image, x, num_classes, "mnist-convnet-a")


def mnist_convnet_b(
    input_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10, weights: None = None
) -> keras.Model:
    """Build the network without one: 104,202 parameters.

    Args:
        input_shape: Height, width and channels; at least 18 x 18.
        num_classes: Number of classes.
        weights: There are no pretrained ones.
    """
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Flatten(name="flatten")(_features(image, (32, 64, 128)))
    return classifier(image, x, num_classes, "mnist-convnet-b")


def _features(x: Any, filters: Sequence[int]) -> Any:
    for index, count in enumerate(filters, 1):
        x = keras.layers.Conv2D(count, 3, activation="relu", name=f"conv_{index}")(x)
        if index < len(filters):
            x = keras.layers.MaxPooling2D(2, name=f"pool_{index}")(x)
    return x
