"""An accelerator with the CPU behind it: where the one fails, the other goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edge.backends.base import Backend
from edge.backends.factory import open_backend
from edge.backends.litert import LiteRTBackend
from edge.errors import BackendError, EdgeError
from edge.spec.twin import cpu_twin

log = logging.getLogger(__name__)


class FallbackBackend:
    """A model on an accelerator until that fails, then on the CPU; see `edge.backends.base.Backend`.

    It may fail when it is loaded, when the model is prepared, or in the middle of a run: the frame that it failed on
    is run again on the CPU. The CPU runs the file that an Edge TPU file was compiled from, else the same file. It does
    not go back: a device that comes and goes would stop the run each time.
    """

    def __init__(self, path: Path, threads: int | None = None, delegate: str = "cpu") -> None:
        """Load a model.

        Args:
            path: A `.tflite` file.
            threads: CPU threads; None for `default_threads()`.
            delegate: See `open_backend`.

        Raises:
            ModelFileError: The file is missing, empty or no TFLite model, or no picture goes in.
            BackendError: The accelerator failed, and the CPU cannot run the model either.
            InputError: `threads` or `delegate` is no such value.
        """
        self._path, self._threads, self._delegate = path, threads, delegate
        self._shape: tuple[int, ...] | None = None
        self._loaded = False
        self.failure: str | None = None
        try:
            self._take(open_backend(path, threads, delegate))
        except BackendError as error:
            self._go_on(error)
        self._loaded = True

    def _take(self, backend: Backend) -> None:
        self._backend = backend
        self.input, self.outputs, self.description = backend.input, backend.outputs, backend.description

    def _go_on(self, error: BackendError, shape: tuple[int, ...] | None = None) -> None:
        """Load the CPU's file; raises `error` where there is none, or it is another model."""
        path = cpu_twin(self._path) or self._path
        if self.failure is not None or (path == self._path and self._delegate == "cpu"):
            raise error
        try:
            backend = LiteRTBackend(path, self._threads)
            if shape is not None:
                backend.resize(shape)
        except EdgeError as second:
            raise BackendError(f"{error}; and on the CPU: {second}") from error
        if self._loaded and _kinds(self) != _kinds(backend):
            backend.close()
            raise BackendError(f"{error}; and {path} is no twin of {self._path}: its tensors differ") from error
        log.warning("%s; continuing on the CPU with %s", error, path.name)
        self.failure = str(error)
        self._take(backend)

    def infer(self, fill: Callable[[npt.NDArray[Any]], None]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once; see `Backend.infer`."""
        try:
            return self._backend.infer(fill)
        except BackendError as error:
            self._go_on(error, self._shape)
        return self._backend.infer(fill)

    def resize(self, shape: tuple[int, ...]) -> None:
        """Give the input another size; see `Backend.resize`."""
        try:
            self._backend.resize(shape)
        except BackendError as error:
            self._go_on(error, shape)
        self._shape = shape
        self._take(self._backend)

    def close(self) -> None:
        """Free the model."""
        self._backend.close()


def _kinds(backend: Backend) -> list[tuple[object, ...]]:
    """Return what decoding and preprocessing were built for, besides the size."""
    return [(info.name, info.dtype, info.scale, info.zero_point) for info in (backend.input, *backend.outputs)]
