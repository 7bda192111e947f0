"""What the workstation commands need beyond the device's packages."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator

from edge.errors import MissingDependencyError


def require(command: str) -> None:
    """Make sure that the workstation's packages are there.

    Args:
        command: Who asks, "edge convert" for instance.

    Raises:
        MissingDependencyError: They are not.
    """
    needed = ("convert", "models", "tensorflow", "keras")
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingDependencyError(
            f"{command} runs on a workstation and needs {', '.join(missing)}: in a checkout of this project, run "
            "pip install -e '.[convert]'"
        )


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal that something happens, while what libraries write to stderr is held back."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with os.fdopen(os.dup(2), "w") as terminal, Console(file=terminal).status(text):
        yield
