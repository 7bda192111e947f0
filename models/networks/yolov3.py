"""YOLOv3 on Darknet-53, and YOLOv3-tiny.

Source: J. Redmon, A. Farhadi, "YOLOv3: An Incremental Improvement", 2018, and the networks as Darknet describes them.

Input: (H, W, 3) float32 RGB in 0..1, H and W multiples of 32. Outputs: the raw heads ``head_0`` (stride 32), ``head_1``
(stride 16) and, of the large one, ``head_2`` (stride 8), each (B, H/s, W/s, 3 * (5 + C)) float32: for every anchor tx,
ty, tw, th, objectness and the classes' logits, which the decoder `yolo_anchors` reads.

Everything is where Darknet has it, so that Darknet's weights fit: the convolutions ``conv_1``, ``conv_2``, ... are in
the order of the `.cfg`, those of stride 2 pad one pixel above and to the left (SAME would pad below and to the right),
and the leaky slope and the normalisation's epsilon are those of `convert`'s Darknet reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from models.layers import NearestUpsample2x

LEAKY_SLOPE = 0.1
EPSILON = 1e-6

Anchors = tuple[tuple[tuple[int, int], ...], ...]
"""Width and height in pixels of each anchor of each head, `head_0` first."""

YOLOV3_ANCHORS: Anchors = (
    ((116, 90), (156, 198), (373, 326)),
    ((30, 61), (62, 45), (59, 119)),
    ((10, 13), (16, 30), (33, 23)),
)
TINY_ANCHORS: Anchors = (((81, 82), (135, 169), (344, 319)), ((23, 27), (37, 58), (81, 82)))
"""Darknet's mask of the second head is 1, 2, 3, and its published weights were trained with that."""


@dataclass
class _Darknet:
    """Names and builds convolutions in the order of the `.cfg`."""

    convolutions: int = 0

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1) -> Any:
        """Convolve, normalise, leaky ReLU."""
        self.convolutions += 1
        name = f"conv_{self.convolutions}"
        if strides == 2:
            x = keras.layers.ZeroPadding2D(((1, 0), (1, 0)), name=f"{name}_pad")(x)
        padding = "valid" if strides == 2 else "same"
        x = keras.layers.Conv2D(filters, kernel, strides, padding=padding, use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, name=f"{name}_bn")(x)
        return keras.layers.LeakyReLU(negative_slope=LEAKY_SLOPE, name=f"{name}_leaky")(x)

    def head(self, x: Any, num_classes: int) -> Any:
        """Convolve to three anchors of 5 + C values."""
        self.convolutions += 1
        return keras.layers.Conv2D(3 * (5 + num_classes), 1, name=f"conv_{self.convolutions}")(x)

    def residuals(self, x: Any, filters: int, count: int) -> Any:
        """Halve the size, then `count` times 1 x 1 and 3 x 3 with a shortcut around."""
        x = self.conv(x, filters, 3, 2)
        for _ in range(count):
            y = self.conv(self.conv(x, filters // 2, 1), filters, 3)
            x = keras.layers.Add(name=f"add_{self.convolutions}")([x, y])
        return x

    def up(self, x: Any, filters: int, other: Any) -> Any:
        """Double the size and join with what is there already."""
        x = NearestUpsample2x(name=f"up_{self.convolutions + 1}")(self.conv(x, filters, 1))
        return keras.layers.Concatenate(name=f"route_{self.convolutions}")([x, other])


def yolov3(
    input_shape: tuple[int, int, int] = (416, 416, 3), num_classes: int = 80, weights: None = None
) -> keras.Model:
    """Build YOLOv3: 62,001,757 numbers with batch-norm statistics, those of ``yolov3.weights``.

    Args:
        input_shape: Height, width and channels; the sides multiples of 32.
        num_classes: Number of classes C.
        weights: There are no pretrained ones.

    Returns:
        The model; it gives a dictionary of the heads described at the head of this module.

    Raises:
        ValueError: A side is not a positive multiple of 32.
    """
    image = _image(input_shape)
    net = _Darknet()
    x = net.conv(image, 32, 3)
    x = net.residuals(x, 64, 1)
    x = net.residuals(x, 128, 2)
    stride_8 = net.residuals(x, 256, 8)
    stride_16 = net.residuals(stride_8, 512, 8)
    x = net.residuals(stride_16, 1024, 4)
    heads = {}
    for index, (filters, joined) in enumerate(((512, stride_16), (256, stride_8), (128, None))):
        for _ in range(2):
            x = net.conv(net.conv(x, filters, 1), 2 * filters, 3)
        x = net.conv(x, filters, 1)
        heads[f"head_{index}"] = net.head(net.conv(x, 2 * filters, 3), num_classes)
        if joined is not None:
            x = net.up(x, filters // 2, joined)
    return keras.Model(image, heads, name="yolov3")


def yolov3_tiny(
    input_shape: tuple[int, int, int] = (416, 416, 3), num_classes: int = 80, weights: None = None
) -> keras.Model:
    """Build YOLOv3-tiny: 8,858,734 numbers with batch-norm statistics, those of ``yolov3-tiny.weights``.

    Arguments, result and errors are those of `yolov3`, with two heads.
    """
    image = _image(input_shape)
    net = _Darknet()
    x = net.conv(image, 16, 3)
    for filters in (32, 64, 128, 256):
        x = net.conv(keras.layers.MaxPooling2D(2, name=f"pool_{net.convolutions}")(x), filters, 3)
    stride_16 = x
    x = net.conv(keras.layers.MaxPooling2D(2, name="pool_5")(x), 512, 3)
    x = net.conv(keras.layers.MaxPooling2D(2, 1, padding="same", name="pool_6")(x), 1024, 3)
    x = net.conv(x, 256, 1)
    heads = {"head_0": net.head(net.conv(x, 512, 3), num_classes)}
    x = net.up(x, 128, stride_16)
    heads["head_1"] = net.head(net.conv(x, 256, 3), num_classes)
    return keras.Model(image, heads, name="yolov3-tiny")


def model_spec(model: keras.Model, labels: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of an `edge.spec.ModelSpec` for a model of this module, of any training.

    Written as JSON to ``<stem>.spec.json`` beside the saved ``<stem>.keras``, `edge convert` finds it.

    Args:
        model: What `yolov3` or `yolov3_tiny` built.
        labels: Class names; without them classes are numbers.
    """
    heads = model.output
    anchors = TINY_ANCHORS if len(heads) == len(TINY_ANCHORS) else YOLOV3_ANCHORS
    height, width = model.input_shape[1:3]
    return {
        "name": model.name,
        "task": "detect",
        "input": {"size_wh": (width, height), "color": "RGB", "mean": (0.0,), "std": (255.0,)},
        "decoder": {
            "name": "yolo_anchors",
            "outputs": {name: name for name in heads},
            "params": {
                "anchors": anchors,
                "strides": [width // head.shape[2] for head in heads.values()],
                "classes": heads["head_0"].shape[-1] // 3 - 5,
            },
        },
        "labels": labels,
    }


def _image(input_shape: tuple[int, int, int]) -> Any:
    if any(side <= 0 or side % 32 for side in input_shape[:2]):
        raise ValueError(f"input_shape must have sides that are positive multiples of 32, got {input_shape}")
    return keras.Input(input_shape, name="image")
