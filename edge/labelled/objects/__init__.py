"""Labelled objects: COCO, YOLO and Pascal VOC data sets, each a folder or a .zip of it, behind one door."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edge.errors import InputError
from edge.labelled.objects import coco, voc, yolo
from edge.labelled.objects.files import Files, open_files
from edge.labelled.objects.truth import Truth
from edge.labelled.pictures import SPLITS, split_name

__all__ = ["LabelledObjects", "object_splits", "open_objects"]


class _Form(NamedTuple):
    splits: Callable[[Files], Collection[str]]
    """Returns none for another form."""
    read: Callable[[Files, str], Truth]


_FORMS = (_Form(coco.splits, coco.read), _Form(yolo.splits, yolo.read), _Form(voc.splits, voc.read))


@dataclass(frozen=True)
class LabelledObjects:
    """One split of a data set of labelled objects.

    Attributes:
        path: The data set, folder or .zip.
        split: "train", "val" or "test".
        dataset: COCO instances: images (id, file_name, width, height), annotations (id, image_id, category_id, bbox as
            x y width height in pixels, area, iscrowd) and categories (id, name). File names start from `path`; every
            box lies in its picture; ids of annotations start from 1. What VOC calls difficult is a crowd here:
            training and evaluation leave it open.
        notes: What was mended or left out, in words.
    """

    path: Path
    split: str
    dataset: dict[str, Any]
    notes: tuple[str, ...]

    def reader(self) -> AbstractContextManager[Callable[[str], bytes]]:
        """Give a function that returns the encoded bytes of a picture by its file name.

        It reads what lies in the data set and nothing else; several threads may call it. Raises InputError for a
        picture that is not there or cannot be read.
        """
        return _reader(self.path)


def object_splits(path: Path) -> tuple[str, ...]:
    """Return which of "train", "val" and "test" a data set has.

    Raises:
        InputError: `path` is no data set of labelled objects.
    """
    with open_files(path) as files:
        _, _, found = _form(files)
    return tuple(name for name in SPLITS if name in found)


def open_objects(path: Path, split: str) -> LabelledObjects:
    """Open one split of labelled objects.

    Args:
        path: A folder or a .zip: COCO (`annotations/instances_<split>.json`, or `<split>/_annotations.coco.json` as
            Roboflow writes it), YOLO (`data.yaml` with `images` and `labels`), or Pascal VOC (`Annotations/*.xml` with
            `ImageSets/Main/<split>.txt`, or `<split>/*.xml`). It may lie in a single subfolder.
        split: "train", "val" (or "valid", "validation") or "test".

    Raises:
        InputError: The data cannot be read, or the split is not there.
        MissingDependencyError: A YOLO data set needs PyYAML.
    """
    name = split_name(split)
    if name is None:
        raise InputError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    with open_files(path) as root:
        form, files, found = _form(root)
        if name not in found:
            has = ", ".join(other for other in SPLITS if other in found)
            raise InputError(f"{path}: expected labels of a split {split!r}; found {has}")
        truth = form.read(files, name)
        dataset = truth.dataset()
        if not dataset["images"]:
            why = "; ".join(truth.notes()) or "found none"
            raise InputError(f"{path}: expected pictures in split {split!r}; {why}")
        for row in dataset["images"]:
            row["file_name"] = files.base + row["file_name"]
    return LabelledObjects(path, name, dataset, truth.notes())


def _form(files: Files) -> tuple[_Form, Files, Collection[str]]:
    """Return which form fits, and the folder where it does: the top, or the only one in it."""
    path = files.path
    while True:
        for form in _FORMS:
            if found := form.splits(files):
                return form, files, found
        folders = [folder for folder in files.folders if folder and "/" not in folder]
        if len(folders) != 1:
            break
        files = files.within(folders[0])
    raise InputError(
        f"{path}: expected a data set of labelled objects: COCO annotations/instances_train.json, YOLO data.yaml with "
        f"images and labels, or Pascal VOC Annotations/*.xml; found none of them"
    )


@contextmanager
def _reader(path: Path) -> Iterator[Callable[[str], bytes]]:
    with open_files(path) as files:
        yield files.read
