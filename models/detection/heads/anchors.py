"""The anchor head of YOLOv3: per cell and anchor a box, an objectness and class scores.

Outputs for stride ``s`` in (8, 16, 32), head ``i`` = 0, 1, 2, with A anchors of width a_w and height a_h in pixels:

- ``head_i_xy`` (B, H/s, W/s, 2 A) float32: centre, ``x = (2 * sigmoid(t) - 0.5 + column) * s``.
- ``head_i_wh`` (B, H/s, W/s, 2 A) float32: size, ``w = exp(t) * a_w``.
- ``head_i_obj`` (B, H/s, W/s, A) float32: logit of the objectness.
- ``head_i_cls`` (B, H/s, W/s, C A) float32: a logit a class; classes are independent sigmoids.

Four tensors a level because a quantised tensor has one scale. The centre reaches half a cell beyond its own
(Bochkovskiy et al. 2020, "YOLOv4", grid sensitivity), so that the cells on either side may answer too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import InputError
from edge.spec import DecoderSpec
from models.detection.blocks import STRIDES, Blocks
from models.detection.loss import apart, cell_centres, ciou, silenced

PER_LEVEL = 3
BOX_WEIGHT = 5.0
SHAPE_RATIO = 4.0
"""An anchor answers for objects whose sides differ from its own by less than this factor."""

_REACH = 2.0
_LOG_RANGE = (-4.0, 4.0)
_OBJECT_PRIOR = 0.01
_ROUNDS = 100

AnchorSizes = tuple[tuple[tuple[float, float], ...], ...]
"""Per level, smallest stride first: (width, height) in pixels of the input."""


class Anchors:
    """See the head of this module."""

    iou = 0.45
    """Overlap above which NMS drops the weaker box, as Darknet has it."""

    def __init__(self, sizes: AnchorSizes) -> None:
        """Bind the anchors.

        Args:
            sizes: See `cluster_anchors`.
        """
        self.sizes = sizes

    def outputs(self, blocks: Blocks, features: Sequence[Any], width: int, classes: int) -> dict[str, Any]:
        """Lay the head on the features of strides 8, 16 and 32."""
        outputs = {}
        prior = -float(np.log(1.0 / _OBJECT_PRIOR - 1.0))
        for i, (feature, sizes) in enumerate(zip(features, self.sizes, strict=True)):
            for part, values, bias in (("xy", 2, 0.0), ("wh", 2, 0.0), ("obj", 1, prior), ("cls", classes, 0.0)):
                name = f"head_{i}_{part}"
                outputs[name] = blocks.head(feature, width, values * len(sizes), bias, name)
        return outputs

    def decoder(self, classes: int) -> DecoderSpec:
        """Return how the runtime decodes it; roles are the names of the outputs."""
        names = [f"head_{i}_{part}" for i in range(len(self.sizes)) for part in ("xy", "wh", "obj", "cls")]
        params = {
            "anchors": [[list(pair) for pair in level] for level in self.sizes],
            "strides": list(STRIDES),
            "scale_x_y": [_REACH] * len(STRIDES),
            "classes": classes,
        }
        return DecoderSpec(name="yolo_anchors", outputs={name: name for name in names}, params=params)

    def loss(self, outputs: dict[str, Any], truth: Any) -> tuple[Any, Any]:
        """Return the class loss (objectness and classes, BCE) and the box loss (`BOX_WEIGHT` x (1 - CIoU)).

        Both are sums over the places that answer for an object, divided by their number, as in the anchor-free loss.
        The target of the objectness is the box's IoU; where a class is left open, nothing is said about objectness.
        """
        objects, regions = apart(truth)
        found = [self._level(outputs, i, objects, regions) for i in range(len(STRIDES))]
        class_sum, box_sum, count = (tf.add_n([level[k] for level in found]) for k in range(3))
        count = tf.maximum(count, 1.0)
        return class_sum / count, BOX_WEIGHT * box_sum / count

    def _level(self, outputs: dict[str, Any], i: int, objects: Any, regions: Any) -> tuple[Any, Any, Any]:
        """Return the sums of the class and the box loss of a level, and how many places answer for an object."""
        stride, anchors = STRIDES[i], tf.constant(self.sizes[i], tf.float32)
        xy, wh, obj, cls = (outputs[f"head_{i}_{part}"] for part in ("xy", "wh", "obj", "cls"))
        batch, height, width = tf.unstack(tf.shape(obj)[:3])
        count = len(self.sizes[i])
        classes = cls.shape[-1] // count
        grid = (batch, height, width, count)
        place, row = assign(objects, anchors, (height, width), stride)

        t_xy = tf.gather_nd(tf.reshape(xy, (*grid, 2)), place)
        t_wh = tf.gather_nd(tf.reshape(wh, (*grid, 2)), place)
        column_row = tf.cast(tf.stack([place[:, 2], place[:, 1]], axis=1), tf.float32)
        centre = (_REACH * tf.sigmoid(t_xy) - (_REACH - 1.0) / 2.0 + column_row) * stride
        size = tf.exp(tf.clip_by_value(t_wh, *_LOG_RANGE)) * tf.gather(anchors, place[:, 3])
        boxes = tf.concat([centre - size / 2.0, centre + size / 2.0], axis=1)
        overlap = ciou(boxes, row[:, 1:])
        box_sum = tf.reduce_sum(1.0 - overlap)

        logits = tf.gather_nd(tf.reshape(cls, (*grid, classes)), place)
        kinds = tf.one_hot(tf.cast(row[:, 0], tf.int32), classes)
        class_sum = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(kinds, logits))

        target = tf.tensor_scatter_nd_max(tf.zeros(grid), place, tf.stop_gradient(tf.clip_by_value(overlap, 0.01, 1.0)))
        open_cells = tf.reduce_max(silenced(cell_centres(height, width, stride), regions, classes), axis=-1)
        known = 1.0 - tf.reshape(open_cells, (batch, height, width, 1))
        weight = tf.where(target > 0.0, 1.0, known)
        objectness = tf.nn.sigmoid_cross_entropy_with_logits(target, tf.reshape(obj, grid))
        class_sum += tf.reduce_sum(objectness * weight)
        return class_sum, box_sum, tf.cast(tf.shape(place)[0], tf.float32)


def assign(objects: Any, anchors: Any, grid_hw: tuple[Any, Any], stride: int) -> tuple[Any, Any]:
    """Choose the places of a level that must answer for objects.

    Every anchor of a like shape answers, in the cell of the object's centre and in the nearest neighbours to either
    side of it (as YOLOv5 does: Jocher, ultralytics/yolov5, its ``build_targets``).

    Args:
        objects: Truth rows (B, M, 5), class below 0 for padding.
        anchors: (A, 2) width and height in pixels.
        grid_hw: Rows and columns of the level.
        stride: Pixels per cell.

    Returns:
        Places (K, 4): image, row, column and anchor; and for each the truth row (K, 5).
    """
    size = tf.maximum(objects[..., 3:] - objects[..., 1:3], 1e-3)
    centre = (objects[..., 1:3] + objects[..., 3:]) / (2.0 * stride)  # x, y in cells
    ratio = size[:, :, None] / anchors
    alike = tf.reduce_max(tf.maximum(ratio, 1.0 / ratio), axis=-1) < SHAPE_RATIO
    fits = alike & (objects[..., 0] >= 0.0)[..., None]  # (B, M, A)
    side = tf.where(centre - tf.floor(centre) < 0.5, -1.0, 1.0)
    still = tf.zeros_like(side[..., :1])
    steps = tf.stack(
        [tf.zeros_like(side), tf.concat([side[..., :1], still], -1), tf.concat([still, side[..., 1:]], -1)], axis=2
    )  # (B, M, 3, 2)
    cell = tf.cast(tf.floor(centre)[:, :, None] + steps, tf.int32)
    height, width = grid_hw
    inside = (cell[..., 0] >= 0) & (cell[..., 0] < width) & (cell[..., 1] >= 0) & (cell[..., 1] < height)
    chosen = tf.where(fits[:, :, None] & inside[..., None])  # (K, 4): image, row of the truth, step, anchor
    at = tf.cast(tf.gather_nd(cell, chosen[:, :3]), tf.int64)
    place = tf.stack([chosen[:, 0], at[:, 1], at[:, 0], chosen[:, 3]], axis=1)
    return place, tf.gather_nd(objects, chosen[:, :2])


def cluster_anchors(sizes_wh: NDArray[np.float32], seed: int) -> AnchorSizes:
    """Find three anchors a level by k-means with the distance 1 - IoU (Redmon, Farhadi 2017, "YOLO9000", section 2).

    Args:
        sizes_wh: (n, 2) float32: widths and heights of the objects in pixels of the input.
        seed: Of the first centres.

    Returns:
        Nine sizes ordered by area, the three smallest for the smallest stride.

    Raises:
        InputError: There are fewer than nine different sizes.
    """
    count = PER_LEVEL * len(STRIDES)
    unique = np.unique(sizes_wh, axis=0)
    if len(unique) < count:
        raise InputError(
            f"anchors need objects of at least {count} different sizes, found {len(unique)}; train with "
            "--head anchor-free"
        )
    rng = np.random.default_rng(seed)
    # Spread over the areas, so that no level starts without any.
    ranks = np.argsort(unique.prod(axis=1), kind="stable")
    centres = unique[[rng.choice(part) for part in np.array_split(ranks, count)]].astype(np.float64)
    owner = np.full(len(sizes_wh), -1)
    for _ in range(_ROUNDS):
        shared = np.minimum(sizes_wh[:, None], centres).prod(axis=2)
        overlap = shared / (sizes_wh.prod(axis=1)[:, None] + centres.prod(axis=1) - shared)
        nearest = overlap.argmax(axis=1)
        if (nearest == owner).all():
            break
        owner = nearest
        for k in range(count):
            if (owner == k).any():
                centres[k] = np.median(sizes_wh[owner == k], axis=0)
    ordered = centres[np.argsort(centres.prod(axis=1), kind="stable")].round(1).tolist()
    levels = [ordered[i : i + PER_LEVEL] for i in range(0, count, PER_LEVEL)]
    return tuple(tuple((w, h) for w, h in level) for level in levels)
