"""What the networks share: the head of a classifier, and a normalised convolution."""

from __future__ import annotations

from typing import Any

import keras


def classifier(image: Any, x: Any, num_classes: int, name: str) -> keras.Model:
    """Close a network with its scores.

    Args:
        image: The input.
        x: Features (B, n).
        num_classes: Number of classes.
        name: Name of the network.

    Returns:
        The model; its last layer, ``scores``, gives probabilities (B, num_classes), in float32 under mixed precision
        too: the loss takes logarithms of them.
    """
    scores = keras.layers.Dense(num_classes, activation="softmax", dtype="float32", name="scores")(x)
    return keras.Model(image, scores, name=name)


def conv_norm(
    x: Any,
    filters: int,
    kernel: int,
    name: str,
    strides: int = 1,
    activation: str | None = "relu",
    use_bias: bool = False,
    epsilon: float = 1e-3,
) -> Any:
    """Convolve with SAME padding, normalise the batch, activate: (B, H, W, C) -> (B, H / s, W / s, filters).

    The bias is left out, since the normalisation takes it off again; published counts of some networks include it.
    """
    x = keras.layers.Conv2D(filters, kernel, strides, padding="same", use_bias=use_bias, name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=epsilon, name=f"{name}_bn")(x)
    return x if activation is None else keras.layers.Activation(activation, name=f"{name}_{activation}")(x)
