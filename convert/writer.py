"""Writing the finished file: never over another one unless told to, and never half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from edge.errors import OutputError


def check_target(path: Path, force: bool) -> None:
    """Check before the work begins that a file may be written.

    Raises:
        OutputError: It exists and `force` is false, it is a folder, or its folder does not exist or is read-only.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; expected the name of a file to write")
    if path.exists() and not force:
        raise OutputError(f"{path} exists; pass --force to replace it, or another name with --out")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write into {path.parent}")


def write_model(path: Path, data: bytes, force: bool, check: Callable[[Path], None]) -> None:
    """Write a file in one step: a reader sees the old content or the new, whatever happens in between.

    Args:
        path: The file.
        data: Its content.
        force: Whether an existing file may be replaced.
        check: Called with the complete file under a temporary name; what it raises keeps `path` as it is.

    Raises:
        OutputError: It exists and `force` is false, or it cannot be written (no space, no permission); what was there
            is still there.
    """
    check_target(path, force)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        check(temporary)
        check_target(path, force)  # once more: it may have appeared in the meantime
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
