"""Augmentation of batches, in training only: Keras' own layers, by policy.

Geometry moves boxes along with the pixels. Rotation has no place in a policy for boxes: the upright box around a turned
one is too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

PAD_VALUE = 114.0
"""What comes in from outside the picture, on the 0..255 scale; the grey of the runtime's letterbox."""


class Policy(NamedTuple):
    """Strengths of an augmentation; 0 leaves a layer out.

    Attributes:
        flip: Whether pictures are mirrored left to right.
        rotation: Largest angle, as a fraction of a full turn.
        zoom: Largest change of size, of each axis on its own: shapes get wider and narrower too.
        translation: Largest shift, as a fraction of the side.
        contrast: Largest change of contrast.
        brightness: Largest change of brightness, as a fraction of the range.
        fill: What comes in from outside: "nearest", "reflect" or "constant" (`PAD_VALUE`).
    """

    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    translation: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    fill: str = "reflect"


POLICIES: dict[str, Policy] = {
    "photos": Policy(flip=True, rotation=0.04, zoom=0.2, translation=0.1, contrast=0.3, brightness=0.1),
    # A mirrored 2 is no 2, and far enough turned a 6 is a 9.
    "digits": Policy(rotation=0.025, zoom=0.1, translation=0.08, fill="nearest"),
    "clothing": Policy(flip=True, zoom=0.06, translation=0.05, fill="nearest"),
    "none": Policy(),
}
"""Name -> policy, as `--augment` takes it."""


def without_rotation(policy: Policy) -> Policy:
    """Return the policy as boxes need it: no rotation, and grey outside the picture instead of a mirrored object."""
    return policy._replace(rotation=0.0, fill="constant")


class Augmenter:
    """The layers of a policy, for batches (B, H, W, C) float32 of values 0..255."""

    def __init__(self, policy: Policy) -> None:
        """Make the layers."""
        fill: dict[str, Any] = {"fill_mode": policy.fill, "fill_value": PAD_VALUE, "data_format": "channels_last"}
        layers = keras.layers
        chosen: list[Any] = []
        if policy.flip:
            chosen.append(layers.RandomFlip("horizontal", seed=0, data_format="channels_last"))
        if policy.rotation:
            chosen.append(layers.RandomRotation(policy.rotation, seed=0, **fill))
        if policy.zoom:
            zoom = (-policy.zoom, policy.zoom)
            chosen.append(layers.RandomZoom(zoom, zoom, seed=0, **fill))
        if policy.translation:
            chosen.append(layers.RandomTranslation(policy.translation, policy.translation, seed=0, **fill))
        self._geometry: Sequence[Any] = tuple(chosen)
        colors: list[Any] = []
        if policy.contrast:
            colors.append(layers.RandomContrast(policy.contrast, value_range=(0, 255), seed=0))
        if policy.brightness:
            colors.append(layers.RandomBrightness(policy.brightness, value_range=(0, 255), seed=0))
        self._colors: Sequence[Any] = tuple(colors)
        for layer in self._geometry:
            layer.bounding_box_format = "rel_xyxy"

    def reseed(self, seed: int, epoch: int) -> None:
        """Begin the sequence of random numbers of an epoch, the same one each time that epoch is trained."""
        for number, layer in enumerate((*self._geometry, *self._colors)):
            generator = getattr(layer, "generator", None) or layer.seed_generator
            generator.state.assign(keras.ops.cast([seed * 1_000_003 + epoch, number << 20], generator.state.dtype))

    def __call__(self, images: Any, boxes: Any = None) -> tuple[Any, Any]:
        """Augment a batch.

        Args:
            images: (B, H, W, C) float32, 0..255.
            boxes: (B, 4) float32, x1, y1, x2, y2 as fractions of the picture, or None.

        Returns:
            Both, changed; boxes clipped to the picture.
        """
        if boxes is None:
            for layer in self._geometry:
                images = layer(images, training=True)
        elif self._geometry:
            labels = tf.zeros((tf.shape(images)[0], 1), tf.int32)
            boxes = tf.convert_to_tensor(boxes)[:, None]
            data = {"images": tf.convert_to_tensor(images), "bounding_boxes": {"boxes": boxes, "labels": labels}}
            for layer in self._geometry:
                data = layer(data, training=True)
            images, boxes = data["images"], data["bounding_boxes"]["boxes"][:, 0]
        for layer in self._colors:
            images = layer(images, training=True)
        return images, boxes
