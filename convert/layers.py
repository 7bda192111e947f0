"""Keras layers that a converted graph is built from: each lowers to operations that XNNPACK takes whole."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Upsample(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Exact nearest-neighbour upsampling, (B, H, W, C) -> (B, f H, f W, C).

    `keras.layers.UpSampling2D` lowers to SHAPE, TILE and RESHAPE, a nearest-neighbour resize has no XNNPACK kernel, and
    DEPTH_TO_SPACE has no 16-bit one. Joining f copies along the channels puts f times the same cell one after the
    other in memory, which read as (H, f W, C) is a row with every column repeated; joining f copies of the rows
    repeats the rows. CONCATENATION and RESHAPE exist for every type and stay in the XNNPACK partition.

    """

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
        copies = self.factor
        dynamic = tf.shape(inputs)
        batch, height, width, channels = (
            dynamic[axis] if side is None else side for axis, side in enumerate(inputs.shape)
        )
        rows = tf.reshape(tf.concat([inputs] * copies, axis=3), (batch, height, width * copies, channels))
        return tf.reshape(tf.concat([rows] * copies, axis=2), (batch, height * copies, width * copies, channels))

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
