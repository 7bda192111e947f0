"""A sliding window on canvases full of digits: makes the canvases and a training set, and measures a classifier.

    python benchmarks/digit_canvases.py canvases OUT --mnist mnist.npz [--count 100] [--seed 0]
    python benchmarks/digit_canvases.py training OUT.npz --mnist mnist.npz [--seed 0]
    python benchmarks/digit_canvases.py measure OUT --model M.tflite [--unbatched]

A canvas is black, 640 x 480, with up to 14 digits of MNIST's TEST part. Each is the 28 x 28 picture of the set, margin
included, enlarged to a side of 28 to 96 pixels; no two of these tiles overlap. Two files of boxes are written.
`tiles.json` has the tiles: what a window shows when the classifier sees a digit as it was trained to, and so what a
sliding window can answer. `ink.json` has the boxes that a person would draw, tight around the ink; the ink fills about
half of its tile, a "1" a seventh, so a window without a box of its own cannot match those.

The training set is cut from canvases of the TRAIN part as a sliding window would cut them: digits a little off centre
and off size, and an eleventh class, "background": parts of digits, several at once, too large, too small, nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from edge.detections import Detections
from edge.evaluate import EVALUATION_MAX_DET, evaluate_detector
from edge.loader import load_model
from edge.sliding import SlidingWindowDetector

Pixels = npt.NDArray[np.uint8]

SIZE_WH = (640, 480)
SIDES = (28, 96)
DIGITS = 14
TRIES = 40
SIDE = 28
NAMES = [*"0123456789", "background"]


class Canvas(NamedTuple):
    """A picture, uint8 (H, W), with the digit, tile and ink of each of its numbers; boxes int (n, 4) x1 y1 x2 y2."""

    picture: Pixels
    digit: npt.NDArray[np.int64]
    tile: npt.NDArray[np.int64]
    ink: npt.NDArray[np.int64]


def make_canvas(digits: Pixels, labels: npt.NDArray[np.int64], random: np.random.Generator) -> Canvas:
    """Paste digits, uint8 (n, 28, 28), where there is room; those that found none are left out."""
    picture = np.zeros(SIZE_WH[::-1], np.uint8)
    rows: list[tuple[int, list[int], list[int]]] = []
    for image, label in zip(digits, labels, strict=True):
        side = round(float(np.exp(random.uniform(*np.log(SIDES)))))
        for _ in range(TRIES):
            x, y = (int(random.integers(0, length - side + 1)) for length in SIZE_WH)
            tile = [x, y, x + side, y + side]
            if all(tile[2] <= t[0] or t[2] <= x or tile[3] <= t[1] or t[3] <= y for _, t, _ in rows):
                pasted = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
                picture[y : y + side, x : x + side] = pasted
                left, top, width, height = cv2.boundingRect((pasted > 64).astype(np.uint8))
                rows.append((int(label), tile, [x + left, y + top, x + left + width, y + top + height]))
                break
    digit, tile_boxes, ink = zip(*rows, strict=True)
    return Canvas(picture, np.array(digit), np.array(tile_boxes), np.array(ink))


def load(path: Path, part: str) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return the pictures, uint8 (n, 28, 28), and numbers of "train" or "test"."""
    with np.load(path, allow_pickle=False) as data:
        return data[f"x_{part}"], data[f"y_{part}"].astype(np.int64)


def write_canvases(folder: Path, mnist: Path, count: int, seed: int) -> None:
    """Write `count` canvases of test digits, and their boxes."""
    digits, labels = load(mnist, "test")
    random = np.random.default_rng(seed)
    order = random.permutation(len(digits))
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES[:10])]
    images = []
    boxes: dict[str, list[dict[str, object]]] = {"tiles": [], "ink": []}
    for number in range(count):
        chosen = np.take(order, range(number * DIGITS, (number + 1) * DIGITS), mode="wrap")
        canvas = make_canvas(digits[chosen], labels[chosen], random)
        name = f"{number:04}.png"
        cv2.imwrite(str(folder / "pictures" / name), canvas.picture)
        images.append({"id": number, "file_name": name, "width": SIZE_WH[0], "height": SIZE_WH[1]})
        for kind, found in (("tiles", canvas.tile), ("ink", canvas.ink)):
            for digit, (x1, y1, x2, y2) in zip(canvas.digit.tolist(), found.tolist(), strict=True):
                bbox = [x1, y1, x2 - x1, y2 - y1]
                row = {"id": len(boxes[kind]) + 1, "image_id": number, "category_id": digit, "bbox": bbox}
                boxes[kind].append(row | {"area": bbox[2] * bbox[3], "iscrowd": 0})
    for kind, rows in boxes.items():
        dataset = {"images": images, "annotations": rows, "categories": categories}
        (folder / f"{kind}.json").write_text(json.dumps(dataset))
    print(f"{folder}: {count} canvases, {len(boxes['tiles'])} digits")


