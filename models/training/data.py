"""Labelled pictures for training: decoded and resized once, exactly as the device will do it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import InputError, OutputError
from edge.geometry import Boxes, Transform
from edge.labelled import LabelledPictures, open_labelled, splits
from edge.preprocess import Preprocessor
from edge.spec import InputSpec
from edge.tensor import TensorInfo

log = logging.getLogger(__name__)

Progress = Callable[[Sequence[range]], Iterable[range]]
"""Wraps the list of chunks of pictures that is gone through, to show how far it is."""

_CACHE_VERSION = 1
_CHUNK = 64
_TRANSFORM_VALUES = 6


@dataclass(frozen=True)
class Split:
    """Pictures of one split as the device would hand them to the network, before mean and std.

    Attributes:
        images: uint8 (n, H, W, C), C = 3 in the input's colour order or 1 for GRAY; a read-only memory map.
        class_id: int64 (n,).
        boxes_xyxy: float32 (n, 4), x1 y1 x2 y2 as fractions 0..1 of the input's width and height; None without boxes.
        transforms: Per picture the map from its own pixels to those of the input; None without boxes.
        picture_ids: What each picture is called.
    """

    images: NDArray[np.uint8]
    class_id: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32] | None
    transforms: list[Transform] | None
    picture_ids: Sequence[str]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.class_id)


@dataclass(frozen=True)
class TrainingData:
    """What one training run uses.

    Attributes:
        names: Class names, by class index.
        train: What is learned from.
        val: What decides when to stop and which epoch is best.
        test: What is kept apart; None where the data have none.
    """

    names: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None


def load_training_data(
    path: Path,
    input_spec: InputSpec,
    cache: Path,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress = lambda chunks: chunks,
) -> TrainingData:
    """Read a data set, resize it, and keep the result for the next run.

    Data without a `val` split give a part of each class of `train` (or of the whole, where there are no splits) to it.

    Args:
        path: Anything that `edge.labelled.open_labelled` takes.
        input_spec: The model's input; `size_wh`, `color`, `resize` and `pad_value` count.
        cache: Folder for the resized pictures.
        val_fraction: Share of each class that becomes `val` where the data have none; at least one picture of a class
            with two or more.
        seed: Chooses those pictures.
        progress: Wraps the list of chunks of each split that is decoded.

    Raises:
        InputError: The data cannot be read, a picture is broken, or splits name different classes.
        OutputError: The cache cannot be written.
    """
    found = splits(path)
    if found and "train" not in found:
        raise InputError(f"{path}: expected a split train to learn from, found {', '.join(found)}")
    train = open_labelled(path, "train" if found else None)
    if "val" in found:
        val = _with_names(open_labelled(path, "val"), train.names, f"{path}: val")
    else:
        train, val = _divide(train, val_fraction, seed, path)
    test = _with_names(open_labelled(path, "test"), train.names, f"{path}: test") if "test" in found else None
    return TrainingData(
        train.names,
        _resized(train, input_spec, cache, progress),
        _resized(val, input_spec, cache, progress),
        _resized(test, input_spec, cache, progress) if test else None,
    )


def epoch_order(class_id: NDArray[np.int64], rng: np.random.Generator, balance: bool) -> NDArray[np.int64]:
    """Return the picture indices of one epoch, shuffled.

    Args:
        class_id: int64 (n,).
        rng: Source of the order.
        balance: Draw every class equally often (to within one): pictures of rare classes come several times, of
            frequent ones only some.

    Returns:
        int64 (n,).
    """
    if not balance:
        return rng.permutation(len(class_id))
    classes = rng.permutation(np.unique(class_id))
    quota, extra = divmod(len(class_id), len(classes))
    # `resize` repeats the shuffled members, so that none comes a third time before each came twice.
    drawn = [
        np.resize(rng.permutation(np.flatnonzero(class_id == c)), quota + (i < extra)) for i, c in enumerate(classes)
    ]
    return rng.permutation(np.concatenate(drawn))


def batches(split: Split, order: NDArray[np.int64], batch_size: int) -> tf.data.Dataset:
    """Return batches of one pass, gathered ahead of their use, always in the given order.

    Args:
        split: The pictures.
        order: int64, indices into the split; as long as wanted.
        batch_size: Pictures per batch; the last one may be smaller.

    Returns:
        Elements (images uint8 (b, H, W, C), class_id int64 (b,)), and boxes float32 (b, 4) where the split has them.
    """
    columns: list[NDArray[Any]] = [split.images, split.class_id]
    if split.boxes_xyxy is not None:
        columns.append(split.boxes_xyxy)

    def gather(rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        return [column[rows] for column in columns]

    def element(rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
        values = tf.numpy_function(gather, [rows], [column.dtype for column in columns], stateful=False)
        return tuple(
            tf.ensure_shape(value, (None, *column.shape[1:])) for value, column in zip(values, columns, strict=True)
        )

    return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).map(element).prefetch(tf.data.AUTOTUNE)


def _with_names(pictures: LabelledPictures, names: tuple[str, ...], where: str) -> LabelledPictures:
    """Number the classes as `train` does; a split may lack classes but not have others."""
    others = sorted({pictures.names[i] for i in np.unique(pictures.class_id)} - set(names))
    if others:
        raise InputError(
            f"{where} has classes that train does not have ({', '.join(others[:5])}); expected the same names"
        )
    number = np.array([names.index(name) if name in names else -1 for name in pictures.names], np.int64)
    return replace(pictures, names=names, class_id=number[pictures.class_id])


def _divide(
    pictures: LabelledPictures, fraction: float, seed: int, path: Path
) -> tuple[LabelledPictures, LabelledPictures]:
    """Take a fraction of each class out for validation."""
    if not 0 < fraction < 1:
        raise InputError(f"validation fraction {fraction}: expected a number between 0 and 1")
    rng = np.random.default_rng(seed)
    taken = np.zeros(len(pictures), bool)
    for class_id in np.unique(pictures.class_id):
        members = rng.permutation(np.flatnonzero(pictures.class_id == class_id))
        taken[members[: min(max(1, round(len(members) * fraction)), len(members) - 1)]] = True
    if not taken.any():
        raise InputError(f"{path}: expected two or more pictures of a class, to learn from one and validate on another")
    return _subset(pictures, np.flatnonzero(~taken)), _subset(pictures, np.flatnonzero(taken))


def _subset(pictures: LabelledPictures, rows: NDArray[np.int64]) -> LabelledPictures:
    return LabelledPictures(
        names=pictures.names,
        class_id=pictures.class_id[rows],
        picture_ids=[pictures.picture_ids[i] for i in rows],
        read=lambda i: pictures.read(int(rows[i])),
        arrays=None if pictures.arrays is None else pictures.arrays[rows],
        boxes_xyxy=None if pictures.boxes_xyxy is None else pictures.boxes_xyxy[rows],
    )


def _resized(pictures: LabelledPictures, spec: InputSpec, cache: Path, progress: Progress) -> Split:
    """Decode and resize the pictures, or map what an earlier call left."""
    size_wh = spec.size_wh
    if size_wh is None:
        raise InputError("the input has no size; expected width and height to resize pictures to")
    # The table of the device's preprocessor applies mean and std after this; here the pixels stay what they are.
    spec = InputSpec(
        size_wh=size_wh, color=spec.color, resize=spec.resize, pad_value=spec.pad_value, mean=(0,), std=(1,)
    )
    images, places = (cache / f"{_key(pictures, spec)}.{what}.npy" for what in ("images", "transforms"))
    if not images.exists():
        log.info("decoding %d pictures", len(pictures))
        try:
            _write(pictures, spec, images, places, progress)
        except OSError as error:
            raise OutputError(f"{cache}: resized pictures cannot be kept here ({error.strerror})") from error
    boxes = transforms = None
    if pictures.boxes_xyxy is not None:
        transforms = [
            Transform((sx, sy), (x, y), (round(width), round(height)))
            for sx, sy, x, y, width, height in np.load(places).tolist()
        ]
        boxes = _fractions(pictures.boxes_xyxy, transforms, size_wh)
    return Split(np.load(images, mmap_mode="r"), pictures.class_id, boxes, transforms, pictures.picture_ids)


def _fractions(xyxy: Boxes, transforms: list[Transform], size_wh: tuple[int, int]) -> Boxes:
    """Map one box per picture from its pixels to fractions of the input, cut where the input ends."""
    mapped = [transform.to_input(box) for transform, box in zip(transforms, xyxy, strict=True)]
    return np.clip(np.array(mapped, np.float32) / np.array(size_wh * 2, np.float32), 0, 1)


def _key(pictures: LabelledPictures, spec: InputSpec) -> str:
    """Return a name for the resized pictures that changes with every pixel that could."""
    if pictures.arrays is not None:
        content = [hashlib.sha256(np.ascontiguousarray(pictures.arrays).data).hexdigest(), str(pictures.arrays.shape)]
    else:
        stats = ((name, os.stat(name)) for name in pictures.picture_ids)
        content = [f"{os.path.abspath(name)} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    identity = json.dumps([_CACHE_VERSION, spec.model_dump(), content])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _write(pictures: LabelledPictures, spec: InputSpec, images: Path, places: Path, progress: Progress) -> None:
    assert spec.size_wh is not None
    width, height = spec.size_wh
    shape = (len(pictures), height, width, 1 if spec.color == "GRAY" else 3)
    chunks = [range(i, min(i + _CHUNK, len(pictures))) for i in range(0, len(pictures), _CHUNK)]
    transforms: list[NDArray[np.float64]] = []
    images.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, the pictures last, so that a killed run never leaves half a cache behind.
    partial, partial_places = (path.with_suffix(f".{os.getpid()}.partial") for path in (images, places))
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with partial.open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            done = pool.map(lambda chunk: _resize_chunk(pictures, chunk, spec, shape[1:]), chunks)
            for _, (pixels, maps) in zip(progress(chunks), done, strict=True):
                stream.write(pixels.data)
                transforms.append(maps)
        with partial_places.open("wb") as stream:
            np.save(stream, np.concatenate(transforms))
        os.replace(partial_places, places)
        os.replace(partial, images)
    finally:
        pool.shutdown(cancel_futures=True)
        partial.unlink(missing_ok=True)
        partial_places.unlink(missing_ok=True)


def _resize_chunk(
    pictures: LabelledPictures, chunk: range, spec: InputSpec, shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    pixels = np.empty((len(chunk), *shape), np.uint8)
    maps = np.empty((len(chunk), _TRANSFORM_VALUES))
    # A preprocessor owns its buffers: one per chunk, so one per thread.
    preprocessor = Preprocessor(spec, TensorInfo("image", (1, *shape), np.dtype(np.uint8)))
    for row, i in enumerate(chunk):
        transform = preprocessor.write(pictures.read(i), pixels[row : row + 1])
        maps[row] = (*transform.scale_xy, *transform.offset_xy, *transform.source_wh)
    return pixels, maps
