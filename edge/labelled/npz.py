"""MNIST-style `.npz`: arrays x_train, y_train, x_test, y_test (and x_val, y_val), and perhaps `names` of classes."""

from __future__ import annotations

import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edge.errors import InputError
from edge.labelled.pictures import (
    DEFLATE_RATIO,
    MAX_ARRAY_BYTES,
    ZIP_ERRORS,
    LabelledPictures,
    class_count,
    from_arrays,
    split_name,
)


def fits(path: Path) -> bool:
    """Whether this is a file named `.npz`."""
    return path.suffix.lower() == ".npz" and path.is_file()


def splits(path: Path) -> dict[str, str]:
    """Return split -> the ending of its arrays' names."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
    except ZIP_ERRORS as error:
        raise InputError(f"{path}: expected a .npz file of NumPy ({error})") from error
    endings = [name[2:-4] for name in members if name.startswith("x_") and name.endswith(".npy")]
    found = {split: ending for ending in sorted(endings, reverse=True) if (split := split_name(ending)) is not None}
    if not found:
        raise InputError(f"{path}: expected the arrays x_train, y_train, x_test and y_test, found {_some(members)}")
    return found


def read(path: Path, split: str | None) -> LabelledPictures:
    """Read one split; see `edge.labelled.open_labelled`."""
    endings = splits(path)
    labels = {name: _labels(path, f"y_{ending}") for name, ending in endings.items()}
    classes = max(class_count(f"{path} y_{endings[name]}", y) for name, y in labels.items())
    wanted = split or next(iter(endings))
    key = f"x_{endings[wanted]}"
    pictures = _array(path, key)
    if pictures.dtype != np.uint8 or not (pictures.ndim == 3 or (pictures.ndim == 4 and pictures.shape[3] in (1, 3))):
        raise InputError(
            f"{path} {key}: expected uint8 (n, H, W) or (n, H, W, 3), found {pictures.dtype} {pictures.shape}"
        )
    found = from_arrays(f"{path} {key}", f"{path.name} {key}", pictures, labels[wanted], classes)
    names = _names(path, classes)
    return found if names is None else replace(found, names=names)


def _names(path: Path, classes: int) -> tuple[str, ...] | None:
    """Return the names of the classes, where the file has an array of them."""
    with zipfile.ZipFile(path) as archive:
        if "names.npy" not in archive.namelist():
            return None
    array = _array(path, "names", "U")
    try:
        names = tuple(map(str, array.reshape(-1)))
    except ValueError as error:
        raise InputError(f"{path} names: expected text ({error})") from error
    if array.ndim != 1 or len(names) < classes or len(set(names)) != len(names) or not all(map(str.strip, names)):
        raise InputError(f"{path} names: expected a name for each of {classes} classes, found {_some(set(names))}")
    return names


def _labels(path: Path, key: str) -> NDArray[np.int64]:
    labels = _array(path, key)
    if labels.dtype.kind not in "iu" or not (labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)):
        raise InputError(f"{path} {key}: expected integers of shape (n,), found {labels.dtype} {labels.shape}")
    return labels.reshape(-1).astype(np.int64)


def _array(path: Path, key: str, kinds: str = "iuf") -> NDArray[Any]:
    """Read one member after its header was checked against the room that the file has for it."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
            version = npy.read_magic(member)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = header(member)
            size = math.prod(shape) * dtype.itemsize
            compressed = archive.getinfo(f"{key}.npy").compress_size
            if dtype.hasobject or dtype.kind not in kinds:
                wanted = "text" if kinds == "U" else "numbers"
                raise InputError(f"{path} {key}: expected an array of {wanted}, found {dtype}")
            if size > min(MAX_ARRAY_BYTES, compressed * DEFLATE_RATIO):
                raise InputError(f"{path} {key}: its header claims {size} bytes, more than the file can hold or 4 GiB")
            data = member.read(size)
    except KeyError as error:
        raise InputError(f"{path}: expected an array {key}, found none") from error
    except ZIP_ERRORS as error:
        raise InputError(f"{path} {key}: cannot be read ({error})") from error
    if len(data) != size:
        raise InputError(f"{path} {key}: cut short, expected {size} bytes, found {len(data)}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:6]) + (", ..." if len(listed) > 6 else "") if listed else "none"
