"""Finding objects with a classifier: it looks through a window that slides over the picture at several sizes.

The window is the model's input and the picture is shrunk, level by level, instead of the window growing. Windows of all
levels go through the model in batches; those that show the same object become one box.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from edge.backends.base import Backend
from edge.classifier import classification_head
from edge.coco import canonical
from edge.decoders.base import Candidates, Classes
from edge.decoders.tools import NOTHING, finish, join
from edge.detections import Detections
from edge.detector import fraction
from edge.errors import BackendError, InputError
from edge.frame import Image
from edge.geometry import MAX_CANDIDATES, Boxes, iou_matrix
from edge.loader import LoadedModel
from edge.spec import ModelSpec

log = logging.getLogger(__name__)

PYRAMID_SCALE = 1.25
STRIDE = 0.25
IOU = 0.3
"""Lower than a detector's: the outermost of the windows that still show an object overlap the best one by a third."""

BATCH = 64
"""Windows that the model is run on at once; more gained nothing with small networks."""

BACKGROUND = frozenset({"background", "none", "nothing", "negative"})
"""Names of classes, in any case, that mean that no object is there."""

_SHARED = 0.5
_MOST = 1000
"""Boxes of one class that are made of windows at most; bounds the time of a model that finds something everywhere."""

_TINY = 1e-6
"""Keeps the mean defined for windows with a score of 0."""

_BATCH_VALUES = 1 << 20
"""Input values at once at most: a network with a large input gains little from a batch, and would take much memory."""

_LEVEL_PIXELS = 1 << 27
"""Of the largest picture of a pyramid, 400 MB in colour: a window smaller than the input enlarges the picture."""


class _Level(NamedTuple):
    """One size of the picture.

    Attributes:
        windows: uint8 (y, x, H, W) or (y, x, H, W, 3), a view with a window at every pixel.
        origin: int (n, 2), x y of the windows to look through.
        scale: float32 (2,), level pixels per source pixel, x and y.
    """

    windows: Image
    origin: npt.NDArray[np.intp]
    scale: npt.NDArray[np.float32]


