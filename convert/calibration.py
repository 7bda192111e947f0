"""Calibration pictures, through the preprocessing that the model will see in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from convert.loaded import INPUT_NAME
from edge.errors import InputError
from edge.preprocess import Preprocessor
from edge.spec import InputSpec
from edge.tensor import TensorInfo

MAX_IMAGES = 200
"""Ranges hardly move beyond a hundred or two pictures, and each costs an inference of the float model."""

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class CalibrationImages:
    """The pictures of a folder as inputs of a model.

    Calling it gives float32 (1, H, W, C) arrays, the same ones in the same order each time.

    Attributes:
        files: The pictures, evenly spread over the sorted folder when it holds more than `limit`.
    """

    def __init__(
        self, folder: Path, spec: InputSpec, shape: tuple[int, int, int, int], limit: int = MAX_IMAGES
    ) -> None:
        """Look for pictures.

        Args:
            folder: Searched with everything below it.
            spec: Preprocessing of the model.
            shape: Its input, (1, H, W, C).
            limit: Pictures to use at most.

        Raises:
            InputError: The folder does not exist or holds no picture.
        """
        if not folder.is_dir():
            raise InputError(f"--calibrate {folder}: expected a folder of pictures, found {_kind(folder)}")
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
        if not files:
            raise InputError(f"--calibrate {folder}: no picture in it ({' '.join(sorted(_SUFFIXES))})")
        self.files = [files[int(i)] for i in np.linspace(0, len(files) - 1, min(limit, len(files))).round()]
        self._shape = shape
        self._preprocessor = Preprocessor(spec, TensorInfo(INPUT_NAME, shape, np.dtype(np.float32)))

    def __call__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Give the inputs one after the other.

        Raises:
            InputError: A picture cannot be read.
        """
        for file in self.files:
            tensor = np.empty(self._shape, np.float32)
            self._preprocessor.write(_read(file), tensor)
            yield tensor


def _read(file: Path) -> npt.NDArray[np.uint8]:
    try:
        data = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"cannot read the calibration picture {file}: {error.strerror}") from error
    image: Any = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InputError(f"{file}: expected a picture to calibrate on, found something else; repair or remove it")
    return image  # type: ignore[no-any-return]


def _kind(path: Path) -> str:
    return "a file" if path.exists() else "nothing"
