"""The anchor-free head: distances to the four sides and class logits for every cell; task-aligned assignment.

Outputs, one pair per stride ``s`` in (8, 16, 32), named ``box_s`` and ``cls_s``:

- ``box_s`` (B, H/s, W/s, 4) float32: the logarithms of the distances from the cell centre
  ``((x + 0.5) * s, (y + 0.5) * s)`` to the left, top, right and bottom side, in units of the stride:
  ``distance_px = exp(t) * s``.
- ``cls_s`` (B, H/s, W/s, C) float32: one logit per class; classes are independent sigmoids.

They stay six raw tensors because a quantised tensor has one scale: coordinates beside scores would ruin the scores.
Shapes in the loss: B images, N cells over all strides (strides in order, rows before columns), M truth rows, C classes;
see `models.detection.loss` for a truth row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from edge.spec import DecoderSpec
from models.detection.blocks import STRIDES, Blocks
from models.detection.loss import apart, cell_centres, ciou, iou, silenced

TOP_K = 10
BOX_WEIGHT = 5.0
DISTILLED_CLASSES, DISTILLED_BOXES = 4.0, 2.5
"""Weights of the two parts of `distillation_loss`, beside a loss on the truth of weight 1 and `BOX_WEIGHT`."""
LOG_RANGE = (-4.0, 5.0)
"""Where the loss clamps the raw box outputs: 0.02 to 148 strides, wider than any target of a trained size."""


class AnchorFree:
    """See the head of this module."""

    iou = 0.5
    """Overlap above which NMS drops the weaker box: of 0.45 to 0.75 the best mean AP50 over four validation sets."""

    def outputs(self, blocks: Blocks, features: Sequence[Any], width: int, classes: int) -> dict[str, Any]:
        """Lay the head on the features of strides 8, 16 and 32."""
        outputs = {}
        for stride, feature in zip(STRIDES, features, strict=True):
            outputs[f"box_{stride}"] = blocks.head(feature, width, 4, math.log(3.0), f"box_{stride}")
            # A prior of 1% per class keeps the first steps from being spent on the background alone.
            outputs[f"cls_{stride}"] = blocks.head(feature, width, classes, -math.log(99.0), f"cls_{stride}")
        return outputs

    def loss(self, outputs: dict[str, Any], truth: Any) -> tuple[Any, Any]:
        """Return the class loss and the box loss of outputs for truth rows (B, M, 5); see `detection_loss`."""
        return detection_loss(outputs, truth)

    def decoder(self, classes: int) -> DecoderSpec:
        """Return how the runtime decodes it; roles are the names of the outputs."""
        names = [f"{role}_{stride}" for stride in STRIDES for role in ("box", "cls")]
        return DecoderSpec(
            name="anchor_free", outputs={name: name for name in names}, params={"strides": list(STRIDES)}
        )


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
        centres.append(cell_centres(height, width, stride))
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


def distillation_loss(outputs: dict[str, Any], teacher: dict[str, Any]) -> tuple[Any, Any]:
    """Return what a network loses against a teacher's answers for the same pictures, scalars: classes and boxes.

    Every cell learns the teacher's scores, by BCE weighted with how far they are off, as in quality focal loss (Li et
    al. 2020, arXiv:2006.04388); and its box, by CIoU weighted with its best score. Both are over the sum of these.

    Args:
        outputs: Of the network that learns.
        teacher: Of the teacher: the same tensors.
    """
    raw, logits, centres, strides = flatten_outputs(outputs)
    taught_raw, taught_logits, _, _ = flatten_outputs(teacher)
    scores = tf.stop_gradient(tf.sigmoid(taught_logits))
    taught = tf.stop_gradient(decode_boxes(taught_raw, centres, strides))
    best = tf.reduce_max(scores, axis=-1)
    total = tf.maximum(tf.reduce_sum(best), 1.0)
    off = tf.abs(tf.stop_gradient(tf.sigmoid(logits)) - scores)
    class_loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(scores, logits) * off) / total
    box_loss = tf.reduce_sum((1.0 - ciou(decode_boxes(raw, centres, strides), taught)) * best) / total
    return DISTILLED_CLASSES * class_loss, DISTILLED_BOXES * box_loss


def detection_loss(outputs: dict[str, Any], truth: Any) -> tuple[Any, Any]:
    """Return the class loss (BCE) and the box loss (`BOX_WEIGHT` x (1 - CIoU)), scalars, over the sum of targets."""
    raw, logits, centres, strides = flatten_outputs(outputs)
    boxes = decode_boxes(raw, centres, strides)
    objects, regions = apart(truth)
    targets = assign(tf.stop_gradient(logits), tf.stop_gradient(boxes), centres, objects)
    scores, target_boxes, weight = (tf.stop_gradient(target) for target in targets)
    # Where a class is open, only objects that are known count.
    known = tf.where(scores > 0.0, 1.0, 1.0 - silenced(centres, regions, logits.shape[-1]))
    total = tf.maximum(tf.reduce_sum(scores), 1.0)
    class_loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(scores, logits) * known) / total
    box_loss = tf.reduce_sum((1.0 - ciou(boxes, target_boxes)) * weight) / total
    return class_loss, BOX_WEIGHT * box_loss
