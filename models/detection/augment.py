"""Augmentation of detection samples: mosaic, affine, flip and colour, with the boxes moved along.

Samples are (image (S, S, 3) uint8 RGB, truth rows (m, 5) float32 in pixels of that image; see `models.detection.data`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.detection.data import PAD_VALUE, Pool, unknown

Sample = tuple[NDArray[np.uint8], NDArray[np.float32]]


@dataclass(frozen=True)
class Augmentation:
    """Strengths; the default of every field is what training uses, 0 (or a range of 1..1) switches it off.

    Attributes:
        mosaic: Probability that a sample is made of four images.
        flip: Probability of a horizontal flip.
        scale: Range of the zoom of a single image.
        mosaic_scale: Range of the zoom of each image in a mosaic.
        degrees: Largest rotation, either way. Off: the upright box around a turned box is larger than the object,
            and a net that learns from such boxes draws all of its boxes too large.
        shear: Largest shear factor, either way; off for the same reason.
        translate: Largest shift as a fraction of the side, either way.
        hsv: Largest relative change of hue, saturation and value.
        min_visible: Objects of which less than this fraction stays in the picture are neither asked for nor forbidden.
        min_side: Likewise objects with a side shorter than this many pixels.
    """

    mosaic: float = 0.6
    flip: float = 0.5
    scale: tuple[float, float] = (0.5, 1.5)
    mosaic_scale: tuple[float, float] = (0.35, 1.0)
    degrees: float = 0.0
    shear: float = 0.0
    translate: float = 0.1
    hsv: tuple[float, float, float] = (0.015, 0.6, 0.4)
    min_visible: float = 0.3
    min_side: float = 3.0


def move_boxes(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the upright boxes around the corners of `boxes` (m, 5) after a 2 x 3 affine map."""
    corners = boxes[:, [1, 2, 3, 2, 3, 4, 1, 4]].reshape(-1, 4, 2) @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([boxes[:, :1], corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def clip_boxes(
    boxes: NDArray[np.float32], region_xyxy: tuple[int, int, int, int], augmentation: Augmentation
) -> NDArray[np.float32]:
    """Clip truth rows (m, 5) to a region; what is left of an object that has lost too much is left open."""
    x1, y1, x2, y2 = region_xyxy
    clipped = boxes.copy()
    clipped[:, [1, 3]] = clipped[:, [1, 3]].clip(x1, x2)
    clipped[:, [2, 4]] = clipped[:, [2, 4]].clip(y1, y2)
    sides, before = clipped[:, 3:] - clipped[:, 1:3], boxes[:, 3:] - boxes[:, 1:3]
    visible = sides.prod(axis=1) >= augmentation.min_visible * before.prod(axis=1)
    lost = (boxes[:, 0] >= 0) & ~(visible & (sides.min(axis=1) >= augmentation.min_side))
    clipped[lost, 0] = unknown(clipped[lost, 0])
    kept: NDArray[np.float32] = clipped[sides.min(axis=1) >= 1.0]
    return kept


def _warp(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], canvas: NDArray[np.uint8], region: tuple[int, int, int, int]
) -> None:
    """Draw `image` through a map to canvas pixels, inside a region of the canvas only."""
    x1, y1, x2, y2 = region
    local = matrix - np.array([[0.0, 0.0, x1], [0.0, 0.0, y1]])
    # Maps here send box edges (pixel corners); warpAffine works on pixel centres, half a pixel away.
    local[:, 2] += local[:, :2].sum(axis=1) * 0.5 - 0.5
    canvas[y1:y2, x1:x2] = cv2.warpAffine(
        image,
        local,
        (x2 - x1, y2 - y1),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PAD_VALUE, PAD_VALUE, PAD_VALUE),
    )


