"""What the losses of all heads share, as TensorFlow graph code: overlaps of boxes, and what a truth leaves open.

Shapes: B images, N cells, M padded truth rows, C classes. Boxes are xyxy float32 in pixels of the network's input; a
truth row is ``(class, x1, y1, x2, y2)`` with class -1 for padding, and -2 - c for a region in which it is open whether
there are objects of class c: the loss says nothing about that class there (see `models.detection.data.unknown`).
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf


def _intersection_union(a: Any, b: Any) -> tuple[Any, Any]:
    ax1, ay1, ax2, ay2 = tf.unstack(a, axis=-1)
    bx1, by1, bx2, by2 = tf.unstack(b, axis=-1)
    width = tf.nn.relu(tf.minimum(ax2, bx2) - tf.maximum(ax1, bx1))
    height = tf.nn.relu(tf.minimum(ay2, by2) - tf.maximum(ay1, by1))
    inter = width * height
    return inter, (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter


def iou(a: Any, b: Any) -> Any:
    """Intersection over union of boxes (..., 4) with broadcasting, 0 where both are empty."""
    return tf.math.divide_no_nan(*_intersection_union(a, b))


def ciou(a: Any, b: Any) -> Any:
    """Complete IoU of boxes (..., 4): IoU - centre distance - aspect term (Zheng et al. 2020, arXiv:1911.08287)."""
    overlap = iou(a, b)
    size_a = tf.maximum(a[..., 2:] - a[..., :2], 1e-3)
    size_b = tf.maximum(b[..., 2:] - b[..., :2], 1e-3)
    enclosing = tf.maximum(a[..., 2:], b[..., 2:]) - tf.minimum(a[..., :2], b[..., :2])
    diagonal = tf.reduce_sum(enclosing**2, axis=-1) + 1e-6
    distance = tf.reduce_sum((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) ** 2, axis=-1) / 4.0
    angle = tf.atan(size_b[..., 0] / size_b[..., 1]) - tf.atan(size_a[..., 0] / size_a[..., 1])
    aspect = (4.0 / math.pi**2) * angle**2
    weight = tf.stop_gradient(aspect / (1.0 - overlap + aspect + 1e-6))
    return overlap - distance / diagonal - weight * aspect


def apart(truth: Any) -> tuple[Any, Any]:
    """Return the rows of objects and those of open regions, each cut to as many as the fullest image has (at least 1).

    The cost of the assignment grows with the rows.
    """
    kinds = truth[..., 0] >= 0.0, truth[..., 0] <= -2.0
    parts = []
    for kind in kinds:
        most = tf.maximum(tf.reduce_max(tf.reduce_sum(tf.cast(kind, tf.int32), axis=1)), 1)
        first = tf.argsort(tf.cast(kind, tf.int32), axis=1, direction="DESCENDING", stable=True)[:, :most]
        kept = tf.gather(tf.where(kind[..., None], truth, -1.0), first, batch_dims=1)
        parts.append(kept)
    return parts[0], parts[1]


def silenced(centres: Any, truth: Any, classes: int) -> Any:
    """Return for every cell (B, N, C), 1.0 or 0.0, whether the truth leaves a class open there."""
    kind = tf.cast(truth[..., 0], tf.int32)
    corners = truth[:, :, None, 1:]
    inside = tf.reduce_all((centres >= corners[..., :2]) & (centres < corners[..., 2:]), axis=-1)  # (B, M, N)
    # one_hot leaves rows of other kinds (negative indices) empty.
    named = tf.one_hot(-2 - kind, classes)
    return tf.minimum(tf.einsum("bmn,bmc->bnc", tf.cast(inside, tf.float32), named), 1.0)


def cell_centres(height: Any, width: Any, stride: int) -> Any:
    """Return the centres (H * W, 2) of a level's cells as x, y in pixels, rows before columns."""
    x, y = tf.meshgrid(tf.range(width), tf.range(height))
    xy = tf.reshape(tf.stack([x, y], axis=-1), [-1, 2])
    return (tf.cast(xy, tf.float32) + 0.5) * stride
