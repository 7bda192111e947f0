"""The pictures that a conversion is judged on: labelled in any form that edge reads, or plain ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge.errors import InputError
from edge.frame import Image
from edge.labelled import LabelledPictures, coco, default_split, open_labelled
from edge.labelled.coco import find_picture, load_instances, one_box_pictures
from edge.sources.images import IMAGE_SUFFIXES, read_image
from edge.spec import ModelSpec

LOCALIZER = "localizer"
"""The decoder of classifiers that also give a box."""

_SOME = 8


class Boxes(NamedTuple):
    """Labelled boxes of a detector's pictures.

    Attributes:
        images: Folder that the annotations' file names start from.
        annotations: COCO instances JSON.
        image_ids: The ids of its pictures there, in order.
    """

    images: Path
    annotations: Path
    image_ids: tuple[int, ...]


@dataclass(frozen=True)
class GateData:
    """Pictures to measure a model on, in a fixed order.

    Attributes:
        name: What reports and the file call them.
        count: How many.
        read: Reads picture i as uint8 (H, W, 3) BGR. Raises SourceError.
        labels: What they show; None for plain pictures, on which models can only be compared.
    """

    name: str
    count: int
    read: Callable[[int], Image]
    labels: Boxes | LabelledPictures | None

    def some(self) -> list[Image]:
        """Return a few of the pictures, evenly spread."""
        chosen = np.linspace(0, self.count - 1, min(_SOME, self.count))
        return [self.read(int(i)) for i in chosen]


def open_gate_data(data: Path, annotations: Path | None, spec: ModelSpec) -> GateData:
    """Open the pictures that suit a model.

    Args:
        data: Detector: the folder of pictures. Classifier: anything that `edge.labelled.open_labelled` takes. Either: a
            folder of plain pictures.
        annotations: COCO instances JSON of the pictures in `data`.
        spec: The model's.

    Raises:
        InputError: They cannot be read, or do not suit the model.
    """
    if annotations is not None:
        return _annotated(data, annotations, spec)
    if spec.task == "detect":
        if data.is_dir() and coco.fits(data):
            file = coco.splits(data)[default_split(data) or "train"]
            raise InputError(
                f"--data {data}: holds COCO annotations; name the pictures and their file, like --data {data}/"
                f"{file.stem.removeprefix('instances_')} --annotations {file}"
            )
        return _plain(data, sorted(path for path in _files(data, "**/*")))
    direct = sorted(_files(data, "*"))
    if direct and not _files(data, "*/**/*"):
        return _plain(data, direct)
    split = default_split(data)
    return _labelled(f"{data.name} {split}" if split else data.name, open_labelled(data, split))


def _annotated(data: Path, annotations: Path, spec: ModelSpec) -> GateData:
    if spec.decoder.name == LOCALIZER:
        return _labelled(annotations.name, one_box_pictures(annotations, [data]))
    if spec.task != "detect":
        raise InputError(f"--annotations {annotations}: {spec.name} is a classifier without boxes; give --data alone")
    if not data.is_dir():
        raise InputError(f"--data {data}: expected the folder of the pictures that --annotations names")
    ids = {find_picture([data], row["file_name"]): row["id"] for row in load_instances(annotations)["images"]}
    paths = list(ids)
    labels = Boxes(data, annotations, tuple(ids.values()))
    return GateData(annotations.name, len(paths), lambda i: read_image(paths[i]), labels)


def _labelled(name: str, pictures: LabelledPictures) -> GateData:
    return GateData(name, len(pictures), pictures.read, pictures)


def _plain(data: Path, paths: list[Path]) -> GateData:
    if not paths:
        found = "no picture in it" if data.is_dir() else "found no folder"
        raise InputError(f"--data {data}: expected a folder of pictures, {found}")
    return GateData(f"{data.name}, unlabelled", len(paths), lambda i: read_image(paths[i]), None)


def _files(folder: Path, pattern: str) -> list[Path]:
    """Return the pictures that match; none where there is no folder."""
    if not folder.is_dir():
        return []
    return [p for p in folder.glob(pattern) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
