"""Convolutional networks for Fashion-MNIST, and for other small pictures.

Source of the larger one: A. Geron, "Hands-On Machine Learning", 2nd edition 2019, chapter 14: 7 x 7 x 64, pool,
2 x (3 x 3 x 128), pool, 2 x (3 x 3 x 256), pool, dense 128 and 64 with a dropout of one half after each.
"""

from __future__ import annotations

import keras

from models.networks.blocks import classifier, conv_norm


def fashion_convnet(
    input_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10, weights: None = None
) -> keras.Model:
    """Build the published network, 1,413,834 parameters.

    Args:
        input_shape: Height, width and channels; at least 8 x 8.
        num_classes: Number of classes.
        weights: There are no pretrained ones.
    """
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(64, 7, padding="same", activation="relu", name="conv_1")(image)
    x = keras.layers.MaxPooling2D(2, name="pool_1")(x)
    for stage, filters in ((2, 128), (3, 256)):
        for index in "ab":
            x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{stage}{index}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool_{stage}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in ((1, 128), (2, 64)):
        x = keras.layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        x = keras.layers.Dropout(0.5, name=f"dropout_{number}")(x)
    return classifier(image, x, num_classes, "fashion-convnet")


def fashion_convnet_small(
    input_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10, weights: None = None
) -> keras.Model:
    """Build a narrower one with batch normalisation: 427,306 parameters and a quarter of the work.

    The 7 x 7 stem is 3 x 3, every width is halved, and one dense layer is left: below 1 MB in float16.

    Args:
        input_shape: Height, width and channels; at least 8 x 8.
        num_classes: Number of classes.
        weights: There are no pretrained ones.
    """
    image = keras.Input(input_shape, name="image")
    x = conv_norm(image, 32, 3, "stage_1")
    x = keras.layers.MaxPooling2D(2, name="pool_1")(x)
    for stage, filters in ((2, 64), (3, 128)):
        for index in "ab":
            x = conv_norm(x, filters, 3, f"stage_{stage}{index}")
        x = keras.layers.MaxPooling2D(2, name=f"pool_{stage}")(x)
        x = keras.layers.Dropout(0.25, name=f"dropout_{stage}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(128, activation="relu", name="dense")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    return classifier(image, x, num_classes, "fashion-convnet-small")
