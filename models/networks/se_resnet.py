"""SE-ResNet-18, 34 and 50: residual networks whose blocks weigh their channels.

Source: J. Hu, L. Shen, S. Albanie, G. Sun, E. Wu, "Squeeze-and-Excitation Networks", 2017, with the paper's reduction
ratio of 16. Squeeze: the mean of every channel. Excitation: two dense layers, here as 1 x 1 convolutions on one cell,
and a sigmoid; the result multiplies the residual before the addition.

The published counts are of trainable parameters: 11,778,592, 21,958,868 and 28,088,024.
"""

from __future__ import annotations

from typing import Any

import keras

from models.networks.resnet import resnet

_REDUCTION = 16


def se_resnet_18(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: None = None
) -> keras.Model:
    """Build SE-ResNet-18; see `models.networks.resnet.resnet`."""
    return resnet("se-resnet-18", input_shape, num_classes, (2, 2, 2, 2), rescale=squeeze_excite)


def se_resnet_34(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: None = None
) -> keras.Model:
    """Build SE-ResNet-34; see `models.networks.resnet.resnet`."""
    return resnet("se-resnet-34", input_shape, num_classes, (3, 4, 6, 3), rescale=squeeze_excite)


def se_resnet_50(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: None = None
) -> keras.Model:
    """Build SE-ResNet-50; see `models.networks.resnet.resnet`."""
    return resnet("se-resnet-50", input_shape, num_classes, (3, 4, 6, 3), bottleneck=True, rescale=squeeze_excite)


def squeeze_excite(x: Any, name: str) -> Any:
    """Multiply every channel with a weight 0..1 that depends on the means of all channels."""
    channels = x.shape[-1]
    weight = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    weight = keras.layers.Conv2D(channels // _REDUCTION, 1, activation="relu", name=f"{name}_reduce")(weight)
    weight = keras.layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_excite")(weight)
    return keras.layers.Multiply(name=f"{name}_scale")([x, weight])
