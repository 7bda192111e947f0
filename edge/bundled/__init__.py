"""The model that is used when none is named, and its full int8 twin."""

from __future__ import annotations

from pathlib import Path

from edge.errors import InputError

_NAME = "edge-yolo-n.tflite"
BUNDLED = {"edge-yolo-n": _NAME, "edge-yolo-n-int8": "edge-yolo-n-int8.tflite"}
"""Name -> file in this folder."""


def default_model() -> Path:
    """Return the bundled detector.

    Raises:
        InputError: This installation has none.
    """
    path = Path(__file__).with_name(_NAME)
    if not path.is_file():
        raise InputError(f"no model was named and this installation has no {_NAME}; pass --model FILE.tflite")
    return path


def bundled_model(name: str) -> Path | None:
    """Return the file of a bundled model by its name; None for another name."""
    return Path(__file__).with_name(BUNDLED[name]) if name in BUNDLED else None
