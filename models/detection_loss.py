"""Task-aligned assignment and the loss of the anchor-free detector, as TensorFlow graph code.

Shapes: B images, N cells over all strides (strides in order, rows before columns), M padded ground-truth boxes,
C classes. Boxes are xyxy float32 in pixels of the network's input; a ground-truth row is
``(class, x1, y1, x2, y2)`` with class -1 for padding.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from models.edge_yolo import STRIDES

TOP_K = 10
BOX_WEIGHT = 5.0
LOG_RANGE = (-4.0, 5.0)
"""Where the loss clamps the raw box outputs: 0.02 to 148 strides, wider than any target of a trained size."""


def flatten_outputs(outputs: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Join the six raw tensors of the model.

    Returns:
        Raw boxes (B, N, 4), class logits (B, N, C), cell centres (N, 2) as x, y in pixels, and strides (N,).
    """
    raw, logits, centres, strides = [], [], [], []
    for stride in STRIDES:
        box, cls = outputs[f"box_{stride}"], outputs[f"cls_{stride}"]
        batch, height, width = tf.unstack(tf.shape(box)[:3])
        raw.append(tf.reshape(box, [batch, height * width, 4]))
        logits.append(tf.reshape(cls, [batch, height * width, cls.shape[-1]]))
        x, y = tf.meshgrid(tf.range(width), tf.range(height))
        xy = tf.reshape(tf.stack([x, y], axis=-1), [-1, 2])
        centres.append((tf.cast(xy, tf.float32) + 0.5) * stride)
        strides.append(tf.fill([height * width], float(stride)))
    return tf.concat(raw, 1), tf.concat(logits, 1), tf.concat(centres, 0), tf.concat(strides, 0)


def decode_boxes(raw: Any, centres: Any, strides: Any) -> Any:
    """Turn raw boxes (..., N, 4) into xyxy pixels, with the raw values clamped to `LOG_RANGE`."""
    distance = tf.exp(tf.clip_by_value(raw, *LOG_RANGE)) * strides[:, None]
    return tf.concat([centres - distance[..., :2], centres + distance[..., 2:]], axis=-1)


def encode_boxes(boxes: Any, centres: Any, strides: Any) -> Any:
    """Invert `decode_boxes` for boxes (..., N, 4) that contain their cell's centre."""
    distance = tf.concat([centres - boxes[..., :2], boxes[..., 2:] - centres], axis=-1) / strides[:, None]
    return tf.math.log(tf.clip_by_value(distance, math.exp(LOG_RANGE[0]), math.exp(LOG_RANGE[1])))


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


def assign(logits: Any, boxes: Any, centres: Any, truth: Any, top_k: int = TOP_K) -> tuple[Any, Any, Any]:
    """Choose the cells that must answer for each object (TAL: Feng et al. 2021, arXiv:2108.07755).

    A cell is a candidate when its centre lies in the object. The `top_k` candidates by
    ``sqrt(class score) * IoU ** 6`` are taken; a cell wanted by several objects goes to the one that it covers best.
    The target score is the alignment, scaled per object so that its best cell gets that object's best IoU.

    Args:
        logits: Class logits (B, N, C).
        boxes: Decoded boxes (B, N, 4).
        centres: Cell centres (N, 2).
        truth: Ground truth (B, M, 5), M >= 1.
        top_k: Cells per object.

    Returns:
        Target scores (B, N, C) in 0..1, target boxes (B, N, 4), and each cell's weight (B, N), 0 for background.
    """
    classes = tf.cast(truth[..., 0], tf.int32)
    gt_boxes = truth[..., 1:]
    to_sides = tf.concat([centres - gt_boxes[:, :, None, :2], gt_boxes[:, :, None, 2:] - centres], axis=-1)
    candidate = (tf.reduce_min(to_sides, axis=-1) > 1e-3) & (classes >= 0)[..., None]  # (B, M, N)

    overlap = iou(gt_boxes[:, :, None], boxes[:, None])
    by_class = tf.transpose(tf.sigmoid(logits), [0, 2, 1])
    score = tf.gather(by_class, tf.maximum(classes, 0), batch_dims=1)
    alignment = tf.where(candidate, tf.sqrt(score) * overlap**6, -1.0)
    last = tf.math.top_k(alignment, tf.minimum(top_k, tf.shape(alignment)[-1])).values[..., -1:]
    chosen = candidate & (alignment >= last)

    claim = tf.where(chosen, overlap, -1.0)
    owner = tf.argmax(claim, axis=1, output_type=tf.int32)  # (B, N)
    chosen &= tf.one_hot(owner, tf.shape(truth)[1], True, False, axis=1)
    alignment = tf.where(chosen, alignment, 0.0)
    best_alignment = tf.reduce_max(alignment, axis=-1, keepdims=True)
    best_overlap = tf.reduce_max(tf.where(chosen, overlap, 0.0), axis=-1, keepdims=True)
    weight = tf.reduce_sum(tf.math.divide_no_nan(alignment, best_alignment) * best_overlap, axis=1)

    target_class = tf.gather(classes, owner, batch_dims=1)
    target_scores = tf.one_hot(target_class, logits.shape[-1]) * weight[..., None]
    return target_scores, tf.gather(gt_boxes, owner, batch_dims=1), weight


def detection_loss(outputs: dict[str, Any], truth: Any) -> tuple[Any, Any]:
    """Return the class loss (BCE) and the box loss (`BOX_WEIGHT` x (1 - CIoU)), scalars, over the sum of targets."""
    raw, logits, centres, strides = flatten_outputs(outputs)
    boxes = decode_boxes(raw, centres, strides)
    targets = assign(tf.stop_gradient(logits), tf.stop_gradient(boxes), centres, truth)
    scores, target_boxes, weight = (tf.stop_gradient(target) for target in targets)
    total = tf.maximum(tf.reduce_sum(scores), 1.0)
    class_loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(scores, logits)) / total
    box_loss = tf.reduce_sum((1.0 - ciou(boxes, target_boxes)) * weight) / total
    return class_loss, BOX_WEIGHT * box_loss
