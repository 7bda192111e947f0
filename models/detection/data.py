"""Pictures with boxes for training: decoded and resized once, several sets in one row.

A truth row is (class, x1, y1, x2, y2): class index and a box in pixels of the picture at hand. A row of class
-2 - c marks a region in which it is open whether there are objects of class c (`unknown`): a whole picture whose set
does not label c, a crowd, a doubtful find of a teacher. Such rows go through every augmentation like boxes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.geometry import Transform, letterbox
from edge.labelled.objects import LabelledObjects, object_splits, open_objects
from models.detection.sets import DataSet, DataSets
from models.detection.teacher import Finds, read_finds

PAD_VALUE = 114
_CACHE_VERSION = 2
_CHUNK = 64

Rows = NDArray[np.float32]
Tracker = Callable[[Sequence[range]], Iterable[range]]
"""Wraps the chunks of pictures that are decoded, to show how far it is."""


def unknown(class_id: int) -> int:
    """Return what stands for "open whether this class is here" in a truth row."""
    return -2 - class_id


@dataclass(frozen=True)
class Part:
    """One split of one set.

    Attributes:
        images: (n, S, S, 3) uint8 RGB, the picture centred on grey; may be a memory map.
        transforms: per image, the map from its own pixels to those of the square.
        content_xyxy: (n, 4) int32, the picture's own place in its square.
        rows: per image (m, 5) float32 truth rows in pixels of the square.
        truth: COCO instances of the split, category id = class index + 1, for evaluation; what is left open is crowd.
        labelled: class indices that are labelled in it, the only ones that can be evaluated on it.
        name: For people.
        repeat: see `models.detection.sets.DataSet`.
        aspect: likewise.
    """

    images: NDArray[np.uint8]
    transforms: list[Transform]
    content_xyxy: NDArray[np.int32]
    rows: list[Rows]
    truth: dict[str, Any]
    labelled: tuple[int, ...]
    name: str
    repeat: float = 1.0
    aspect: tuple[float, float] = (1.0, 1.0)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)


class Pool:
    """The pictures of several parts in one row."""

    def __init__(self, parts: Sequence[Part], labels: Sequence[str]) -> None:
        """Join.

        Args:
            parts: At least one, all of the same side.
            labels: Class names.
        """
        self.parts = tuple(parts)
        self.labels = tuple(labels)
        self._start = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self._start[-1])

    def place(self, index: int) -> tuple[Part, int]:
        """Return the part that holds an image, and its index there."""
        part = int(np.searchsorted(self._start, index, side="right")) - 1
        return self.parts[part], index - int(self._start[part])

    def picture(self, index: int) -> tuple[NDArray[np.uint8], Rows]:
        """Return an image (h, w, 3) without its letterbox, and its truth rows in pixels of that crop."""
        part, i = self.place(index)
        x1, y1, x2, y2 = part.content_xyxy[i]
        rows = part.rows[i].copy()
        rows[:, 1:] -= np.array([x1, y1, x1, y1], np.float32)
        return part.images[i, y1:y2, x1:x2], rows

    def square(self, index: int) -> NDArray[np.uint8]:
        """Return an image (S, S, 3) as it is without augmentation."""
        part, i = self.place(index)
        return np.asarray(part.images[i], np.uint8)

    def rows(self) -> list[Rows]:
        """Return the truth rows of every image."""
        return [rows for part in self.parts for rows in part.rows]


def load_data(
    sets: DataSets, cache: Path, size: int, val_fraction: float, seed: int, track: Tracker = lambda chunks: chunks
) -> tuple[Pool, Pool]:
    """Read the training and the validation pictures of all sets.

    Args:
        sets: What to read.
        cache: Folder for the decoded images.
        size: Side of the square in pixels.
        val_fraction: Share of the training pictures that is held out where no set has a validation split.
        seed: Of that choice.
        track: Wraps the chunks of pictures that are decoded.

    Raises:
        InputError: A set cannot be read or has no training pictures, or names none of the classes.
    """
    labels = sets.classes or class_names(sets.sets[0])
    parts: dict[str, list[Part]] = {"train": [], "val": []}
    for data in sets.sets:
        found = object_splits(data.data)
        for split in data.splits:
            if split in found:
                parts[split].append(load_part(data, split, labels, cache, size, track))
            elif split == "train":
                has = ", ".join(found) or "none"
                raise InputError(f"{data.data}: expected a split train; found {has}")
    if not parts["train"]:
        raise InputError("no set gives training pictures")
    if not parts["val"]:
        held = [hold_out(part, val_fraction, seed) for part in parts["train"]]
        parts = {"train": [kept for kept, _ in held], "val": [out for _, out in held]}
    return Pool(parts["train"], labels), Pool(parts["val"], labels)


def load_test(
    sets: DataSets, labels: Sequence[str], cache: Path, size: int, track: Tracker = lambda chunks: chunks
) -> Pool | None:
    """Read the test pictures of all sets that have some; see `load_data`."""
    with_test = [data for data in sets.sets if "test" in object_splits(data.data)]
    parts = [load_part(data, "test", labels, cache, size, track) for data in with_test]
    return Pool(parts, labels) if parts else None


def class_names(data: DataSet) -> tuple[str, ...]:
    """Return the classes of a set by their ids; of the ones that are listed, those that are labelled somewhere.

    Raises:
        InputError: The set cannot be read or has no boxes.
    """
    dataset = open_objects(data.data, "train").dataset
    used = {row["category_id"] for row in dataset["annotations"]}
    names = [row["name"] for row in sorted(dataset["categories"], key=lambda row: row["id"]) if row["id"] in used]
    if not names:
        raise InputError(f"{data.data}: has no boxes to learn from")
    return tuple(dict.fromkeys(data.rename.get(name, name) for name in names))


def load_part(
    data: DataSet, split: str, labels: Sequence[str], cache: Path, size: int, track: Tracker = lambda chunks: chunks
) -> Part:
    """Read one split of a set; see `load_data`."""
    objects = open_objects(data.data, split)
    records = objects.dataset["images"]
    if not records:
        raise InputError(f"{data.data}: split {split} has no pictures")
    index = {name: i for i, name in enumerate(labels)}
    class_of = {
        row["id"]: index.get(data.rename.get(row["name"], row["name"])) for row in objects.dataset["categories"]
    }
    if all(value is None for value in class_of.values()):
        names = ", ".join(row["name"] for row in objects.dataset["categories"])
        raise InputError(f"{data.data}: has {names}; expected one of {', '.join(labels)}")
    finds = read_finds(data.teacher, data.teacher_classes, labels) if split == "train" else None
    truth = _truth(objects, data, labels, class_of, finds)
    images = _cached_images(objects, records, size, cache, track)
    places = [letterbox((row["width"], row["height"]), (size, size), centered=True) for row in records]
    unlabelled = {index[name] for name in (*data.unlabelled, *data.teacher_classes)}
    return Part(
        images=images,
        transforms=[transform for transform, _ in places],
        content_xyxy=np.array([[x, y, x + w, y + h] for _, (x, y, w, h) in places], np.int32),
        rows=_rows(truth, [transform for transform, _ in places]),
        truth=truth,
        labelled=tuple(i for i in range(len(labels)) if i not in unlabelled),
        name=f"{data.data.stem} {split}",
        repeat=data.repeat,
        aspect=data.aspect,
    )


def _truth(
    objects: LabelledObjects,
    data: DataSet,
    labels: Sequence[str],
    class_of: dict[int, int | None],
    finds: Finds | None,
) -> dict[str, Any]:
    """Return the annotations in our classes; what is open is marked iscrowd, which COCO's evaluation ignores."""
    annotations: list[dict[str, Any]] = []

    def add(image: int, class_id: int, box: Sequence[float], crowd: int) -> None:
        area = float(box[2]) * float(box[3])
        row = {"id": len(annotations) + 1, "image_id": image, "category_id": class_id + 1}
        annotations.append({**row, "bbox": [float(v) for v in box], "area": area, "iscrowd": crowd})

    for row in objects.dataset["annotations"]:
        class_id = class_of[row["category_id"]]
        if class_id is not None and row["bbox"][2] > 0 and row["bbox"][3] > 0:
            add(row["image_id"], class_id, row["bbox"], int(bool(row.get("iscrowd"))))
    for record in objects.dataset["images"]:
        for name in data.unlabelled:
            add(record["id"], labels.index(name), (0, 0, record["width"], record["height"]), 1)
        for class_id, box, doubtful in finds.of(record["file_name"]) if finds else ():
            if not (doubtful and labels[class_id] in data.unlabelled):  # all of the picture is open for it already
                add(record["id"], class_id, box, int(doubtful))
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(labels)]
    return {"images": objects.dataset["images"], "annotations": annotations, "categories": categories}


