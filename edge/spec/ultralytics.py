"""Ultralytics' own metadata: `metadata.json`, the older `temp_meta.txt`, and YOLOv5's `meta.txt`.

What the exports of the years have in common (their exporter and backends, v8.0 to v8.4): input 0..1 in RGB whatever
the quantisation of the input tensor says, centred letterbox with 114, and class probabilities after sigmoid or
softmax. What they differ in is measured: the unit of boxes (pixels in the first months of v8, normalised since, and
either in end-to-end heads) and the layout (NHWC, but NCHW in LiteRT exports from 8.4.83 on).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from edge.errors import SpecError
from edge.spec.inputs import describe
from edge.spec.labels import UNNAMED
from edge.spec.model import DecoderSpec, InputSpec, ModelSpec, Provenance
from edge.tensor import TensorInfo

MEMBERS = ("metadata.json", "temp_meta.txt", "meta.txt")
"""Where it lies in the archive behind the model, newest form first."""

_MAX_BYTES = 2 << 20
_MAX_CLASSES = 100_000
_MAX_END2END_ROWS = 1000
_RTDETR = "RTDETRDecoder"
"""A head whose rows look like others' but hold centres and sizes, of pictures that were stretched."""


def parse(data: bytes, where: str) -> dict[str, Any]:
    """Read either form: JSON, or a Python dict literal (data only, nothing is run).

    Raises:
        SpecError: It is neither, or no dictionary.
    """
    if len(data) > _MAX_BYTES:
        raise SpecError(f"{where}: expected metadata of at most {_MAX_BYTES} bytes, found {len(data)}")
    try:
        text = data.decode("utf-8-sig")
        try:
            value = json.loads(text)
        except ValueError:
            value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise SpecError(f"{where}: expected JSON or a Python dictionary, found {data[:40]!r}") from error
    if not isinstance(value, dict):
        raise SpecError(f"{where}: expected a dictionary, found {type(value).__name__}")
    return value


def recognised(value: Mapping[str, Any]) -> bool:
    """Return whether a dictionary is Ultralytics' metadata."""
    return "names" in value and ("stride" in value or "task" in value)


def to_spec(
    value: Mapping[str, Any],
    where: str,
    name: str,
    input_info: TensorInfo,
    outputs: tuple[TensorInfo, ...],
) -> ModelSpec:
    """Turn Ultralytics' metadata into a spec.

    Args:
        value: The parsed metadata.
        where: Its file, for messages.
        name: Name of the model.
        input_info: The model's input.
        outputs: Its outputs.

    Raises:
        SpecError: The task is not supported, or the metadata contradicts the outputs.
    """
    task = value.get("task", "detect")  # YOLOv5 writes no task and exports detectors only
    if task not in ("detect", "classify"):
        raise SpecError(f"{where}: the model's task is {repr(task)[:60]}; expected a detection or classification model")
    if value.get("head") == _RTDETR or str(value.get("description")).lower().startswith("ultralytics rtdetr"):
        raise SpecError(f"{where}: the model is an RT-DETR, which edge does not decode; export a YOLO detector")
    labels = _names(value["names"], where)
    classify = task == "classify"
    if len(outputs) != 1:
        raise SpecError(f"{where}: expected one output for task {task}, found {describe(outputs)}")
    decoder = DecoderSpec(name="classifier", outputs={"scores": outputs[0].name}) if classify else None
    gray = value.get("channels") == 1
    return ModelSpec(
        name=name,
        task="classify" if classify else "detect",
        input=InputSpec(
            size_wh=_size_wh(value.get("imgsz")) if any(n < 1 for n in input_info.shape) else None,
            color="GRAY" if gray else "RGB",
            resize="center-crop" if classify else "letterbox-center",
        ),
        decoder=decoder or _head(value, where, len(labels), outputs[0]),
        labels=labels,
        provenance=Provenance(
            source=_text(value.get("description")),
            licence=_text(value.get("license")),
            created_by=f"Ultralytics {value['version']}" if "version" in value else None,
        ),
    )


def _head(value: Mapping[str, Any], where: str, classes: int, info: TensorInfo) -> DecoderSpec:
    """Tell the head by its shape and the number of classes."""
    roles = {"output": info.name}
    if len(info.shape) == 3:
        _, a, b = info.shape
        arguments = value.get("args")
        inside = bool(value.get("end2end")) or (isinstance(arguments, Mapping) and bool(arguments.get("nms")))
        if b == 6 and (inside or ("task" in value and a <= _MAX_END2END_ROWS and a != 4 + classes)):
            return DecoderSpec(name="end2end", outputs=roles)
        if a == 4 + classes:
            return DecoderSpec(name="yolov8", outputs=roles, params={"channels_last": False})
        if b == 4 + classes:
            return DecoderSpec(name="yolov8", outputs=roles, params={"channels_last": True})
        if b == 5 + classes:
            return DecoderSpec(name="yolov5", outputs=roles)
    raise SpecError(
        f"{where}: names {classes} classes, for which the output has (1, {4 + classes}, N), (1, N, {5 + classes}) or "
        f"(1, N, 6); found {describe([info])}; to replace a wrong description: edge inspect MODEL --attach spec.json "
        "--force"
    )


def _names(value: Any, where: str) -> tuple[str, ...]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    try:
        names = {int(key): str(label) for key, label in items}
    except (TypeError, ValueError) as error:
        raise SpecError(f"{where}: names: expected class numbers and names ({error})") from error
    if not names or min(names) < 0 or max(names) >= _MAX_CLASSES:
        raise SpecError(f"{where}: names: expected class names numbered from 0, found {repr(value)[:60]}")
    return tuple(names.get(i, UNNAMED) for i in range(max(names) + 1))


def _size_wh(value: Any) -> tuple[int, int] | None:
    """Read `imgsz`: one number, or height and width."""
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, list | tuple) or len(sides) != 2:
        return None
    return (sides[1], sides[0]) if all(isinstance(n, int) and 0 < n < 1 << 15 for n in sides) else None


def _text(value: Any) -> str | None:
    return value[:500] if isinstance(value, str) and value else None
