"""The commented example that `edge config init` writes, and the documentation's table of keys: from the schema."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edge.config.schema import SINKS, CameraConfig, JsonSinkConfig, ModelConfig, ServiceConfig

TABLES: dict[str, type[BaseModel]] = {
    "service": ServiceConfig,
    "models.NAME": ModelConfig,
    "cameras.NAME": CameraConfig,
    **{f'sinks.NAME, kind = "{kind}"': table for kind, table in SINKS.items()},
}
"""Where it stands -> its table."""

_EXAMPLES: dict[str, dict[str, object]] = {
    "service": {"http": "127.0.0.1:8621", "token": "${EDGE_TOKEN}"},
    "models": {"path": "edge-yolo-n", "labels": "labels.txt", "decoder": "yolov8", "input_range": "0..1"},
    "cameras": {
        "source": "0",
        "conf": 0.3,
        "iou": 0.5,
        "classes": ["person", "car"],
        "max_fps": 10,
        "size": "1280x720",
        "fps": 15,
        "format": "MJPG",
        "model": "default",
        "sinks": ["log"],
    },
    "json": {"path": "detections/{camera}.jsonl"},
    "csv": {"path": "detections/{camera}.csv"},
    "record": {"path": "video", "max_days": 7, "max_gb": 8, "fps": 10, "max_width": 960},
    "clips": {"path": "clips", "classes": ["person"], "max_days": 30, "max_gb": 2, "max_width": 960},
    "snapshots": {"path": "snapshots", "classes": ["person"], "max_days": 30, "max_gb": 1, "max_width": 960},
}

_OUTPUTS = "/var/lib/edge/"
"""Where a service may write: `edge service install` gives it this folder."""

_HEAD = """\
# What edge run does. Lines that begin with #: are keys with their default or an example; take the #: away to set one.
# Any text may hold ${NAME}, a variable of the environment. Relative paths start from the folder of this file.
# Check it with: edge run {path} --check       A change is taken while it runs; a bad one is refused.
"""


def template(path: str) -> str:
    """Return a commented configuration that runs camera 0 with the bundled model.

    Args:
        path: What the file will be called. Below /etc it is a service's, whose outputs go to /var/lib/edge.
    """
    outputs = _OUTPUTS if os.path.abspath(path).startswith("/etc/") else ""
    parts = [
        _HEAD.replace("{path}", path),
        _table("[service]", ServiceConfig, "service", set()),
        _table("[models.default]", ModelConfig, "models", set()),
        "# A camera; more of them: more tables like this one.\n"
        + _table("[cameras.front]", CameraConfig, "cameras", {"source"}),
        _table("[sinks.log]", JsonSinkConfig, "json", {"kind", "path"}, outputs),
    ]
    for kind, table in SINKS.items():
        if kind != "json":
            parts.append(_table(f"#: [sinks.{kind}]", table, kind, set(), outputs))
    return "\n".join(parts)


def _table(header: str, table: type[BaseModel], examples: str, set_keys: set[str], outputs: str = "") -> str:
    lines = [f"# {_first_line(table)}", header]
    shown = _EXAMPLES[examples]
    if outputs:
        shown = {**shown, "path": f"{outputs}{shown['path']}"}
    for name, value, description in _keys(table, shown):
        mark = "" if name in set_keys else "#: "
        lines.append(f"{mark}{name} = {value}".ljust(40) + f" # {description}")
    return "\n".join(lines) + "\n"


def _keys(table: type[BaseModel], examples: dict[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield name, value as TOML, and description of each key."""
    fields = sorted(table.model_fields.items(), key=lambda item: item[0] != "kind")
    for name, field in fields:
        value = examples.get(name, field.default)
        if name == "kind":
            value = get_args(field.annotation)[0]
        if value is None or value is PydanticUndefined:
            choices = _choices(field.annotation)
            value = choices[0] if choices else ""
        yield name, json.dumps(value, ensure_ascii=False), str(field.description)


def _first_line(table: type[BaseModel]) -> str:
    return (table.__doc__ or "").partition("\n")[0]


def _choices(annotation: Any) -> list[object]:
    """Return the values that a key may have, where they are few."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []


def markdown() -> str:
    """Return the tables of all keys for the documentation."""
    parts = []
    for place, table in TABLES.items():
        rows = [f"### `[{place}]`" if "," not in place else f"### `[{place.replace(',', ']`, `', 1)}`"]
        rows += ["", _first_line(table), "", "| key | default | |", "|---|---|---|"]
        for name, field in sorted(table.model_fields.items(), key=lambda item: item[0] != "kind"):
            default = (
                "required"
                if field.is_required()
                else "-"
                if field.default is None
                else f"`{json.dumps(field.default)}`"
            )
            choices = ", ".join(f"`{choice}`" for choice in _choices(field.annotation)) if name != "kind" else ""
            more = f" ({choices})" if choices and choices != "`auto`" else ""
            rows.append(f"| `{name}` | {default} | {field.description}{more} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"
