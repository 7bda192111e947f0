"""Writes TFLite Metadata buffers, field by field as metadata_schema.fbs numbers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers


class Writer:
    """A flatbuffer in the making; tables are given as {field number: value}."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(256)

    def _value(self, value: Any) -> tuple[str, int | float]:
        builder = self._builder
        if isinstance(value, str):
            return "offset", builder.CreateString(value)
        if isinstance(value, dict):
            return "offset", self.table(value)
        if isinstance(value, list) and value and isinstance(value[0], float):
            builder.StartVector(4, len(value), 4)
            for item in reversed(value):
                builder.PrependFloat32(item)
            return "offset", builder.EndVector()
        if isinstance(value, list):
            offsets = [self._value(item)[1] for item in value]
            builder.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                builder.PrependUOffsetTRelative(offset)
            return "offset", builder.EndVector()
        return ("float", value) if isinstance(value, float) else ("byte", value)

    def table(self, fields: dict[int, Any]) -> int:
        values = {field: self._value(value) for field, value in fields.items()}
        self._builder.StartObject(max(values, default=0) + 1)
        for field, (kind, value) in values.items():
            if kind == "offset":
                self._builder.PrependUOffsetTRelativeSlot(field, value, 0)
            elif kind == "float":
                self._builder.PrependFloat32Slot(field, value, 0.0)
            else:
                self._builder.PrependUint8Slot(field, value, 0)
        return self._builder.EndObject()

    def finish(self, root: int, identifier: bytes = b"M001") -> bytes:
        self._builder.Finish(root, identifier)
        return bytes(self._builder.Output())


def tflite_metadata(
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    outputs: Sequence[str] = (),
    labels: Sequence[str] = (),
    pixels: bool = False,
    conf: float | None = None,
    licence: str = "Apache-2.0",
) -> bytes:
    """Return the metadata of a model; label files hang on the first output."""
    source: dict[int, Any] = {0: "image"}
    if mean:
        source[4] = [{0: 1, 1: {0: [float(v) for v in mean], 1: [float(v) for v in std]}}]
    tensors: list[dict[int, Any]] = [{0: name} for name in outputs]
    if tensors and labels:
        # The second language comes first here: readers want the first.
        tensors[0][6] = [{0: "other.txt", 2: 2, 3: "de"}, *({0: name, 2: 2} for name in labels)]
    if tensors and pixels:
        tensors[0][3] = {0: 3, 1: {2: 1}}
    if tensors and conf is not None:
        tensors[-1][4] = [{0: 3, 1: {0: conf}}]
    graph: dict[int, Any] = {2: [source], 3: tensors} if tensors else {2: [source]}
    writer = Writer()
    return writer.finish(writer.table({0: "Tiny", 3: [graph], 4: "us", 5: licence}))
