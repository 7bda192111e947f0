"""The CPU file that an Edge TPU file was compiled from: its twin, and what the two say in common.

The Edge TPU compiler keeps tensors and their names, and drops what lies behind the flatbuffer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from edge.errors import InputError, ModelFileError
from edge.spec.archive import read_tail, with_tail
from edge.spec.graph import read_graph
from edge.spec.model import ModelSpec
from edge.spec.resolve import METADATA_NAME, parse_spec
from edge.spec.seal import sealed

COMPILED = "_edgetpu"
"""What the compiler appends to a file's name."""


def cpu_twin(path: Path) -> Path | None:
    """Return the CPU file of an Edge TPU file, where it lies beside it; None otherwise.

    Its name is in the metadata (`cpu_twin`), else it follows from the compiler's habit: `a_edgetpu.tflite` was made
    from `a.tflite`.

    Raises:
        ModelFileError: The file cannot be read, or its archive is broken.
    """
    name = _named(read_tail(path).get(METADATA_NAME, b"")) if path.is_file() else None
    if name is None and path.stem.endswith(COMPILED):
        name = path.stem.removesuffix(COMPILED) + path.suffix
    twin = path.with_name(name) if name else None
    return twin if twin is not None and twin.is_file() and twin != path else None


def _named(metadata: bytes) -> str | None:
    try:
        value = json.loads(metadata)
    except ValueError:
        return None
    name = value.get("cpu_twin") if isinstance(value, dict) else None
    # A name beside the file, never a path: a model file must not choose what else is opened.
    return name if isinstance(name, str) and name == Path(name).name else None


def with_twin(compiled: bytes, twin: Path) -> bytes:
    """Return a compiled model with all that its CPU twin says about itself, and with the twin's name.

    Args:
        compiled: What the compiler wrote.
        twin: The file that it was compiled from.

    Raises:
        ModelFileError: The twin cannot be read, or its archive is broken.
        SpecError: The twin's description is broken.
    """
    members = read_tail(twin)
    description = members.pop(METADATA_NAME, None)
    if description is None:
        return with_tail(compiled, members)
    spec = parse_spec(description, twin)
    return sealed(compiled, spec.model_copy(update={"cpu_twin": twin.name}), members)


def attach_twin(path: Path, twin: Path, force: bool = False) -> ModelSpec:
    """Give a compiled file the description of the file that it was compiled from, in one step.

    Args:
        path: What the compiler wrote, beside its twin.
        twin: The file that it was compiled from.
        force: Whether a description that the file has may be replaced.

    Returns:
        The description that is in the file now.

    Raises:
        ModelFileError: A file cannot be read, or is broken.
        InputError: The twin says nothing about itself, lies in another folder, or has other outputs; or the file
            describes itself already.
    """
    if METADATA_NAME in read_tail(path) and not force:
        raise InputError(f"{path}: describes itself already; pass --force to replace that")
    if path.resolve().parent != twin.resolve().parent:
        raise InputError(f"{twin}: must lie beside {path}, which goes on with it where the Edge TPU fails")
    names, twins = (set(read_graph(file).makers) for file in (path, twin))
    if names != twins:
        raise InputError(f"{path}: has the outputs {', '.join(names)}, and {twin.name} {', '.join(twins)}: no twins")
    content = with_twin(_read(path), twin)
    description = read_tail(content).get(METADATA_NAME)
    if description is None:
        raise InputError(f"{twin}: does not say what it is; attach that to it first, with edge inspect --attach")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return parse_spec(description, path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from error
