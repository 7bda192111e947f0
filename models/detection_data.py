"""Detection data sets: COCO annotations in a zip or a folder, decoded and resized once.

Layout: ``annotations/instances_<split>.json`` for each split, with ``file_name`` relative to the root.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.geometry import Transform, letterbox

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

PAD_VALUE = 114
_CACHE_VERSION = 1


@dataclass(frozen=True)
class DetectionSplit:
    """One split, held as square letterboxed pictures.

    Attributes:
        images: (n, S, S, 3) uint8 RGB, the picture centred on grey; may be a memory map.
        transforms: per image, the map from its own pixels to those of the square.
        content_xyxy: (n, 4) int32, the picture's own place in its square.
        boxes: per image (m, 5) float32: class index, then xyxy in pixels of the square.
        annotations: the split's COCO dictionary, untouched.
        labels: class names, in the order of the class indices.
        category_ids: COCO category id of each class index.
    """

    images: NDArray[np.uint8]
    transforms: list[Transform]
    content_xyxy: NDArray[np.int32]
    boxes: list[NDArray[np.float32]]
    annotations: dict[str, Any]
    labels: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)


@contextmanager
def _reader(path: Path) -> Iterator[Callable[[str], bytes]]:
    """Give a function that reads a member of a zip or a file of a folder."""
    if path.is_dir():
        yield lambda name: (path / name).read_bytes()
    else:
        with zipfile.ZipFile(path) as archive:
            yield archive.read


def _square(encoded: bytes, record: dict[str, Any], size: int) -> NDArray[np.uint8]:
    """Decode an image and letterbox it as the device will: centred, long side filling the square."""
    name, source_wh = record["file_name"], (record["width"], record["height"])
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{name}: not a readable image")
    found_wh = image.shape[1::-1]
    if found_wh != source_wh:
        raise ValueError(f"{name}: the annotations say {source_wh} pixels, the image has {found_wh}")
    _, (x, y, w, h) = letterbox(source_wh, (size, size), centered=True)
    if found_wh != (w, h):
        interpolation = cv2.INTER_AREA if max(source_wh) > size else cv2.INTER_LINEAR
        image = cv2.resize(image, (w, h), interpolation=interpolation)
    square = np.full((size, size, 3), PAD_VALUE, np.uint8)
    square[y : y + h, x : x + w] = image[..., ::-1]
    return square


def _cached_images(path: Path, split: str, records: list[dict[str, Any]], size: int, cache: Path) -> NDArray[np.uint8]:
    """Decode and resize a split's images once; later calls map the file."""
    stat = path.stat()
    names = [record["file_name"] for record in records]
    identity = [_CACHE_VERSION, str(path.resolve()), stat.st_size, stat.st_mtime_ns, size, names]
    target = cache / f"{split}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}.npy"
    if not target.exists():
        log.info("caching %d images of split %s", len(records), split)
        images = np.empty((len(records), size, size, 3), np.uint8)
        with _reader(path) as read:
            for square, record in zip(images, records, strict=True):
                square[:] = _square(read(record["file_name"]), record, size)
        cache.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed, so that a killed run never leaves half a cache behind.
        partial = target.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.save(stream, images)
        os.replace(partial, target)
    return np.asarray(np.load(target, mmap_mode="r"), np.uint8)


def load_split(path: Path, split: str, cache: Path, size: int = 320) -> DetectionSplit:
    """Read one split.

    Args:
        path: A zip or a folder laid out as this module's head says.
        split: Name of the split, for example "train".
        cache: Folder for the decoded images.
        size: Side of the square in pixels.

    Returns:
        The split; boxes marked ``iscrowd`` or without area are left out of `boxes`.

    Raises:
        FileNotFoundError: `path` or the split's annotations do not exist.
        ValueError: The split is empty, or an image cannot be decoded or has not the size that the annotations say.
    """
    if not path.exists():
        raise FileNotFoundError(f"data set not found: {path}")
    with _reader(path) as read:
        name = f"annotations/instances_{split}.json"
        try:
            annotations: dict[str, Any] = json.loads(read(name))
        except (KeyError, FileNotFoundError) as error:
            raise FileNotFoundError(f"{path} has no {name}") from error
    records = annotations["images"]
    if not records:
        raise ValueError(f"{path}: split {split} has no images")
    images = _cached_images(path, split, records, size, cache)
    places = [letterbox((record["width"], record["height"]), (size, size), centered=True) for record in records]

    categories = sorted(annotations["categories"], key=lambda category: int(category["id"]))
    class_of = {category["id"]: index for index, category in enumerate(categories)}
    image_of = {record["id"]: index for index, record in enumerate(records)}
    rows: list[list[list[float]]] = [[] for _ in records]
    for annotation in annotations["annotations"]:
        x, y, w, h = annotation["bbox"]
        if not annotation.get("iscrowd") and w > 0 and h > 0:
            rows[image_of[annotation["image_id"]]].append([class_of[annotation["category_id"]], x, y, x + w, y + h])
    boxes = [np.array(row, np.float32).reshape(-1, 5) for row in rows]
    for box, (transform, _) in zip(boxes, places, strict=True):
        box[:, 1:] = transform.to_input(box[:, 1:])
    return DetectionSplit(
        images=images,
        transforms=[transform for transform, _ in places],
        content_xyxy=np.array([[x, y, x + w, y + h] for _, (x, y, w, h) in places], np.int32),
        boxes=boxes,
        annotations=annotations,
        labels=tuple(str(category["name"]) for category in categories),
        category_ids=tuple(int(category["id"]) for category in categories),
    )


def epoch_order(split: DetectionSplit, rng: np.random.Generator, threshold: float = 0.35) -> NDArray[np.int64]:
    """Return the image indices of one epoch, images of rare classes repeated.

    An image is repeated ``max over its classes of sqrt(threshold / f)`` times, at least once, where f is the fraction
    of images that show the class (repeat-factor sampling, Gupta et al. 2019, arXiv:1908.03195).

    Args:
        split: The data.
        rng: Source of the order and of the rounding of fractional repeats.
        threshold: Fraction of images below which a class counts as rare; 0 switches repeating off.
    """
    shown = np.zeros((len(split), len(split.labels)), bool)
    for index, boxes in enumerate(split.boxes):
        shown[index, boxes[:, 0].astype(int)] = True
    factor = np.maximum(1.0, np.sqrt(threshold / np.maximum(shown.mean(axis=0), 1e-6)))
    repeats = np.where(shown, factor, 1.0).max(axis=1)
    counts = np.floor(repeats + rng.random(len(split))).astype(int)
    return rng.permutation(np.repeat(np.arange(len(split)), counts))
