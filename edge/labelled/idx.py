"""idx files, the format of MNIST (http://yann.lecun.com/exdb/mnist/) and Fashion-MNIST, gzipped or not."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.labelled.pictures import (
    DEFLATE_RATIO,
    MAX_ARRAY_BYTES,
    LabelledPictures,
    class_count,
    entries,
    from_arrays,
    split_name,
)

_PICTURES = re.compile(r"(?:.*[-_.])?(?P<split>[a-z0-9]+)[-_.]images[-_.]idx3[-_.]ubyte(\.gz)?", re.IGNORECASE)
_UBYTE = 0x08


def fits(path: Path) -> bool:
    """Whether this is a file of pictures, or a folder that holds one."""
    if path.is_dir():
        return any(_PICTURES.fullmatch(entry.name) for entry in entries(path))
    return path.is_file() and ("idx3" in path.name or _PICTURES.fullmatch(path.name) is not None)


def splits(path: Path) -> dict[str, Path]:
    """Return split -> its file of pictures; empty for a single file."""
    if path.is_file():
        return {}
    files = sorted((p for p in entries(path) if _PICTURES.fullmatch(p.name)), reverse=True)
    named = ((_PICTURES.fullmatch(file.name), file) for file in files)
    found = {name: file for match, file in named if match and (name := split_name(match["split"])) is not None}
    if not found:
        raise InputError(f"{path}: expected files like train-images-idx3-ubyte.gz, found {files[0].name}")
    return found


def read(path: Path, split: str | None) -> LabelledPictures:
    """Read a file of pictures and the labels beside it; see `edge.labelled.open_labelled`."""
    files = splits(path)
    file = path if split is None else files[split]
    labels = {file: _labels(file) for file in {file, *files.values()}}
    classes = max(class_count(str(named), y) for named, y in labels.items())
    return from_arrays(str(file), file.name, _read(file, 3), labels[file], classes)


def _labels(pictures: Path) -> NDArray[np.int64]:
    return _read(_labels_of(pictures), 1).astype(np.int64)


def _labels_of(pictures: Path) -> Path:
    stem = re.sub("images", "labels", pictures.name, flags=re.IGNORECASE).replace("idx3", "idx1").removesuffix(".gz")
    for name in (f"{stem}.gz", stem) if pictures.suffix == ".gz" else (stem, f"{stem}.gz"):
        if name != pictures.name and pictures.with_name(name).is_file():
            return pictures.with_name(name)
    raise InputError(f"{pictures}: expected its labels beside it, {stem} or {stem}.gz; found neither")


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read unsigned bytes of so many dimensions: two zero bytes, type, number of dimensions, sizes, values."""
    zipped = path.suffix == ".gz"
    try:
        with cast("BinaryIO", gzip.open(path)) if zipped else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if len(head) != 4 + 4 * dimensions or head[:4] != bytes((0, 0, _UBYTE, dimensions)):
                expected = bytes((0, 0, _UBYTE, dimensions)).hex()
                raise InputError(f"{path}: expected an idx file that starts with {expected}, found {head[:4].hex()}")
            shape = struct.unpack(f">{dimensions}I", head[4:])
            size = math.prod(shape)
            room = path.stat().st_size * (DEFLATE_RATIO if zipped else 1)
            if size > min(room, MAX_ARRAY_BYTES):
                raise InputError(f"{path}: its header claims {size} bytes, more than the file can hold or 4 GiB")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if len(data) != size:
        found = "more" if len(data) > size else f"{len(data)}"
        raise InputError(f"{path}: expected {size} values as its header says ({shape}), found {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)
