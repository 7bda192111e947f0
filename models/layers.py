"""Keras layers that train fast on a CPU and leave only plain, delegable operations in a deployed graph.

Import this module before loading a saved model that uses them: that registers them with Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def nearest_upsample(inputs: Any, factor: int) -> Any:
    """Repeat every row and every column, (B, H, W, C) -> (B, f H, f W, C), in operations that XNNPACK takes whole.

    `keras.layers.UpSampling2D` lowers to SHAPE, TILE and RESHAPE, a nearest-neighbour resize has no XNNPACK kernel, and
    DEPTH_TO_SPACE has no 16-bit one. Joining f copies along the channels puts f times the same cell one after the
    other in memory, which read as (H, f W, C) is a row with every column repeated; joining f copies of the rows
    repeats the rows. CONCATENATION and RESHAPE exist for every type and stay in the XNNPACK partition.
    """
    dynamic = tf.shape(inputs)
    batch, height, width, channels = (dynamic[axis] if side is None else side for axis, side in enumerate(inputs.shape))
    rows = tf.reshape(tf.concat([inputs] * factor, axis=3), (batch, height, width * factor, channels))
    return tf.reshape(tf.concat([rows] * factor, axis=2), (batch, height * factor, width * factor, channels))


@keras.saving.register_keras_serializable("edge")
class NearestUpsample2x(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Exact nearest-neighbour upsampling by two, (B, H, W, C) -> (B, 2H, 2W, C); see `nearest_upsample`."""

    def call(self, inputs: Any) -> Any:
        """Repeat every row and every column twice."""
        return nearest_upsample(inputs, 2)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (B, 2H, 2W, C), with unknown sides left unknown."""
        batch, height, width, channels = input_shape
        return (batch, height and height * 2, width and width * 2, channels)


@keras.saving.register_keras_serializable("edge")
class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """Batch normalisation over the last axis by TensorFlow's fused kernel.

    Keras 3 composes the operation from its parts; the fused kernel trains about 1.6 times faster on a CPU.
    The weights and the configuration are those of `keras.layers.BatchNormalization`. In inference the operation
    folds into the convolution before it when the model is converted.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise (B, H, W, C) with the statistics of the batch when training, else with the moving ones."""
        training = bool(training) and self.trainable
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=None if training else self.moving_mean,
            variance=None if training else self.moving_variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1.0 - self.momentum))
            self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1.0 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable("edge")
class DepthPool(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The largest of every `pool_size` neighbouring channels, (B, H, W, C) -> (B, H, W, C / pool_size).

    Learned to follow filters that answer to the same thing turned or lit otherwise, it makes a network indifferent to
    that. TFLite has no pooling across channels, and its REDUCE_MAX leaves the XNNPACK partition: read as one channel of
    (H * W, C), the usual MAX_POOL_2D does it, with windows of 1 x pool_size.

    Source: A. Geron, "Hands-On Machine Learning", chapter 14.
    """

    def __init__(self, pool_size: int = 2, **kwargs: Any) -> None:
        """Prepare.

        Args:
            pool_size: Channels of a group; a divisor of the number of channels.
            kwargs: Of `keras.layers.Layer`.

        Raises:
            ValueError: `pool_size` is not positive.
        """
        super().__init__(**kwargs)
        if pool_size < 1:
            raise ValueError(f"pool_size must be at least 1, got {pool_size}")
        self.pool_size = pool_size

    def call(self, inputs: Any) -> Any:
        """Pool."""
        dynamic = tf.shape(inputs)
        sides = [dynamic[axis] if side is None else side for axis, side in enumerate(inputs.shape)]
        batch, height, width, channels = sides
        plane = tf.reshape(inputs, (batch, height * width, channels, 1))
        window = (1, self.pool_size)
        pooled = tf.nn.max_pool2d(plane, window, window, "VALID")
        return tf.reshape(pooled, (batch, height, width, channels // self.pool_size))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with fewer channels.

        Raises:
            ValueError: The channels do not fall into groups of `pool_size`.
        """
        channels = input_shape[-1] or 0
        if not channels or channels % self.pool_size:
            raise ValueError(f"{channels} channels do not fall into groups of {self.pool_size}")
        return (*input_shape[:-1], channels // self.pool_size)

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "pool_size": self.pool_size}


@keras.saving.register_keras_serializable("edge")
class LocalResponseNormalization(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Divide by a function of the neighbouring channels: a / (2 + 1e-4 * sum of a^2 over five channels)^0.75.

    TFLite's LOCAL_RESPONSE_NORMALIZATION leaves the XNNPACK partition. A 1 x 1 convolution whose kernel is a band of
    the width of five does the sum, and with r = 1 / sqrt(y) the power y^-0.75 is r^2 / sqrt(r): all of it stays inside.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", section
    3.3, with its constants k = 2, n = 5, alpha = 1e-4, beta = 0.75.
    """

    def call(self, inputs: Any) -> Any:
        """Normalise (B, H, W, C) across channels."""
        channels = inputs.shape[-1]
        band = tf.linalg.band_part(tf.ones((channels, channels)), 2, 2) * 1e-4
        # In mixed precision the squares of float16 would overflow.
        total = 2.0 + tf.nn.conv2d(tf.square(tf.cast(inputs, tf.float32)), band[None, None], 1, "SAME")
        root = tf.math.rsqrt(total)
        return inputs * tf.cast(tf.square(root) * tf.math.rsqrt(root), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape as it is."""
        return input_shape
