"""Folder trees: one subfolder of pictures per class, plain or below train/, val/ and test/."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.errors import InputError
from edge.labelled.pictures import LabelledPictures, entries, split_name
from edge.sources.base import natural_key
from edge.sources.images import IMAGE_SUFFIXES, read_image


def fits(path: Path) -> bool:
    """Whether this is a folder."""
    return path.is_dir()


def splits(path: Path) -> dict[str, Path]:
    """Return split -> its folder."""
    # A class can be called "train": only a folder of folders is a split.
    return {
        split: folder
        for folder in reversed(_folders(path))
        if (split := split_name(folder.name)) is not None
        and _folders(folder)
        and not any(_is_picture(entry) for entry in entries(folder))
    }


def read(path: Path, split: str | None) -> LabelledPictures:
    """List the pictures; see `edge.labelled.open_labelled`."""
    root = path if split is None else splits(path)[split]
    names: list[str] = []
    class_id: list[int] = []
    paths: list[Path] = []
    for folder in _folders(root):
        pictures = sorted(p for p in folder.rglob("*") if _is_picture(p))
        if pictures:
            class_id += [len(names)] * len(pictures)
            names.append(folder.name)
            paths += pictures
    if not paths:
        raise InputError(f"{root}: expected pictures in one subfolder per class, found none")
    return LabelledPictures(
        tuple(names), np.array(class_id, np.int64), [str(p) for p in paths], lambda i: read_image(paths[i])
    )


def _folders(path: Path) -> list[Path]:
    """Return the subfolders, `2` before `10`, so that folders named by number get that number."""
    return sorted((entry for entry in entries(path) if entry.is_dir()), key=lambda entry: natural_key(entry.name))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
