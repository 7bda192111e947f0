"""How much each value of a raw output matters for what is decoded from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from convert.rescue.clip import LIMIT, logit_outputs
from edge.spec import ModelSpec

_FLOOR = 0.02
"""Weight of what nothing is decoded from: background must stay background."""


def importance(spec: ModelSpec, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a weight for each value of the outputs, by output name; 1 for heads that are not known here.

    A logit matters as far as it moves its sigmoid, p (1 - p), and a box or a class as far as there is an object.

    Args:
        spec: Says what the outputs are.
        outputs: Of the float model, each (N, H, W, channels).
    """
    weights: dict[str, Any] = dict.fromkeys(outputs, 1.0)
    roles = spec.decoder.outputs
    if spec.decoder.name == "yolo_anchors" and not spec.decoder.params.get("new_coords"):
        for role, name in roles.items():
            head, _, part = role.rpartition("_")
            if part == "obj":
                objectness = tf.sigmoid(outputs[name])
                weights[name] = _slope(objectness)
                for other in ("xy", "wh", "cls"):
                    raw = outputs[roles[f"{head}_{other}"]]
                    each = raw.shape[-1] // objectness.shape[-1]
                    seen = _FLOOR + tf.repeat(objectness, each, axis=-1)
                    weights[roles[f"{head}_{other}"]] = seen if other == "wh" else seen * _slope(tf.sigmoid(raw))
            elif part.isdecimal():
                weights[name] = _whole_head(outputs[name], len(spec.decoder.params["anchors"][int(part)]))
    elif spec.decoder.name == "anchor_free":
        for role, name in roles.items():
            kind, _, stride = role.partition("_")
            if kind == "cls":
                scores = tf.sigmoid(outputs[name])
                weights[name] = _slope(scores)
                weights[roles[f"box_{stride}"]] = _FLOOR + tf.reduce_max(scores, axis=-1, keepdims=True)
    return weights


def output_error(spec: ModelSpec, teacher: Mapping[str, Any], student: Mapping[str, Any]) -> Any:
    """Return how far outputs are from those of the float model: the mean of `relative_error` over the outputs."""
    weights, logits = importance(spec, teacher), logit_outputs(spec)
    errors = []
    for name in teacher:
        pair = (student[name], teacher[name])
        if name in logits:  # where the sigmoid is flat nothing can go wrong
            pair = tuple(tf.clip_by_value(x, -LIMIT, LIMIT) for x in pair)
        errors.append(relative_error(*pair, weights[name]))
    return tf.add_n(errors) / len(errors)


def relative_error(student: Any, teacher: Any, weight: Any = 1.0) -> Any:
    """Return the weighted mean squared error in units of the teacher's weighted mean square."""
    error, signal = tf.reduce_mean(weight * tf.square(student - teacher)), tf.reduce_mean(weight * tf.square(teacher))
    return error / (tf.stop_gradient(signal) + 1e-9)


def _whole_head(raw: Any, anchors: int) -> Any:
    """Return the weights of a head in one tensor, (N, H, W, anchors * (5 + C))."""
    cells = tf.reshape(raw, (-1, *raw.shape[1:3], anchors, raw.shape[-1] // anchors))
    probability = tf.sigmoid(cells)
    objectness = probability[..., 4:5]
    seen = _FLOOR + objectness
    slope = _slope(probability)
    parts = [
        seen * slope[..., :2],
        seen * tf.ones_like(cells[..., 2:4]),
        slope[..., 4:5],
        seen * slope[..., 5:],
    ]
    return tf.reshape(tf.concat(parts, axis=-1), (-1, *raw.shape[1:]))


def _slope(probability: Any) -> Any:
    return _FLOOR + 4 * probability * (1 - probability)
