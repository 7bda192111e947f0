"""From a model file to everything that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.backends.base import Backend
from edge.backends.factory import open_backend
from edge.errors import SpecError
from edge.preprocess import Preprocessor
from edge.spec import ModelSpec
from edge.spec.resolve import Overrides, resolve
from edge.spec.seal import HASHED_AT_START_BYTES, check_sha256
from edge.tensor import TensorInfo

MAX_SIDE = 8192
"""Pixels that metadata may ask for along a side of an input without fixed size; beyond lies only exhausted memory."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        path: The file.
        spec: What it is, from its metadata and the user's flags.
        backend: What runs it.
        preprocessor: What fills its input.
        outputs: Its output tensors by name.
    """

    path: Path
    spec: ModelSpec
    backend: Backend
    preprocessor: Preprocessor
    outputs: dict[str, TensorInfo]


def load_model(
    path: str | Path,
    overrides: Overrides | None = None,
    threads: int | None = None,
    delegate: str = "cpu",
    fallback: bool = False,
) -> LoadedModel:
    """Load a model file and find out what it is.

    Args:
        path: A `.tflite` file.
        overrides: What the user says about it, stronger than what the file says.
        threads: CPU threads; None for all, four at most.
        delegate: See `edge.backends.factory.open_backend`.
        fallback: Whether the CPU goes on where the delegate fails.

    Raises:
        ModelFileError: The file is missing or broken, or not the model that its metadata was written for.
        SpecError: The file does not say what it is, or contradicts itself.
        BackendError: The runtime or the delegate failed.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size <= HASHED_AT_START_BYTES:
        check_sha256(path)
    backend = open_backend(path, threads, delegate, fallback)
    spec = resolve(path, backend.input, backend.outputs, overrides or Overrides())
    if -1 in backend.input.shape:
        backend.resize(_free_shape(path, spec, backend.input))
    outputs = {info.name: info for info in backend.outputs}
    missing = [f"{role} -> {name}" for role, name in spec.decoder.outputs.items() if name not in outputs]
    if missing:
        raise SpecError(
            f"{path}: the metadata names outputs that the model does not have ({', '.join(missing)}); "
            f"it has {', '.join(outputs)}"
        )
    try:
        preprocessor = Preprocessor(spec.input, backend.input)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
    return LoadedModel(path, spec, backend, preprocessor, outputs)


def _free_shape(path: Path, spec: ModelSpec, info: TensorInfo) -> tuple[int, ...]:
    if spec.input.size_wh is None:
        raise SpecError(
            f"{path}: the input {info.name} has a free size {info.shape} and the metadata names none; attach one "
            "(input.size_wh) with: edge inspect MODEL --attach spec.json"
        )
    width, height = spec.input.size_wh
    if max(width, height) > MAX_SIDE:
        raise SpecError(f"{path}: the metadata wants an input of {width} x {height} pixels, at most {MAX_SIDE} a side")
    channels = 1 if spec.input.color == "GRAY" else 3
    return (1, height, width, channels) if spec.input.layout == "NHWC" else (1, channels, height, width)
