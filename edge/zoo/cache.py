"""Where pulled models lie, and how a name becomes a path."""

from __future__ import annotations

import os
from pathlib import Path

from edge.bundled import bundled_model
from edge.errors import InputError
from edge.zoo.table import MODELS


def cache_folder() -> Path:
    """Return the folder of pulled models: `$XDG_CACHE_HOME/edge`, or `~/.cache/edge`; it need not exist."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path there is invalid and to be ignored (XDG Base Directory Specification).
    return (Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~/.cache"))) / "edge"


def model_path(name: str) -> Path:
    """Return where a model of the table lies once it is pulled."""
    return cache_folder() / f"{name}.tflite"


def find_model(given: Path) -> Path:
    """Return the file that a user means by a path or by the name of a bundled or public model.

    Args:
        given: A path; or a name, where no file is called so.

    Raises:
        InputError: It names a model that was not pulled yet.
    """
    name = str(given)
    if given.is_file():
        return given
    if (shipped := bundled_model(name)) is not None:
        return shipped
    if name not in MODELS:
        return given
    path = model_path(name)
    if not path.is_file():
        raise InputError(f"{name}: not on this machine yet (no {path}); fetch it with: edge models pull {name}")
    return path
