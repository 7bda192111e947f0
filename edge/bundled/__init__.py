"""The model that is used when none is named."""

from __future__ import annotations

from pathlib import Path

from edge.errors import InputError

_NAME = "edge-yolo-n.tflite"


def default_model() -> Path:
    """Return the bundled detector.

    Raises:
        InputError: This installation has none.
    """
    path = Path(__file__).with_name(_NAME)
    if not path.is_file():
        raise InputError(f"no model was named and this installation has no {_NAME}; pass --model FILE.tflite")
    return path