def _stretch(pool: Pool, index: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random map that changes width over height by a factor in the range of the image's set, not the area."""
    part, _ = pool.place(index)
    low, high = np.log(part.aspect)
    root = np.exp(rng.uniform(low, high) / 2)
    return np.diag([root, 1.0 / root])


def single(pool: Pool, index: int, size: int, rng: np.random.Generator, augmentation: Augmentation) -> Sample:
    """Place one image around the centre of a (size, size) picture, zoomed, turned, sheared and shifted."""
    image, boxes = pool.picture(index)
    height, width = image.shape[:2]
    zoom = rng.uniform(*augmentation.scale) * size / max(height, width)
    angle = np.deg2rad(rng.uniform(-augmentation.degrees, augmentation.degrees))
    shear = np.array([[1.0, rng.uniform(-1, 1) * augmentation.shear], [rng.uniform(-1, 1) * augmentation.shear, 1.0]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = zoom * turn @ shear @ _stretch(pool, index, rng)
    shift = rng.uniform(-augmentation.translate, augmentation.translate, 2) * size
    matrix = np.column_stack([linear, size / 2 + shift - linear @ (width / 2, height / 2)])
    canvas = np.empty((size, size, 3), np.uint8)
    region = (0, 0, size, size)
    _warp(image, matrix, canvas, region)
    return canvas, clip_boxes(move_boxes(boxes, matrix), region, augmentation)


def mosaic(
    pool: Pool, indices: Sequence[int], size: int, rng: np.random.Generator, augmentation: Augmentation
) -> Sample:
    """Join four images at a random point near the middle, each zoomed and cut anywhere to fit its quarter."""
    cx, cy = (int(value) for value in rng.uniform(0.3 * size, 0.7 * size, 2))
    canvas = np.empty((size, size, 3), np.uint8)
    kept = []
    regions = ((0, 0, cx, cy), (cx, 0, size, cy), (0, cy, cx, size), (cx, cy, size, size))
    for index, region in zip(indices, regions, strict=True):
        image, boxes = pool.picture(index)
        height, width = image.shape[:2]
        zoom = rng.uniform(*augmentation.mosaic_scale) * size / max(height, width)
        linear = zoom * _stretch(pool, index, rng)
        # Negative room: the image is larger than its quarter and any part of it may show.
        room = np.array([region[2] - region[0], region[3] - region[1]]) - linear @ (width, height)
        matrix = np.column_stack([linear, region[:2] + room * rng.random(2)])
        _warp(image, matrix, canvas, region)
        kept.append(clip_boxes(move_boxes(boxes, matrix), region, augmentation))
    return canvas, np.concatenate(kept)


def flip(sample: Sample) -> Sample:
    """Mirror left and right."""
    image, boxes = sample
    mirrored = boxes.copy()
    mirrored[:, [1, 3]] = image.shape[1] - boxes[:, [3, 1]]
    return np.asarray(cv2.flip(image, 1), np.uint8), mirrored


def jitter_colour(
    image: NDArray[np.uint8], rng: np.random.Generator, hsv: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Scale hue, saturation and value by random factors."""
    gain = 1.0 + rng.uniform(-1, 1, 3) * np.array(hsv)
    level = np.arange(256)
    tables = [(level * gain[0]) % 180, (level * gain[1]).clip(0, 255), (level * gain[2]).clip(0, 255)]
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    mapped = cv2.LUT(planes, np.stack(tables, axis=-1).astype(np.uint8)[None])
    return np.asarray(cv2.cvtColor(mapped, cv2.COLOR_HSV2RGB), np.uint8)


def make_sample(pool: Pool, index: int, size: int, rng: np.random.Generator, augmentation: Augmentation) -> Sample:
    """Return one augmented training sample of side `size`."""
    if rng.random() < augmentation.mosaic:
        sample = mosaic(pool, [index, *rng.integers(len(pool), size=3)], size, rng, augmentation)
    else:
        sample = single(pool, index, size, rng, augmentation)
    if rng.random() < augmentation.flip:
        sample = flip(sample)
    return jitter_colour(sample[0], rng, augmentation.hsv), sample[1]


def make_batch(samples: Sequence[Sample]) -> Sample:
    """Stack samples: images (B, S, S, 3) uint8 and boxes (B, M, 5) float32 padded with rows of class -1."""
    images = np.stack([image for image, _ in samples])
    boxes = np.full((len(samples), max(1, *(len(rows) for _, rows in samples)), 5), -1.0, np.float32)
    for target, (_, rows) in zip(boxes, samples, strict=True):
        target[: len(rows)] = rows
    return images, boxes


def batches(
    pool: Pool,
    order: NDArray[np.int64],
    batch_size: int,
    sizes: Sequence[int],
    seed: Sequence[int],
    augmentation: Augmentation,
    workers: int | None = None,
) -> Generator[Sample, None, None]:
    """Yield the full batches of an epoch, made ahead in threads (OpenCV releases the interpreter's lock).

    Each sample has its own generator, seeded with its place in the epoch: the result does not depend on the threads.
    The side of a batch's images is one of `sizes`, at random. `workers` is the number of threads; when None,
    one a core, and at least two.
    """
    workers = workers or max(2, os.cpu_count() or 1)
    starts = range(0, len(order) - batch_size + 1, batch_size)
    sides = np.random.default_rng([*seed, len(order)]).choice(np.asarray(sizes), len(starts))

    def produce(start: int) -> Sample:
        side = int(sides[start // batch_size])
        picked = enumerate(order[start : start + batch_size], start)
        return make_batch(
            [make_sample(pool, int(i), side, np.random.default_rng([*seed, n]), augmentation) for n, i in picked]
        )

    pending: deque[Future[Sample]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="augment")
    # OpenCV's own threads wait busily for each other: a third more of the processor's time.
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for start in starts:
            pending.append(executor.submit(produce, start))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(before)
