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
