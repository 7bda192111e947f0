"""Random heads of every family, for the tests that compare decoders with the plain ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from reference import (
    SIZE_WH,
    Case,
    anchor_free,
    darknet,
    darknet_parts,
    end2end,
    objectness,
    ssd_anchors,
    yolov8,
    yolox_grid,
)

from edge.decoders import DECODERS
from edge.decoders.base import Decode
from edge.spec import DecoderSpec, InputSpec, ModelSpec
from edge.tensor import TensorInfo

_ANCHORS = [[[20.0, 30.0], [60.0, 10.0]], [[5.0, 7.0], [9.0, 4.0]]]
_SSD_ANCHORS = [[0.1 + 0.2 * (i % 4), 0.2 + 0.1 * (i // 4), 0.2, 0.1 + 0.05 * (i % 3)] for i in range(30)]
_VARIANCES = [0.1, 0.2, 0.3, 0.4]


def _darknet_case(new: bool, planar: bool, scale: list[float]) -> Case:
    shapes = {"head_0": (1, 2, 3, 16), "head_1": (1, 4, 6, 16)}
    if planar:
        shapes = {role: (1, shape[3], shape[1], shape[2]) for role, shape in shapes.items()}
    params = {"anchors": _ANCHORS, "strides": [32, 16], "classes": 3, "scale_x_y": scale, "new_coords": new}
    rows = darknet(_ANCHORS, [32, 16], 3, scale, new, planar)
    return Case("yolo_anchors", shapes, params, 3, rows, 0.0 if new else 2.0)


def _darknet_parts_case() -> Case:
    cells = {"head_0": (1, 2, 3), "head_1": (1, 4, 6)}
    values = {"xy": 2, "wh": 2, "obj": 1, "cls": 3}
    shapes = {f"{head}_{part}": (*grid, 2 * n) for head, grid in cells.items() for part, n in values.items()}
    params = {"anchors": _ANCHORS, "strides": [32, 16], "classes": 3, "scale_x_y": [1.1, 1.0]}
    return Case("yolo_anchors", shapes, params, 3, darknet_parts(_ANCHORS, [32, 16], 3, [1.1, 1.0]), 2.0)


def _region_case(soft: bool) -> Case:
    anchors = [[0.5, 1.5], [2.0, 1.0]]
    pixels = [[[w * 32, h * 32] for w, h in anchors]]
    rows = darknet(pixels, [32], 4, [1.0], False, False, soft)
    return Case("region", {"head_0": (1, 2, 3, 18)}, {"anchors": anchors, "classes": 4, "softmax": soft}, 4, rows, 2.0)


def _ssd_case(order: str, size: str, activation: str, background: bool) -> Case:
    params = {"anchors": _SSD_ANCHORS, "variances": _VARIANCES, "order": order, "size": size}
    params |= {"activation": activation, "background": background}
    rows = ssd_anchors(_SSD_ANCHORS, _VARIANCES, order, size == "exp", activation, background)
    shapes = {"boxes": (1, 30, 6), "scores": (1, 30, 5)}
    return Case("ssd_anchors", shapes, params, 5 - background, rows, 2.0)


def _anchor_free_case(planar: bool) -> Case:
    shapes = {}
    for stride in (16, 32):
        h, w = SIZE_WH[1] // stride, SIZE_WH[0] // stride
        shapes[f"box_{stride}"] = (1, 4, h, w) if planar else (1, h, w, 4)
        shapes[f"cls_{stride}"] = (1, 5, h, w) if planar else (1, h, w, 5)
    return Case("anchor_free", shapes, {"strides": [16, 32]}, 5, anchor_free([16, 32], planar), 2.0)


def _pixels(number: int, row: list[float]) -> tuple[float, ...]:
    return tuple(row[:4])


def _normalised(number: int, row: list[float]) -> tuple[float, ...]:
    return row[0] * SIZE_WH[0], row[1] * SIZE_WH[1], row[2] * SIZE_WH[0], row[3] * SIZE_WH[1]


_SIZE = (float(SIZE_WH[0]), float(SIZE_WH[1]))

CASES: dict[str, Case] = {
    "yolov8": Case("yolov8", {"output": (1, 9, 60)}, {"boxes": "normalized"}, 5, yolov8(False, _SIZE)),
    "yolov8-auto": Case("yolov8", {"output": (1, 9, 60)}, {}, 5, yolov8(False, _SIZE)),
    "yolov8-pixels": Case("yolov8", {"output": (1, 9, 60)}, {"boxes": "pixels"}, 5, yolov8(False, (1, 1))),
    "yolov8-last": Case("yolov8", {"output": (1, 60, 9)}, {}, 5, yolov8(True, _SIZE)),
    "yolov5": Case("yolov5", {"output": (1, 60, 9)}, {"boxes": "normalized"}, 4, objectness(_normalised)),
    "yolov5-pixels": Case("yolov5", {"output": (1, 60, 9)}, {"boxes": "pixels"}, 4, objectness(_pixels)),
    "yolox-grid": Case(
        "yolox", {"output": (1, 30, 8)}, {"strides": [16, 32], "decoded": "grid"}, 3, objectness(yolox_grid((16, 32)))
    ),
    "yolox-auto": Case("yolox", {"output": (1, 30, 8)}, {"strides": [16, 32]}, 3, objectness(yolox_grid((16, 32)))),
    "yolox-decoded": Case("yolox", {"output": (1, 30, 8)}, {"decoded": "pixels"}, 3, objectness(_pixels)),
    "end2end": Case("end2end", {"output": (1, 40, 6)}, {"boxes": "normalized"}, 7, end2end),
    "yolo_anchors": _darknet_case(False, False, [1.0, 1.0]),
    "yolo_anchors-scaled": _darknet_case(False, False, [1.2, 1.05]),
    "yolo_anchors-planar": _darknet_case(False, True, [1.0, 1.1]),
    "yolo_anchors-new": _darknet_case(True, False, [2.0, 2.0]),
    "yolo_anchors-parts": _darknet_parts_case(),
    "region": _region_case(True),
    "region-sigmoid": _region_case(False),
    "ssd_anchors": _ssd_case("yxhw", "exp", "sigmoid", False),
    "ssd_anchors-background": _ssd_case("yxhw", "exp", "sigmoid", True),
    "ssd_anchors-softmax": _ssd_case("yxhw", "exp", "softmax", False),
    "ssd_anchors-softmax-background": _ssd_case("xywh", "exp", "softmax", True),
    "ssd_anchors-linear": _ssd_case("xywh", "linear", "sigmoid", False),
    "anchor_free": _anchor_free_case(False),
    "anchor_free-planar": _anchor_free_case(True),
}


def infos(case: Case, dtype: str = "float32") -> dict[str, TensorInfo]:
    """Return the outputs by role; in an integer dtype with a scale that covers the case's values."""
    kind = np.dtype(dtype)
    found = {}
    for number, (role, shape) in enumerate(case.shapes.items()):
        scale, zero_point = 0.0, 0
        if kind.kind in "iu":
            low = int(np.iinfo(kind).min)
            levels = int(np.iinfo(kind).max) - low
            scale = float(np.float32((8 * case.logits or 1.01) / levels))
            zero_point = low + (levels // 2 + number if case.logits else 0)
            if case.family == "end2end":  # a class number shares the scale
                scale = float(np.float32(7.0 / levels))
        found[role] = TensorInfo(f"tensor_{role}", shape, kind, scale, zero_point)
    return found


def draw(case: Case, tensors: dict[str, TensorInfo], rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Return random raw outputs by tensor name."""
    raw = {}
    for info in tensors.values():
        real = rng.normal(0, case.logits, info.shape) if case.logits else rng.random(info.shape) ** 2
        if case.family == "end2end":
            real[..., 5] = rng.integers(0, 7, info.shape[:2])
        if not info.quantized:
            raw[info.name] = real.astype(info.dtype)
            continue
        limits = np.iinfo(info.dtype)
        levels = np.clip(np.rint(real / info.scale + info.zero_point), limits.min, limits.max)
        raw[info.name] = levels.astype(info.dtype)
    return raw


def model_spec(case: Case, tensors: dict[str, TensorInfo], labels: int | None = None, **params: Any) -> ModelSpec:
    """Return the spec of a case; `labels` replaces their number, `params` some parameters."""
    return ModelSpec(
        name="random",
        task="detect",
        input=InputSpec(),
        decoder=DecoderSpec(
            name=case.family,
            outputs={role: info.name for role, info in tensors.items()},
            params={**case.params, **params},
        ),
        labels=tuple(f"class {i}" for i in range(case.classes if labels is None else labels)),
    )


def decoder(case: Case, tensors: dict[str, TensorInfo]) -> Decode:
    """Return the decoder of a case."""
    by_name = {info.name: info for info in tensors.values()}
    return DECODERS[case.family].build(model_spec(case, tensors), SIZE_WH, by_name)