def cut(canvas: Canvas, random: np.random.Generator) -> tuple[list[Pixels], list[int]]:
    """Return windows of a canvas, uint8 (28, 28), and their classes: a digit each, and as much background."""
    windows, classes = [], []
    for digit, (x1, y1, x2, _) in zip(canvas.digit, canvas.tile.astype(float), strict=True):
        side = x2 - x1
        # What a stride of a quarter and a pyramid of steps of 1.25 leave at worst between a digit and its best window.
        shift, scale = random.uniform(-0.15, 0.15, 2) * side, 1.15 ** random.uniform(-1, 1)
        windows.append(_window(canvas.picture, x1 + side / 2 + shift[0], y1 + side / 2 + shift[1], side * scale))
        classes.append(int(digit))
        shift, scale = random.uniform(-0.8, 0.8, 2) * side, 2.2 ** random.uniform(-1, 1)
        x, y, width = x1 + side / 2 + shift[0], y1 + side / 2 + shift[1], side * scale
        if random.random() < 0.1:
            x, y = random.uniform(0, SIZE_WH[0]), random.uniform(0, SIZE_WH[1])
        if _overlap(np.array([x - width / 2, y - width / 2, x + width / 2, y + width / 2]), canvas.tile).max() < 0.35:
            windows.append(_window(canvas.picture, x, y, width))
            classes.append(10)
    return windows, classes


def _window(picture: Pixels, x: float, y: float, side: float) -> Pixels:
    whole = max(1, round(side))
    corner = (round(x - side / 2), round(y - side / 2))
    bordered = np.zeros((whole, whole), np.uint8)
    left, top = max(0, corner[0]), max(0, corner[1])
    part = picture[top : max(top, corner[1] + whole), left : max(left, corner[0] + whole)]
    bordered[top - corner[1] :, left - corner[0] :][: part.shape[0], : part.shape[1]] = part
    shrinks = cv2.INTER_AREA if whole > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(bordered, (SIDE, SIDE), interpolation=shrinks), np.uint8)


def _overlap(box: npt.NDArray[np.float64], boxes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    inter = sides.prod(axis=1)
    return np.asarray(inter / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - inter))


def write_training(path: Path, mnist: Path, seed: int) -> None:
    """Write a set of eleven classes like MNIST's file: each digit as it is, once as a window finds it, background."""
    random = np.random.default_rng(seed)
    arrays: dict[str, npt.NDArray[np.generic]] = {"names": np.array(NAMES)}
    for part in ("train", "test"):
        digits, labels = load(mnist, part)
        order = random.permutation(len(digits))
        windows, classes = list(digits), labels.tolist()
        for start in range(0, len(order), DIGITS):
            chosen = order[start : start + DIGITS]
            found, names = cut(make_canvas(digits[chosen], labels[chosen], random), random)
            windows += found
            classes += names
        arrays[f"x_{part}"], arrays[f"y_{part}"] = np.stack(windows), np.array(classes, np.uint8)
        print(f"{part}: {len(classes)} pictures, {classes.count(10)} of them background")
    np.savez_compressed(path, **arrays)


class Timed:
    """A detector that times each picture, and finds nothing twice: two sets of boxes are compared with one run."""

    def __init__(self, detector: SlidingWindowDetector) -> None:
        """Wrap a detector."""
        self.spec = detector.spec
        self.times_ms: list[float] = []
        self._detector = detector
        self._known: dict[bytes, tuple[Detections, dict[str, float]]] = {}

    def detect(self, image: Pixels) -> tuple[Detections, dict[str, float]]:
        """See `SlidingWindowDetector.detect`."""
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in self._known:
            start = time.perf_counter()
            self._known[key] = self._detector.detect(image)
            self.times_ms.append((time.perf_counter() - start) * 1e3)
        return self._known[key]


def measure(folder: Path, model: Path, unbatched: bool, conf: float) -> None:
    """Print mAP on the canvases, against tiles and against ink, and the time of a canvas."""
    batch = {"batch": 1} if unbatched else {}
    detector = SlidingWindowDetector(load_model(model), conf=conf, max_det=EVALUATION_MAX_DET, **batch)
    timed = Timed(detector)
    for kind in ("tiles", "ink"):
        report = evaluate_detector(timed, folder / "pictures", folder / f"{kind}.json")
        print(f"{kind}: mAP50 {report.map50:.3f}, mAP50-95 {report.map50_95:.3f} on {report.images} canvases")
    median = statistics.median(timed.times_ms)
    print(f"{detector.backend.description}, {detector.batch} windows at a time: {median:.0f} ms a canvas (median)")


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("canvases", "training"):
        command = commands.add_parser(name)
        command.add_argument("out", type=Path)
        command.add_argument("--mnist", type=Path, required=True)
        command.add_argument("--seed", type=int, default=0)
        if name == "canvases":
            command.add_argument("--count", type=int, default=100)
    command = commands.add_parser("measure")
    command.add_argument("folder", type=Path)
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--unbatched", action="store_true")
    command.add_argument("--conf", type=float, default=0.05)
    options = parser.parse_args()
    if options.command == "canvases":
        write_canvases(options.out, options.mnist, options.count, options.seed)
    elif options.command == "training":
        write_training(options.out, options.mnist, options.seed)
    else:
        measure(options.folder, options.model, options.unbatched, options.conf)


if __name__ == "__main__":
    main()