class SlidingWindowDetector:
    """A classifier as a detector, with the face of `edge.detector.Detector`; used by one thread at a time."""

    def __init__(
        self,
        model: LoadedModel,
        window: int | None = None,
        pyramid_scale: float = PYRAMID_SCALE,
        stride: float = STRIDE,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int = 300,
        classes: Collection[int] | None = None,
        batch: int = BATCH,
    ) -> None:
        """Bind a loaded model.

        Args:
            model: A classifier or localiser, from `edge.loader.load_model`.
            window: Width of the smallest window in pixels of the picture; None for the width of the model's input.
                Its height follows from the input's shape.
            pyramid_scale: Each size of the window is the one before times this.
            stride: From one window to the next, as a share of the window.
            conf: Lowest probability; None for the model's own default.
            iou: Overlap above which windows show one object; None for the model's, else `IOU`.
            max_det: Boxes per picture at most.
            classes: Class indices to keep; None for all.
            batch: Windows that the model is run on at once at most.

        Raises:
            SpecError: The model is no classifier, or its outputs contradict its metadata.
            InputError: A number is out of range.
            BackendError: The runtime failed.
        """
        self._decode = classification_head(model, "it finds objects itself, run it without --method sliding-window")
        if window is not None and window < 1:
            raise InputError(f"--window {window}: expected 1 pixel or more")
        if not 1.05 <= pyramid_scale <= 10:
            raise InputError(f"--pyramid-scale {pyramid_scale}: expected a number from 1.05 to 10")
        if not 0 < stride <= 1:
            raise InputError(f"--stride {stride}: expected a share of the window, more than 0 and at most 1")
        if max_det < 1:
            raise InputError(f"--max-det {max_det}: expected 1 or more")
        self.spec: ModelSpec = model.spec
        self.backend: Backend = model.backend
        self.conf = fraction("--conf", conf, model.spec.conf)
        self.iou = fraction("--iou", iou, IOU if model.spec.iou is None else model.spec.iou)
        self._max_det = max_det
        self._preprocessor = model.preprocessor
        self._size_wh = model.preprocessor.size_wh
        self._window = window or self._size_wh[0]
        self._pyramid_scale = pyramid_scale
        self._step = tuple(max(1, round(stride * side)) for side in self._size_wh)
        self._whole = np.array((0, 0, *self._size_wh), np.float32)
        self._background = [i for i, label in enumerate(model.spec.labels) if canonical(label) in BACKGROUND]
        self._classes = None if classes is None else sorted(classes)
        width, height = self._size_wh
        picture = (height, width) if model.spec.input.color == "GRAY" else (height, width, 3)
        self.batch = max(1, min(batch, _BATCH_VALUES // math.prod(picture)))
        self._pixels = np.zeros((self.batch, *picture), np.uint8)
        self._place = np.ones((self.batch, 4), np.float32)
        self._counted: tuple[int, int] | None = None
        if self.batch > 1 and (problem := self._batch_problem()) is not None:
            log.debug("%s: one window at a time, the model takes no batch (%s)", model.path, problem)
            self.batch = 1
            self.backend.resize((1, *self.backend.input.shape[1:]))

    def _batch_problem(self) -> str | None:
        """Give the model a batch; return why its pictures are not treated as each of them alone, if they are not."""
        # From dark to bright, so that no two of them are alike to any network.
        ceiling = np.linspace(32, 255, self.batch).astype(np.uint8).reshape(-1, *[1] * (self._pixels.ndim - 1))
        self._pixels[:] = np.random.default_rng(0).integers(0, ceiling, self._pixels.shape, np.uint8)
        backend = self.backend
        expected = {info.name: (self.batch, *info.shape[1:]) for info in backend.outputs}
        ends = {at: self._raw(at, at + 1) for at in (0, self.batch - 1)}
        try:
            backend.resize((self.batch, *backend.input.shape[1:]))
            if {info.name: info.shape for info in backend.outputs} != expected:
                return f"its outputs have the shapes {', '.join(str(info.shape) for info in backend.outputs)}"
            many = self._raw(0, self.batch)
        except BackendError as error:
            return str(error)
        # A graph that mixes the pictures of a batch can have the right shapes.
        for at, alone in ends.items():
            for name, values in alone.items():
                step = 1 if values.dtype.kind in "iu" else 1e-3
                if not np.allclose(values[0], many[name][at], 1e-3, step, equal_nan=True):
                    return f"{name} differs between a batch and a picture alone"
        return None

    def _raw(self, start: int, stop: int) -> dict[str, npt.NDArray[Any]]:
        outputs = self.backend.infer(partial(self._fill, start, stop))
        return {name: values.copy() for name, values in outputs.items()}

    def _fill(self, start: int, stop: int, tensor: npt.NDArray[Any]) -> None:
        self._preprocessor.fill(self._pixels[start:stop], tensor[: stop - start])

    def detect(self, image: Image) -> tuple[Detections, dict[str, float]]:
        """Find objects in one picture.

        Args:
            image: uint8 (H, W, 3), BGR.

        Returns:
            The boxes in pixels of the picture, clipped to it, best first; and the milliseconds of "preprocess",
            "invoke", "decode" and "nms".

        Raises:
            BackendError: The runtime failed.
            InputError: The window is so small that the picture would have to be enlarged beyond all memory.
        """
        ms = dict.fromkeys(("preprocess", "invoke", "decode", "nms"), 0.0)
        parts: list[Candidates] = []
        filled = mark = perf_counter()

        def fill(tensor: npt.NDArray[Any]) -> None:
            nonlocal filled
            self._fill(0, count, tensor)
            filled = perf_counter()

        for count in self._batches(image):
            outputs = self.backend.infer(fill)
            invoked = perf_counter()
            parts.append(self._passing(self._decode(outputs), count))
            del outputs  # views of the runtime's memory: it refuses to run while one lives
            decoded = perf_counter()
            for stage, start, end in (("preprocess", mark, filled), ("invoke", filled, invoked)):
                ms[stage] += (end - start) * 1e3
            ms["decode"] += (decoded - invoked) * 1e3
            mark = decoded
        size = np.array(image.shape[1::-1] * 2, np.float32)
        detections = self._suppress(join(parts), size)
        ms["nms"] = (perf_counter() - mark) * 1e3
        return detections, ms

    def _batches(self, image: Image) -> Iterator[int]:
        """Fill `_pixels` and `_place` with windows, and yield how many each time that they are full, and at the end.

        A batch goes on from one level to the next, so that only the last one is not full.
        """
        filled = total = levels = 0
        for level in self._pyramid(image):
            total, levels = total + len(level.origin), levels + 1
            rest = level.origin
            while len(rest):
                taken, rest = np.split(rest, [self.batch - filled])
                end = filled + len(taken)
                self._pixels[filled:end] = level.windows[taken[:, 1], taken[:, 0]]
                self._place[filled:end] = np.hstack([taken, np.broadcast_to(level.scale, taken.shape)])
                filled = end % self.batch
                if not filled:
                    yield self.batch
        if filled:
            yield filled
        size_wh = (image.shape[1], image.shape[0])
        if size_wh != self._counted:
            self._counted = size_wh
            log.debug(
                "%d windows at %d sizes in a picture of %d x %d, %d at a time", total, levels, *size_wh, self.batch
            )

    def _pyramid(self, image: Image) -> Iterator[_Level]:
        """Yield the picture in every size in which the model's input is a window that fits, the largest first.

        Raises:
            InputError: The first one would be too large.
        """
        height, width = image.shape[:2]
        input_wh = self._size_wh
        least = max(input_wh[0] / width, input_wh[1] / height)
        # A picture that is smaller than the window is enlarged until it is not.
        scale = max(input_wh[0] / self._window, least)
        if width * height * scale * scale > _LEVEL_PIXELS:
            raise InputError(
                f"--window {self._window}: a picture of {width} x {height} would have to be enlarged {scale:.1f} times "
                f"for the model's input of {input_wh[0]} x {input_wh[1]}; give a larger window"
            )
        ordered = self._preprocessor.reorder(image)
        # The share that rounding may take of the last size, in which the window just fits.
        while scale >= least * (1 - 1e-9):
            size = (max(input_wh[0], round(width * scale)), max(input_wh[1], round(height * scale)))
            # Area averages what it shrinks, as the eye does; linear sampling leaves pixels out.
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            pixels = ordered if size == (width, height) else cv2.resize(ordered, size, interpolation=how)
            windows = sliding_window_view(pixels, input_wh[::-1], axis=(0, 1))
            if pixels.ndim == 3:
                windows = np.moveaxis(windows, 2, -1)
            x, y = (_starts(length - side, step) for length, side, step in zip(size, input_wh, self._step, strict=True))
            origin = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
            yield _Level(windows, origin, np.array((size[0] / width, size[1] / height), np.float32))
            scale /= self._pyramid_scale

    def _passing(self, found: Classes, count: int) -> Candidates:
        """Return the windows of a batch that show something, with boxes in pixels of the picture."""
        score = found.score[:count]
        best = score.argmax(axis=1)
        top = score[np.arange(count), best]
        shown = (top >= self.conf) & ~np.isin(best, self._background)
        if self._classes is not None:
            shown &= np.isin(best, self._classes)
        row = np.flatnonzero(shown)
        place = self._place[row]
        # A localiser says where in the window the object is; else the window is its box.
        inside = self._whole if found.xyxy is None else found.xyxy[row]
        return finish((inside + place[:, [0, 1, 0, 1]]) / place[:, [2, 3, 2, 3]], top[row], best[row])

    def _suppress(self, windows: Candidates, size: npt.NDArray[np.float32]) -> Detections:
        found, support = fuse(windows, self.iou)
        keep = outermost(found.xyxy, support)
        boxes = np.clip(found.xyxy[keep], 0, size)
        # A localiser's box may lie outside of the picture.
        visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        best = np.flatnonzero(visible)[np.argsort(-found.score[keep][visible], kind="stable")][: self._max_det]
        return Detections(boxes[best], found.score[keep][best], found.class_id[keep][best])


def fuse(windows: Candidates, iou: float) -> tuple[Candidates, npt.NDArray[np.float32]]:
    """Make one box of all windows that show the same object.

    The best window takes those of its class that overlap it by `iou`, and so on with the rest. Their mean, weighted
    by score, lies nearer to the object than any of them, because windows stand on a grid and the object does not.

    Args:
        windows: Windows that passed.
        iou: Overlap 0..1.

    Returns:
        Boxes, each with the score of its best window, best first; and the sum of scores behind each, float32 (n,).
    """
    order = np.argsort(-windows.score, kind="stable")[:MAX_CANDIDATES]
    boxes: list[Boxes] = []
    rows: list[tuple[float, float, int]] = []
    for class_id in np.flatnonzero(np.bincount(windows.class_id[order])):
        of_class = order[windows.class_id[order] == class_id]
        xyxy, score = windows.xyxy[of_class], windows.score[of_class]
        for _ in range(_MOST):
            if not len(score):
                break
            same = iou_matrix(xyxy[:1], xyxy)[0] >= iou
            same[0] = True
            weight = score[same] + _TINY
            boxes.append(weight @ xyxy[same] / weight.sum())
            rows.append((float(score[0]), float(weight.sum()), int(class_id)))
            xyxy, score = xyxy[~same], score[~same]
    if not rows:
        return NOTHING, np.empty(0, np.float32)
    ranked = sorted(range(len(rows)), key=lambda row: -rows[row][0])
    best, support, classes = zip(*(rows[row] for row in ranked), strict=True)
    found = Candidates(np.array(boxes, np.float32)[ranked], np.array(best, np.float32), np.array(classes, np.int32))
    return found, np.array(support, np.float32)


def outermost(xyxy: Boxes, support: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Choose among boxes, of whatever class, that lie in one another: the one that more windows speak for stays.

    A part of an object often looks like another object (a loop of an 8 like a 0), to few windows. A box goes when half
    of it, or half of the other, is shared.

    Args:
        xyxy: float32 (n, 4).
        support: float32 (n,).

    Returns:
        Indices of the boxes that stay, the strongest first.
    """
    order = np.argsort(-support, kind="stable")
    kept = []
    area = np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1)
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        sides = np.minimum(xyxy[first, 2:], xyxy[order, 2:]) - np.maximum(xyxy[first, :2], xyxy[order, :2])
        shared = np.prod(np.clip(sides, 0, None), axis=1)
        order = order[shared <= _SHARED * np.minimum(area[first], area[order])]
    return np.array(kept, np.intp)


def _starts(last: int, step: int) -> npt.NDArray[np.intp]:
    """Return where windows begin: every `step` pixels from 0 to `last`, both included."""
    starts = np.arange(0, last + 1, step)
    return starts if starts[-1] == last else np.append(starts, last)
