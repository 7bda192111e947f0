"""From a `--delegate` value to what runs the model."""

from __future__ import annotations

from pathlib import Path

from edge.backends.base import Backend
from edge.backends.litert import LiteRTBackend


def open_backend(path: Path, threads: int | None = None, delegate: str = "cpu", fallback: bool = False) -> Backend:
    """Load a model.

    Args:
        path: A `.tflite` file.
        threads: CPU threads; None for `default_threads()`.
        delegate: "cpu", "gpu" or "gpu:float32", or what `edge.backends.delegates.load` takes.
        fallback: Whether the CPU goes on where the accelerator fails, now or later.

    Raises:
        ModelFileError: The file is missing, empty or no TFLite model, or no picture goes in.
        BackendError: The runtime or the accelerator failed, and so did the CPU where it may step in.
        InputError: `threads` or `delegate` is no such value.
    """
    if fallback:
        from edge.backends.fallback import FallbackBackend

        return FallbackBackend(path, threads, delegate)
    name, _, argument = delegate.partition(":")
    if name == "gpu":
        from edge.backends.gpu import GpuBackend

        return GpuBackend(path, threads, argument)
    return LiteRTBackend(path, threads, delegate)
