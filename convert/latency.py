"""Times of several models, taken in turn, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from edge.classifier import Classifier
from edge.detector import Detector
from edge.frame import Image
from edge.loader import load_model

_WARM_UP = 3
_MIN_ROUNDS = 15
_MAX_ROUNDS = 200
_SECONDS = 5.0
"""Rounds go on for so long, within the limits above."""


def interleaved_ms(files: Sequence[Path], images: Sequence[Image]) -> npt.NDArray[np.float64]:
    """Run models in turn on the same pictures, as `edge detect` and `edge classify` run them.

    Args:
        files: Described `.tflite` files.
        images: uint8 (H, W, 3) BGR pictures, used one after the other.

    Returns:
        float64 (rounds, files), milliseconds of the inference alone.

    Raises:
        EdgeError: One of them does not run.
    """
    models = [load_model(file) for file in files]
    runs = [
        Detector(model).detect if model.spec.task == "detect" else Classifier(model, top=1).classify for model in models
    ]
    rounds: list[list[float]] = []
    start = perf_counter()
    number = 0
    while number < _MIN_ROUNDS + _WARM_UP or (number < _MAX_ROUNDS and perf_counter() - start < _SECONDS):
        image = images[number % len(images)]
        row = [0.0] * len(runs)
        # Another one begins each time: whoever follows a large model finds the caches cold.
        for turn in range(len(runs)):
            which = (turn + number) % len(runs)
            row[which] = runs[which](image)[1]["invoke"]
        rounds.append(row)
        number += 1
    for model in models:
        model.backend.close()
    return np.array(rounds[_WARM_UP:])
