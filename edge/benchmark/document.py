"""The report of a measurement as JSON: `docs/benchmark.md` lists its keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.errors import InputError

SCHEMA = "edge-benchmark"
VERSION = 1
"""Raised when a reader of the previous version would misread a file."""

MOST_BYTES = 64 << 20


def to_json(report: dict[str, Any]) -> str:
    """Return a report as text."""
    return json.dumps(_rounded(report), indent=1, allow_nan=False) + "\n"


def read_report(path: Path) -> dict[str, Any]:
    """Read the report of an earlier measurement.

    Raises:
        InputError: The file cannot be read, or is no such report.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than any report of edge benchmark --json")
        found: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected what edge benchmark --json wrote, found no JSON ({error})") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise InputError(f"{path}: expected what edge benchmark --json wrote, found other JSON")
    if found.get("schema_version") != VERSION:
        raise InputError(
            f"{path}: written by another version of edge (schema {found.get('schema_version')}, expected {VERSION})"
        )
    rows = found.get("results")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("key"), str) for row in rows):
        raise InputError(f"{path}: its results are broken")
    return found


def _rounded(value: Any) -> Any:
    """Return the value with numbers of six digits: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
