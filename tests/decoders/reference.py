"""The decoders once more, one candidate at a time in plain Python, from the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

Row = tuple[float, float, float, float, float, int]
"""x1, y1, x2, y2, score, class."""


class Case(NamedTuple):
    """A random model head.

    Attributes:
        family: Decoder name.
        shapes: Role -> shape of the output.
        params: Decoder parameters.
        classes: Number of classes.
        rows: (real outputs by role, multi_label) -> every candidate, whatever its score.
        logits: Values are drawn around 0 with this spread; 0 for probabilities in 0..1.
    """

    family: str
    shapes: dict[str, tuple[int, ...]]
    params: dict[str, Any]
    classes: int
    rows: Callable[[dict[str, Any], bool], Iterator[Row]]
    logits: float = 0.0


SIZE_WH = (96, 64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    exps = [math.exp(v - top) for v in values]
    return [e / sum(exps) for e in exps]


def box(cx: float, cy: float, w: float, h: float) -> tuple[float, float, float, float]:
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def choices(scores: list[float], multi_label: bool) -> Iterator[tuple[int, float]]:
    if multi_label:
        yield from enumerate(scores)
        return
    best = 0
    for index, score in enumerate(scores):
        if score > scores[best]:
            best = index
    yield best, scores[best]


def yolov8(last: bool, unit: tuple[float, float]) -> Callable[[dict[str, Any], bool], Iterator[Row]]:
    def rows(real: dict[str, Any], multi_label: bool) -> Iterator[Row]:
        table = real["output"][0].tolist()
        columns = table if last else [list(column) for column in zip(*table, strict=True)]
        for column in columns:
            xyxy = box(column[0] * unit[0], column[1] * unit[1], column[2] * unit[0], column[3] * unit[1])
            for index, score in choices(column[4:], multi_label):
                yield (*xyxy, score, index)

    return rows


def objectness(place: Callable[[int, list[float]], tuple[float, ...]]) -> Callable[..., Iterator[Row]]:
    def rows(real: dict[str, Any], multi_label: bool) -> Iterator[Row]:
        for number, row in enumerate(real["output"][0].tolist()):
            scores = [row[4] * value for value in row[5:]]
            for index, score in choices(scores, multi_label):
                yield (*box(*place(number, row)), score, index)

    return rows


def yolox_grid(strides: tuple[int, ...]) -> Callable[[int, list[float]], tuple[float, ...]]:
    cells = [(x, y, s) for s in strides for y in range(SIZE_WH[1] // s) for x in range(SIZE_WH[0] // s)]

    def place(number: int, row: list[float]) -> tuple[float, ...]:
        x, y, s = cells[number]
        return (row[0] + x) * s, (row[1] + y) * s, math.exp(row[2]) * s, math.exp(row[3]) * s

    return place


def darknet(
    anchors: list[list[list[float]]],
    strides: list[int],
    classes: int,
    scale: list[float],
    new: bool,
    planar: bool,
    soft: bool = False,
) -> Callable[[dict[str, Any], bool], Iterator[Row]]:
    act = (lambda v: v) if new else sigmoid

    def rows(real: dict[str, Any], multi_label: bool) -> Iterator[Row]:
        for number, stride in enumerate(strides):
            head = real[f"head_{number}"][0]
            if planar:
                head = np.moveaxis(head, 0, -1)
            for y, line in enumerate(head.tolist()):
                for x, cell in enumerate(line):
                    for a, (aw, ah) in enumerate(anchors[number]):
                        v = cell[a * (5 + classes) : (a + 1) * (5 + classes)]
                        s = scale[number]
                        cx = (act(v[0]) * s - (s - 1) / 2 + x) * stride
                        cy = (act(v[1]) * s - (s - 1) / 2 + y) * stride
                        w = (4 * v[2] ** 2 if new else math.exp(v[2])) * aw
                        h = (4 * v[3] ** 2 if new else math.exp(v[3])) * ah
                        scores = softmax(v[5:]) if soft else [act(c) for c in v[5:]]
                        for index, score in choices([act(v[4]) * c for c in scores], multi_label):
                            yield (*box(cx, cy, w, h), score, index)

    return rows


def darknet_parts(
    anchors: list[list[list[float]]], strides: list[int], classes: int, scale: list[float]
) -> Callable[[dict[str, Any], bool], Iterator[Row]]:
    """A head in four tensors is the same as one whose anchors' values stand together."""
    whole = darknet(anchors, strides, classes, scale, False, False)

    def rows(real: dict[str, Any], multi_label: bool) -> Iterator[Row]:
        heads = {}
        for number, pairs in enumerate(anchors):
            parts = [real[f"head_{number}_{part}"] for part in ("xy", "wh", "obj", "cls")]
            cells = [part.reshape(*part.shape[:3], len(pairs), -1) for part in parts]
            heads[f"head_{number}"] = np.concatenate(cells, axis=-1).reshape(*parts[0].shape[:3], -1)
        yield from whole(heads, multi_label)

    return rows


def anchor_free(strides: list[int], planar: bool) -> Callable[[dict[str, Any], bool], Iterator[Row]]:
    def rows(real: dict[str, Any], multi_label: bool) -> Iterator[Row]:
        for s in strides:
            boxes, scores = real[f"box_{s}"][0], real[f"cls_{s}"][0]
            if planar:
                boxes, scores = np.moveaxis(boxes, 0, -1), np.moveaxis(scores, 0, -1)
            for y in range(boxes.shape[0]):
                for x in range(boxes.shape[1]):
                    left, top, right, bottom = (math.exp(v) for v in boxes[y, x].tolist())
                    cx, cy = x + 0.5, y + 0.5
                    xyxy = ((cx - left) * s, (cy - top) * s, (cx + right) * s, (cy + bottom) * s)
                    for index, score in choices([sigmoid(v) for v in scores[y, x].tolist()], multi_label):
                        yield (*xyxy, score, index)

    return rows


def ssd_anchors(
    anchors: list[list[float]], variances: list[float], order: str, exp: bool, activation: str, background: bool
) -> Callable[[dict[str, Any], bool], Iterator[Row]]:
    def rows(real: dict[str, Any], multi_label: bool) -> Iterator[Row]:
        for (ax, ay, aw, ah), t, raw in zip(
            anchors, real["boxes"][0].tolist(), real["scores"][0].tolist(), strict=True
        ):
            tx, ty, tw, th = t[:4] if order == "xywh" else (t[1], t[0], t[3], t[2])
            cx, cy = tx * variances[0] * aw + ax, ty * variances[1] * ah + ay
            w, h = tw * variances[2], th * variances[3]
            w, h = (math.exp(w) * aw, math.exp(h) * ah) if exp else (w * aw, h * ah)
            width, height = SIZE_WH
            xyxy = box(cx * width, cy * height, w * width, h * height)
            scores = softmax(raw) if activation == "softmax" else [sigmoid(v) for v in raw]
            for index, score in choices(scores[background:], multi_label):
                yield (*xyxy, score, index)

    return rows


def end2end(real: dict[str, Any], multi_label: bool) -> Iterator[Row]:
    width, height = SIZE_WH
    for x1, y1, x2, y2, score, index in real["output"][0].tolist():
        yield x1 * width, y1 * height, x2 * width, y2 * height, score, round(index)
