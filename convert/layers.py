"""Keras layers that a converted graph is built from: each lowers to operations that XNNPACK takes whole."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.layers import nearest_upsample


class Upsample(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Exact nearest-neighbour upsampling, (B, H, W, C) -> (B, f H, f W, C); see `models.layers.nearest_upsample`."""

    def __init__(self, factor: int, **kwargs: Any) -> None:
        """Prepare.

        Args:
            factor: The factor f, at least 2.
            kwargs: Of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        """Repeat every row and every column `factor` times."""
        return nearest_upsample(inputs, self.factor)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the larger shape; an unknown side stays unknown."""
        batch, height, width, channels = input_shape
        return (batch, height and height * self.factor, width and width * self.factor, channels)


class Mish(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Mish, x * tanh(softplus(x)), without the exponential and the logarithm.

    With s = sigmoid(x), exp(softplus(x)) = 1 / (1 - s), and tanh(y) = (1 - exp(-2y)) / (1 + exp(-2y)); so with
    u = 1 - (1 - s)^2 = s (2 - s) it is tanh(softplus(x)) = u / (2 - u). Nothing in it overflows or cancels.
    Source of mish: D. Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019.
    """

    def call(self, inputs: Any) -> Any:
        """Apply it to every element."""
        gate = tf.sigmoid(inputs)
        gate = gate * (2.0 - gate)
        # 1 / (2 - u) as a square of 1 / sqrt: division and SQUARE have no 16-bit kernels.
        root = tf.math.rsqrt(2.0 - gate)
        return inputs * (gate * (root * root))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape as it is."""
        return input_shape


class ChannelSlice(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A run of channels, (B, H, W, C) -> (B, H, W, count)."""

    def __init__(self, start: int, count: int, **kwargs: Any) -> None:
        """Prepare.

        Args:
            start: First channel.
            count: Number of channels.
            kwargs: Of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.start, self.count = start, count

    def call(self, inputs: Any) -> Any:
        """Cut them out."""
        batch, height, width, _ = inputs.shape
        return tf.slice(inputs, (0, 0, 0, self.start), (batch or -1, height or -1, width or -1, self.count))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with `count` channels."""
        return (*input_shape[:-1], self.count)
