"""Classifier: from a picture to its most likely classes."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.backends.base import Backend
from edge.decoders import CLASSIFIERS
from edge.decoders.base import Classify
from edge.errors import InputError, SpecError
from edge.frame import Image
from edge.geometry import Transform
from edge.loader import LoadedModel, load_model
from edge.result import Classification
from edge.spec import ModelSpec
from edge.spec.resolve import Overrides


class Classifier:
    """A classification model with its preprocessing; used by one thread at a time."""

    def __init__(self, model: LoadedModel, top: int = 5) -> None:
        """Bind a loaded model.

        Args:
            model: From `edge.loader.load_model`.
            top: Classes to return.

        Raises:
            SpecError: The model is no classifier, or its outputs contradict its metadata.
            InputError: `top` is less than 1.
        """
        self._decode = classification_head(model, "run it with: edge detect")
        if top < 1:
            raise InputError(f"--top {top}: expected 1 or more")
        self.spec: ModelSpec = model.spec
        self.backend: Backend = model.backend
        self._top = top
        self._preprocessor = model.preprocessor

    @classmethod
    def load(
        cls,
        path: str | Path,
        overrides: Overrides | None = None,
        top: int = 5,
        threads: int | None = None,
        delegate: str = "cpu",
    ) -> Classifier:
        """Load a model file and bind it; see `load_model` and `__init__` for arguments and errors."""
        return cls(load_model(path, overrides, threads, delegate), top)

    def classify(self, image: Image) -> tuple[Classification, dict[str, float]]:
        """Name what a picture shows.

        Args:
            image: uint8 (H, W, 3), BGR.

        Returns:
            The best classes, with the box of a localiser, and the milliseconds of "preprocess", "invoke" and "decode".

        Raises:
            BackendError: The runtime failed.
        """
        start = filled = perf_counter()
        transform: Transform | None = None

        def fill(tensor: npt.NDArray[Any]) -> None:
            nonlocal transform, filled
            transform = self._preprocessor.write(image, tensor)
            filled = perf_counter()

        outputs = self.backend.infer(fill)
        invoked = perf_counter()
        found = self._decode(outputs)
        del outputs  # views of the runtime's memory: it refuses to run while one lives
        assert transform is not None
        score = found.score[0]
        best = np.argsort(-score, kind="stable")[: self._top]
        box = None if found.xyxy is None else _in_picture(found.xyxy, transform)
        result = Classification(tuple(map(int, best)), tuple(map(float, score[best])), box)
        done = perf_counter()
        stamps = (start, filled, invoked, done)
        names = ("preprocess", "invoke", "decode")
        return result, {n: (b - a) * 1e3 for n, a, b in zip(names, stamps[:-1], stamps[1:], strict=True)}


def classification_head(model: LoadedModel, otherwise: str) -> Classify:
    """Return what reads the outputs of a loaded classifier.

    Args:
        model: From `edge.loader.load_model`.
        otherwise: What to do with a model that is none, for the message.

    Raises:
        SpecError: The model is no classifier, or its outputs contradict its metadata.
    """
    spec = model.spec
    if spec.task != "classify" or spec.decoder.name not in CLASSIFIERS:
        raise SpecError(f"{model.path}: this is a {spec.task} model, not a classifier; {otherwise}")
    try:
        return CLASSIFIERS[spec.decoder.name](spec, model.preprocessor.size_wh, model.outputs)
    except SpecError as error:
        raise SpecError(f"{model.path}: {error}") from error


def _in_picture(xyxy: npt.NDArray[np.float32], transform: Transform) -> tuple[float, float, float, float] | None:
    """Return one box, float32 (1, 4) in input pixels, in pixels of the picture; None where nothing of it is there."""
    if not np.isfinite(xyxy).all():
        return None
    with np.errstate(over="ignore"):
        x1, y1, x2, y2 = map(float, transform.to_source(xyxy)[0])
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
