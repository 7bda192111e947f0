"""Labelled pictures: folder trees, npz and idx files and COCO annotations behind one door."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from edge.errors import InputError
from edge.labelled import coco, idx, npz, tree
from edge.labelled.pictures import SPLITS, LabelledPictures, split_name

__all__ = ["LabelledPictures", "default_split", "open_labelled", "splits"]


class _Form(NamedTuple):
    fits: Callable[[Path], bool]
    splits: Callable[[Path], Collection[str]]
    read: Callable[[Path, str | None], LabelledPictures]


_FORMS = (
    _Form(npz.fits, npz.splits, npz.read),
    _Form(coco.fits, coco.splits, coco.read),
    _Form(idx.fits, idx.splits, idx.read),
    _Form(tree.fits, tree.splits, tree.read),
)
"""Asked in this order; a folder that none of the others claims is a tree."""


def splits(path: Path) -> tuple[str, ...]:
    """Return which of "train", "val" and "test" a data set has; () where it is one plain set.

    Raises:
        InputError: `path` is no data set.
    """
    found = _form(path).splits(path)
    return tuple(name for name in SPLITS if name in found)


def default_split(path: Path) -> str | None:
    """Return the split to measure on when none is named: test, else val, else train; None for a plain set.

    Raises:
        InputError: `path` is no data set.
    """
    return next(iter(reversed(splits(path))), None)


def open_labelled(path: Path, split: str | None = None) -> LabelledPictures:
    """Open labelled pictures of any form.

    Args:
        path: A folder with one subfolder of pictures per class, as it is or below `train`, `val` and `test`; a `.npz`
            with `x_train`, `y_train` and so on; an idx file of pictures or a folder of idx files, gzipped or not; or
            a folder with COCO `annotations/instances_<split>.json`, of which the pictures with exactly one box count.
        split: "train", "val" (or "valid", "validation") or "test"; None for a plain set.

    Raises:
        InputError: The data cannot be read or contradict themselves, or the split is not there or not named.
    """
    form = _form(path)
    found = splits(path)
    if split is None:
        if found:
            raise InputError(f"{path}: this data set has the splits {', '.join(found)}; name one of them")
        return form.read(path, None)
    name = split_name(split)
    if name is None:
        raise InputError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    if name not in found:
        has = f"found {', '.join(found)}" if found else "it is one plain set without splits"
        raise InputError(f"{path}: expected a split {split!r}; {has}")
    return form.read(path, name)


def _form(path: Path) -> _Form:
    for form in _FORMS:
        if form.fits(path):
            return form
    found = "found another kind of file" if path.exists() else "it is not there"
    raise InputError(
        f"{path}: expected a folder of pictures with one subfolder per class, a .npz, idx files or a folder with COCO "
        f"annotations; {found}"
    )
