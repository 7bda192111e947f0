"""Where reports go: nothing is overwritten unasked, and nothing that was read at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from edge.errors import InputError, OutputError


def check_targets(targets: dict[str, str], force: bool) -> None:
    """Check that reports destroy nothing and can be written, before anything is measured.

    Raises:
        OutputError: They do, or cannot.
    """
    places = ["-" if target == "-" else os.path.realpath(target) for target in targets.values()]
    for (flag, target), place in zip(targets.items(), places, strict=True):
        if not target or (target == "-" and flag in ("--html", "--plot")):
            raise OutputError(f"{flag}: expected a file")
        if places.count(place) > 1:
            raise OutputError(f"{flag} {target}: two reports cannot go to the same place")
        if target == "-":
            continue
        path = Path(target)
        if path.is_dir():
            raise OutputError(f"{flag} {target}: is a folder; expected a file name")
        if path.exists() and not force:
            raise OutputError(f"{flag} {target}: exists; give another name, or pass --force to overwrite it")
        # Folders that are missing are made, as those of edge detect's outputs are.
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not folder.is_dir():
            raise OutputError(f"{flag} {target}: {folder} is no folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{flag} {target}: no permission to write to {folder}")


def keep_inputs(target: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse an output that is one of the inputs, or inside one that is a folder, which --force must not destroy.

    Raises:
        InputError: It is.
    """
    for path in inputs:
        if path is None or not path.exists() or not target.exists():
            continue
        if target.samefile(path) or (path.is_dir() and target.resolve().is_relative_to(path.resolve())):
            raise InputError(f"{target}: is an input itself; give another name")


def put(target: str, content: str | bytes) -> None:
    """Write a report to a file, or to stdout for -."""
    data = content.encode() if isinstance(content, str) else content
    if target == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    from edge.sinks.base import make_parent, write_atomically

    make_parent(Path(target))
    write_atomically(Path(target), data)
