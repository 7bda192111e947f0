"""Model files of other people's exporters, in miniature: their shapes, units, layouts, dtypes and metadata members.

Input 64 x 64, three classes, one object: class 1, score 0.8, box BOX in input pixels. Every other row holds a plausible
box without a score, as the rows of a real head do.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from fixtures import constant_model

from edge.spec.archive import with_tail

Array = npt.NDArray[Any]

SIDE = 64
BOX = (8.0, 16.0, 40.0, 48.0)
SCORE = 0.8
CLASS = 1
NAMES = ("cat", "dog", "bird")
CELLS = 64 + 16 + 4
"""Cells of strides 8, 16 and 32."""
UNIT = (1 / 255, 0)
STEPS = (1 / 127, 0)
"""Scale and zero point of outputs; BOX and SCORE are a few hundredths of a step off."""


def rows(count: int, normalized: bool = True) -> Array:
    """Return float32 (count, 4), cx cy w h; row 5 is BOX."""
    column, line = np.arange(count) % 8, np.arange(count) // 8 % 8
    boxes = np.stack([column * 8 + 4, line * 8 + 4, np.full(count, 9), np.full(count, 9)], axis=1).astype(np.float32)
    x1, y1, x2, y2 = BOX
    boxes[5] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    return boxes / SIDE if normalized else boxes


def scores(count: int, classes: int = 3) -> Array:
    """Return float32 (count, classes) with the one score."""
    table = np.zeros((count, classes), np.float32)
    table[5, min(CLASS, classes - 1)] = SCORE
    return table


def v8(normalized: bool = True, classes: int = 3, last: bool = False) -> Array:
    """Return (1, 4 + C, N), or (1, N, 4 + C)."""
    table = np.concatenate([rows(CELLS, normalized), scores(CELLS, classes)], axis=1)
    return (table if last else table.T)[None]


def v5(normalized: bool = True, classes: int = 3) -> Array:
    """Return (1, N, 5 + C) of three anchors a cell."""
    objectness = (scores(3 * CELLS).max(axis=1, keepdims=True) > 0).astype(np.float32)
    return np.concatenate([rows(3 * CELLS, normalized), objectness, scores(3 * CELLS, classes)], axis=1)[None]


def end2end(normalized: bool, count: int = 300) -> Array:
    """Return (1, N, 6)."""
    table = np.zeros((1, count, 6), np.float32)
    table[0, 2] = (*np.array(BOX) / (SIDE if normalized else 1), SCORE, CLASS)
    return table


def yolox(decoded: bool) -> Array:
    """Return (1, N, 5 + C), decoded in pixels or raw."""
    strides = np.repeat([8, 16, 32], [64, 16, 4])
    grid = np.concatenate([np.stack(np.mgrid[:n, :n][::-1], axis=-1).reshape(-1, 2) for n in (8, 4, 2)])
    boxes = rows(CELLS, normalized=False)
    # The object belongs to the cell of its centre, (24, 32), on the stride of 16.
    at = 64 + 2 * 4 + 1
    boxes[[5, at]] = boxes[[at, 5]]
    if not decoded:
        boxes[:, :2] = boxes[:, :2] / strides[:, None] - grid
        boxes[:, 2:] = np.log(boxes[:, 2:] / strides[:, None])
        others = np.arange(CELLS) != at
        boxes[others, :2] = 0.5
    confidences = np.zeros((CELLS, 4), np.float32)
    confidences[at, 0], confidences[at, 1 + CLASS] = 1, SCORE
    return np.concatenate([boxes, confidences], axis=1)[None].astype(np.float32)


def ultralytics(version: str, member: str, **changes: Any) -> dict[str, bytes]:
    """Return the archive member that a version of Ultralytics writes."""
    value: dict[str, Any] = {
        "description": "Ultralytics YOLOv8n model trained on data.yaml",
        "author": "Ultralytics",
        "version": version,
        "stride": 32,
        "task": "detect",
        "batch": 1,
        "imgsz": [SIDE, SIDE],
        "names": dict(enumerate(NAMES)),
    }
    value |= changes
    text = json.dumps(value) if member == "metadata.json" else str(value)
    return {member: text.encode()}


def yolov5_meta(names: Any = NAMES) -> dict[str, bytes]:
    """Return YOLOv5's member; `names` was a list first and a dictionary later."""
    return {"meta.txt": str({"stride": 32, "names": names}).encode()}


def model(
    output: Array,
    members: dict[str, bytes] | None = None,
    layout: str = "NHWC",
    dtype: str = "float32",
    quant: tuple[float, int] = STEPS,
    input_quant: tuple[float, int] = UNIT,
) -> bytes:
    """Return a file with one output, `dtype` in and out, and the members behind it."""
    shape = (1, SIDE, SIDE, 3) if layout == "NHWC" else (1, 3, SIDE, SIDE)
    if dtype == "float32":
        data = constant_model({"Identity": output}, shape)
    else:
        limits = np.iinfo(dtype)
        steps = np.clip(np.rint(output / quant[0] + quant[1]), limits.min, limits.max).astype(dtype)
        data = constant_model({"Identity": steps}, shape, dtype, input_quant, {"Identity": quant})
    return with_tail(data, members) if members else data
