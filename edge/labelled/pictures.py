"""What every form of labelled data becomes."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.frame import Image

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test", "t10k"),
}
"""Split -> what it is called in data sets."""

MAX_ARRAY_BYTES = 4 << 30
"""Pixels that are held in memory at most; a larger data set belongs in files of its own."""

MAX_CLASSES = 100_000

DEFLATE_RATIO = 1032
"""The most that deflate can shrink data; a file that claims more lies (zlib's Technical Details)."""

ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)
"""What reading a zip file can raise."""


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures of known classes.

    Attributes:
        names: Class names; "0", "1", ... where the data have only numbers.
        class_id: int64 (n,), index into `names`.
        picture_ids: What each picture is called: its path, or "mnist.npz x_test[17]".
        read: Reads picture i as uint8 (H, W, 3) BGR; several threads may call it. Raises SourceError.
        arrays: uint8 (n, H, W) gray or (n, H, W, 3) RGB where the pictures are in memory already.
        boxes_xyxy: float32 (n, 4), x1 y1 x2 y2 in pixels of the picture, where each has one box.
    """

    names: tuple[str, ...]
    class_id: NDArray[np.int64]
    picture_ids: Sequence[str]
    read: Callable[[int], Image]
    arrays: NDArray[np.uint8] | None = None
    boxes_xyxy: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.class_id)


def split_name(name: str) -> str | None:
    """Return which split a folder or file is called after; None for another name."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, without hidden files.

    Raises:
        InputError: It cannot be listed.
    """
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from error


def from_arrays(
    where: str, prefix: str, pictures: NDArray[np.uint8], labels: NDArray[np.int64], classes: int
) -> LabelledPictures:
    """Wrap pictures that are in memory.

    Args:
        where: The file, for messages.
        prefix: What picture ids start with, "[i]" follows.
        pictures: uint8 (n, H, W), (n, H, W, 1) or (n, H, W, 3) RGB.
        labels: int64 (n,), class numbers.
        classes: How many classes the data set has.

    Raises:
        InputError: There is no picture, or pictures and labels differ in number.
    """
    if len(pictures) != len(labels):
        raise InputError(f"{where}: expected one label per picture, found {len(pictures)} and {len(labels)}")
    if not pictures.size:
        raise InputError(f"{where}: expected pictures, found shape {pictures.shape}")
    if pictures.ndim == 4 and pictures.shape[3] == 1:
        pictures = pictures[..., 0]
    to_bgr = cv2.COLOR_GRAY2BGR if pictures.ndim == 3 else cv2.COLOR_RGB2BGR

    def read(i: int) -> Image:
        image: Image = cv2.cvtColor(pictures[i], to_bgr)
        return image

    names = tuple(map(str, range(classes)))
    return LabelledPictures(names, labels, [f"{prefix}[{i}]" for i in range(len(labels))], read, pictures)


def class_count(where: str, labels: NDArray[np.int64]) -> int:
    """Return how many classes numbers 0..n-1 speak of.

    Raises:
        InputError: A number is negative or absurdly large.
    """
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high >= MAX_CLASSES:
        raise InputError(f"{where}: expected class numbers 0..{MAX_CLASSES - 1}, found {low}..{high}")
    return high + 1