def _rows(truth: dict[str, Any], transforms: Sequence[Transform]) -> list[Rows]:
    position = {record["id"]: i for i, record in enumerate(truth["images"])}
    rows: list[list[list[float]]] = [[] for _ in transforms]
    for row in truth["annotations"]:
        x, y, w, h = row["bbox"]
        class_id = row["category_id"] - 1
        rows[position[row["image_id"]]].append([unknown(class_id) if row["iscrowd"] else class_id, x, y, x + w, y + h])
    arrays = [np.array(row, np.float32).reshape(-1, 5) for row in rows]
    for array, transform in zip(arrays, transforms, strict=True):
        array[:, 1:] = transform.to_input(array[:, 1:])
    return arrays


def hold_out(part: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Split a part at random into what is kept and what is held out (at least one picture of each).

    Raises:
        InputError: There is only one picture.
    """
    if len(part) < 2:
        raise InputError(f"{part.name}: one picture can not both be learned from and be measured on")
    order = np.random.default_rng(seed).permutation(len(part))
    out = min(len(part) - 1, max(1, round(fraction * len(part))))
    return take(part, np.sort(order[out:])), take(part, np.sort(order[:out]))


def take(part: Part, chosen: NDArray[np.int64]) -> Part:
    """Return a part with some of its images."""
    records = [part.truth["images"][i] for i in chosen]
    ids = {record["id"] for record in records}
    truth = {**part.truth, "images": records}
    truth["annotations"] = [row for row in part.truth["annotations"] if row["image_id"] in ids]
    return Part(
        images=part.images[chosen],
        transforms=[part.transforms[i] for i in chosen],
        content_xyxy=part.content_xyxy[chosen],
        rows=[part.rows[i] for i in chosen],
        truth=truth,
        labelled=part.labelled,
        name=part.name,
        repeat=part.repeat,
        aspect=part.aspect,
    )


def _square(encoded: bytes, record: dict[str, Any], size: int) -> NDArray[np.uint8]:
    """Decode an image and letterbox it as the device will: centred, long side filling the square."""
    name, source_wh = record["file_name"], (record["width"], record["height"])
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    if image is None:
        raise InputError(f"{name}: not a readable picture")
    found_wh = image.shape[1::-1]
    if found_wh != source_wh:
        raise InputError(f"{name}: the annotations say {source_wh} pixels, the picture has {found_wh}")
    _, (x, y, w, h) = letterbox(source_wh, (size, size), centered=True)
    if found_wh != (w, h):
        interpolation = cv2.INTER_AREA if max(source_wh) > size else cv2.INTER_LINEAR
        image = cv2.resize(image, (w, h), interpolation=interpolation)
    square = np.full((size, size, 3), PAD_VALUE, np.uint8)
    square[y : y + h, x : x + w] = image[..., ::-1]
    return square


def _cached_images(
    objects: LabelledObjects, records: list[dict[str, Any]], size: int, cache: Path, track: Tracker
) -> NDArray[np.uint8]:
    """Decode and resize a split's images once; later calls map the file."""
    stat = objects.path.stat()
    names = [record["file_name"] for record in records]
    identity = [_CACHE_VERSION, str(objects.path.resolve()), stat.st_size, stat.st_mtime_ns, size, names]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    target = cache / f"{objects.split}-{digest}.npy"
    if not target.exists():
        images = np.empty((len(records), size, size, 3), np.uint8)
        chunks = [range(i, min(i + _CHUNK, len(records))) for i in range(0, len(records), _CHUNK)]
        with objects.reader() as read:
            for chunk in track(chunks):
                for i in chunk:
                    images[i] = _square(read(names[i]), records[i], size)
        cache.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed, so that a killed run never leaves half a cache behind.
        partial = target.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.save(stream, images)
        os.replace(partial, target)
    return np.asarray(np.load(target, mmap_mode="r"), np.uint8)


def epoch_order(pool: Pool, rng: np.random.Generator, threshold: float = 0.35) -> NDArray[np.int64]:
    """Return the image indices of one epoch, images of rare classes repeated.

    An image is seen ``repeat of its set * max(1, max over its classes of sqrt(threshold / f))`` times, where f is the
    fraction of images that show the class (repeat-factor sampling, Gupta et al. 2019, arXiv:1908.03195).

    Args:
        pool: The data.
        rng: Source of the order and of the rounding of fractional repeats.
        threshold: Fraction of images below which a class counts as rare; 0 switches repeating off.
    """
    shown = np.zeros((len(pool), len(pool.labels)), bool)
    for index, rows in enumerate(pool.rows()):
        known = rows[:, 0].astype(int)
        shown[index, known[known >= 0]] = True
    factor = np.maximum(1.0, np.sqrt(threshold / np.maximum(shown.mean(axis=0), 1e-6)))
    repeats = np.where(shown, factor, 1.0).max(axis=1, initial=1.0)
    repeats *= np.repeat([part.repeat for part in pool.parts], [len(part) for part in pool.parts])
    counts = np.floor(repeats + rng.random(len(pool))).astype(int)
    return rng.permutation(np.repeat(np.arange(len(pool)), counts))
