"""Tries of the runtime and of accelerators, on the model that edge brings."""

from __future__ import annotations

import ctypes
import logging
import re
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.doctor.probes import stage

if TYPE_CHECKING:
    from edge.backends.base import Backend

_MOST_S = 0.5
_MOST_RUNS = 20
_ADAPTER = re.compile(r"Selected adapter: (.+?), arch=.*adapterType=(.+)$")


def runtime() -> dict[str, Any]:
    """Build interpreters and run them: a model of one operator, then the bundled one."""
    stage("loading NumPy")
    import numpy

    stage("loading pydantic")
    import pydantic  # noqa: F401  (pydantic-core is native, and may be of another architecture)

    stage("loading the runtime and building an interpreter")
    from edge.backends.litert import LiteRTBackend, default_threads
    from edge.backends.partitions import partitions
    from edge.backends.runtime import runtime as find_runtime
    from edge.bundled import default_model

    label = find_runtime().label
    stage("building an interpreter of the bundled model")
    path = default_model()
    backend = LiteRTBackend(path)
    stage("running the bundled model")
    milliseconds, runs = _timed(backend)
    stage("counting the bundled model's partitions")
    counted = partitions(path)
    return {
        "numpy": numpy.__version__,
        "runtime": label,
        "model": path.stem,
        "threads": default_threads(),
        "inference_ms": milliseconds,
        "runs": runs,
        "operators": counted.operators,
        "delegated": counted.delegated,
        "partitions": counted.partitions,
    }


def _timed(backend: Backend) -> tuple[float, int]:
    """Return the median milliseconds of an inference and how many were run, for half a second at most."""
    took: list[float] = []
    start = time.perf_counter()
    backend.infer(_half)
    while len(took) < _MOST_RUNS and (not took or time.perf_counter() - start < _MOST_S):
        before = time.perf_counter()
        backend.infer(_half)
        took.append((time.perf_counter() - before) * 1e3)
    return round(statistics.median(took), 2), len(took)


def _half(tensor: Any) -> None:
    tensor.fill(0.5 if tensor.dtype.kind == "f" else 0)


def selftest() -> dict[str, Any]:
    """Replay the pictures that the bundled model carries, as `edge verify` does."""
    stage("loading OpenCV")
    from edge.cv import require_opencv

    require_opencv()
    stage("replaying the self-test")
    from edge.bundled import default_model
    from edge.loader import load_model
    from edge.selftest import verify

    found = verify(load_model(default_model()))
    return {"passed": found.passed, "summary": found.summary(), "pictures": found.pictures, "boxes": str(found.boxes)}


def gpu() -> dict[str, Any]:
    """Run the bundled model on a GPU."""
    stage("loading the runtime")
    from edge.backends.gpu import GpuBackend
    from edge.bundled import default_model

    said: list[str] = []
    _listen("edge.backends.litert", said.append)
    stage("starting the GPU")
    backend = GpuBackend(default_model())
    stage("running the bundled model on the GPU")
    milliseconds, runs = _timed(backend)
    found = next(filter(None, map(_ADAPTER.search, said)), None)
    return {
        "description": backend.description,
        "inference_ms": milliseconds,
        "runs": runs,
        "adapter": found[1] if found else None,
        "adapter_type": found[2].strip() if found else None,
    }


def _listen(logger: str, hear: Callable[[str], None]) -> None:
    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            hear(record.getMessage())

    logging.getLogger(logger).addHandler(Ear())
    logging.getLogger(logger).setLevel(logging.DEBUG)


def edgetpu(device: bool) -> dict[str, Any]:
    """Load Coral's library and, where there is a device, start it.

    Args:
        device: Whether one is connected.
    """
    stage("loading libedgetpu.so.1")
    try:
        ctypes.CDLL("libedgetpu.so.1")
    except OSError as error:
        return {"library": False, "started": False, "reason": str(error)}
    if not device:
        return {"library": True, "started": False, "reason": ""}
    stage("loading the runtime")
    from edge.backends import delegates
    from edge.errors import DelegateError

    stage("starting the Edge TPU")
    try:
        delegates.load("edgetpu")
    except DelegateError as error:
        return {"library": True, "started": False, "reason": str(error)}
    return {"library": True, "started": True, "reason": ""}
