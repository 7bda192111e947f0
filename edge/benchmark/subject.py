"""A variant that is loaded: what runs it, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from edge.backends.base import Backend
from edge.backends.factory import open_backend
from edge.backends.partitions import partitions
from edge.benchmark.environment import usable_cores
from edge.benchmark.variant import Variant
from edge.classifier import Classifier
from edge.detector import Detector
from edge.errors import EdgeError, InputError
from edge.frame import Image
from edge.loader import MAX_SIDE, LoadedModel, load_model
from edge.pipeline import Infer
from edge.preprocess import Preprocessor
from edge.spec import ModelSpec
from edge.spec.model import Quantization
from edge.spec.resolve import Overrides, resolve

MOST_INTERPRETERS = 4


class FixedInvoke:
    """The bare inference of a model on one input that does not change."""

    def __init__(self, loaded: LoadedModel, image: Image, clock: Callable[[], float] = perf_counter) -> None:
        """Prepare the input.

        Args:
            loaded: The model.
            image: uint8 (H, W, 3), BGR: a real one, because the work of some models depends on what they find.
            clock: In seconds.
        """
        self._backend: Backend = loaded.backend
        self._clock = clock
        self._tensor = np.zeros(self._backend.input.shape, self._backend.input.dtype)
        loaded.preprocessor.write(image, self._tensor)
        self._start = 0.0

    def _fill(self, tensor: npt.NDArray[Any]) -> None:
        np.copyto(tensor, self._tensor)
        self._start = self._clock()

    def __call__(self) -> float:
        """Run it once; returns milliseconds, from the filled input to the outputs."""
        outputs = self._backend.infer(self._fill)
        end = self._clock()
        del outputs  # views of the runtime's memory: it refuses to run while one lives
        return (end - self._start) * 1e3


class Subject:
    """A loaded variant.

    Attributes:
        variant: What it is.
        spec: What its file says.
        init_ms: What loading took in this process, where the runtime was loaded before.
        invoke: The bare inference.
        infer: The whole of one frame.
        facts: What does not change: size of the file, format, accuracy, operators.
    """

    def __init__(self, variant: Variant, overrides: Overrides, image: Image) -> None:
        """Load it.

        Args:
            variant: What to load.
            overrides: What the user says about the model.
            image: uint8 (H, W, 3), BGR, for the bare inference.

        Raises:
            EdgeError: It cannot be loaded, or its input has not that size.
        """
        self.variant = variant
        self._overrides = overrides
        start = perf_counter()
        loaded = open_variant(variant, overrides)
        self.init_ms = (perf_counter() - start) * 1e3
        self.spec: ModelSpec = loaded.spec
        self.infer: Infer = _whole(loaded)
        self.invoke = FixedInvoke(loaded, image)
        self._backends: list[Backend] = [loaded.backend]
        self._infers: list[Infer] = []
        self.facts = _facts(variant, loaded)

    def several(self) -> list[Infer] | None:
        """Return as many one-thread interpreters as there are cores, four at most; None where that makes no sense."""
        count = interpreters(self.variant)
        if count is None:
            return None
        while len(self._infers) < count:
            variant = Variant(self.variant.path, 1, "cpu", self.variant.size_wh)
            loaded = open_variant(variant, self._overrides)
            self._backends.append(loaded.backend)
            self._infers.append(_whole(loaded))
        return list(self._infers)

    def close(self) -> None:
        """Free all interpreters."""
        for backend in self._backends:
            backend.close()
        self._backends = []


def interpreters(variant: Variant) -> int | None:
    """Return how many interpreters throughput mode has; None where several make no sense."""
    count = min(MOST_INTERPRETERS, usable_cores())
    # Accelerators take one inference at a time.
    return count if variant.delegate == "cpu" and count > 1 else None


def open_variant(variant: Variant, overrides: Overrides) -> LoadedModel:
    """Load a model as a variant wants it; without a fallback, which would measure the wrong thing.

    Raises:
        EdgeError: As `load_model`.
        InputError: The model's input does not have another size.
    """
    if variant.size_wh is None:
        return load_model(variant.path, overrides, variant.threads, variant.delegate)
    path, (width, height) = variant.path, variant.size_wh
    if max(width, height) > MAX_SIDE:
        raise InputError(f"--sweep size={width}x{height}: expected at most {MAX_SIDE} pixels a side")
    backend = open_backend(path, variant.threads, variant.delegate)
    if backend.input.shape.count(-1) < 2:
        raise InputError(
            f"--sweep size: the input of {path} is fixed at {tuple(backend.input.shape)}; only a model with a free "
            "size can be swept, so convert it once for each size"
        )
    spec = resolve(path, backend.input, backend.outputs, overrides)
    spec = spec.model_copy(update={"input": spec.input.model_copy(update={"size_wh": variant.size_wh})})
    channels = 1 if spec.input.color == "GRAY" else 3
    backend.resize((1, height, width, channels) if spec.input.layout == "NHWC" else (1, channels, height, width))
    outputs = {info.name: info for info in backend.outputs}
    return LoadedModel(path, spec, backend, Preprocessor(spec.input, backend.input), outputs)


def _whole(loaded: LoadedModel) -> Infer:
    return Detector(loaded).detect if loaded.spec.task == "detect" else Classifier(loaded, top=1).classify


def accuracy_of(spec: ModelSpec) -> dict[str, Any] | None:
    """Return the accuracy that a file carries, the most telling one: mAP50-95, else mAP50, else top1, else any.

    What `edge convert` measured of the model in another form, as it does in float32 to compare, is not the file's own.
    """
    own = [measured for measured in spec.accuracy if _form_of(measured.dataset) in (None, spec.quantization)]
    for metric in ("mAP50-95", "mAP50", "top1"):
        for measured in own:
            if metric in measured.metrics:
                return {"metric": metric, "value": measured.metrics[metric], "dataset": measured.dataset}
    for measured in own:
        for metric, value in measured.metrics.items():
            return {"metric": metric, "value": value, "dataset": measured.dataset}
    return None


def _form_of(dataset: str) -> str | None:
    """Return the form of the model that an accuracy is of, the last word or two of its data set; None where unsaid."""
    word = dataset.rpartition(", ")[2].removesuffix(" Keras")
    return word if word in get_args(Quantization) else None


def _facts(variant: Variant, loaded: LoadedModel) -> dict[str, Any]:
    spec, path = loaded.spec, variant.path
    shape = loaded.backend.input.shape
    height, width = shape[1:3] if spec.input.layout == "NHWC" else shape[2:4]
    facts: dict[str, Any] = {
        "key": variant.key,
        "model": str(path),
        "name": spec.name,
        "task": spec.task,
        "format": spec.quantization or "unknown",
        "model_size_mb": path.stat().st_size / 1e6,
        "num_threads": variant.threads,
        "delegate": variant.delegate,
        "input_wh": [int(width), int(height)],
        "free_size": variant.size_wh is not None,
        "runtime": loaded.backend.description,
        "accuracy": accuracy_of(spec),
        "operators": None,
        "delegated": None,
        "partitions": None,
        "arena_bytes": None,
    }
    if variant.delegate == "cpu":
        facts |= _graph(path)
    return facts


def _graph(path: Path) -> dict[str, int]:
    try:
        return dict(partitions(path)._asdict())
    except EdgeError:
        return {}
