"""VGG-16 and VGG-19.

Source: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014, table 1,
columns D and E: five stages of 3 x 3 convolutions, each pooled 2 x 2 at its end, of 64, 128, 256, 512 and 512 filters
(224 x 224 becomes 7 x 7), then dense 4096 twice, with a dropout of one half after each.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from models.networks.blocks import classifier
from models.networks.pretrained import Base, transfer

_WIDTHS = (64, 128, 256, 512, 512)


def vgg_16(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build VGG-16, 138,357,544 parameters; with weights, see `models.networks.pretrained.transfer`."""
    base = Base(keras.applications.VGG16, _file(16), "6d6bbae143d832006294945121d1f1fc")
    return _vgg("vgg-16", input_shape, num_classes, weights, (2, 2, 3, 3, 3), base)


def vgg_19(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build VGG-19, 143,667,240 parameters; with weights, see `models.networks.pretrained.transfer`."""
    base = Base(keras.applications.VGG19, _file(19), "253f8cb515780f3b799900260a226db6")
    return _vgg("vgg-19", input_shape, num_classes, weights, (2, 2, 4, 4, 4), base)


def _vgg(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    weights: str | None,
    depths: Sequence[int],
    base: Base,
) -> keras.Model:
    if weights is not None:
        return transfer(base, name, input_shape, num_classes, weights)
    image = keras.Input(input_shape, name="image")
    x = image
    for stage, (filters, depth) in enumerate(zip(_WIDTHS, depths, strict=True), 1):
        for index in range(1, depth + 1):
            x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{stage}_{index}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool_{stage}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for index in (1, 2):
        x = keras.layers.Dense(4096, activation="relu", name=f"dense_{index}")(x)
        x = keras.layers.Dropout(0.5, name=f"dropout_{index}")(x)
    return classifier(image, x, num_classes, name)


def _file(depth: int) -> str:
    return f"vgg{depth}/vgg{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
