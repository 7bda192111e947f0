"""Keras layers that train fast on a CPU and leave only plain, delegable operations in a deployed graph.

Import this module before loading a saved model that uses them: that registers them with Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("edge")
class NearestUpsample2x(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Exact nearest-neighbour upsampling by two, (B, H, W, C) -> (B, 2H, 2W, C).

    `keras.layers.UpSampling2D` lowers to SHAPE, TILE and RESHAPE, which cuts the XNNPACK graph into pieces.
    DEPTH_TO_SPACE of four copies of the input is the same picture in one delegated operation: it reads the channels
    of one cell as (2, 2, C), so copy ``2 * dy + dx`` becomes the sub-pixel (dy, dx).
    """

    def call(self, inputs: Any) -> Any:
        """Repeat every row and every column twice."""
        return tf.nn.depth_to_space(tf.concat([inputs] * 4, axis=-1), 2)

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
