"""Accuracy of a model on labelled pictures, measured with the runtime itself."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.classifier import Classifier
from edge.coco import canonical
from edge.detector import Detector
from edge.errors import InputError, MissingDependencyError
from edge.sources.images import IMAGE_SUFFIXES, read_image

log = logging.getLogger(__name__)

Progress = Callable[[Sequence[Path]], Iterable[Path]]
"""Wraps the list of pictures that is gone through, to show how far it is."""

EVALUATION_CONF = 0.001
EVALUATION_MAX_DET = 100
"""The score threshold and the boxes per picture that COCO results are made with by convention."""


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Accuracy on one class.

    Attributes:
        label: Name.
        boxes: Labelled boxes of it (crowds left out).
        map50: Average precision at IoU 0.5; NaN where it has no labelled box.
        map50_95: Mean over the IoU thresholds 0.5, 0.55 ... 0.95; likewise.
    """

    label: str
    boxes: int
    map50: float
    map50_95: float


@dataclass(frozen=True, slots=True)
class DetectionAccuracy:
    """Accuracy of a detector as pycocotools computes it.

    Attributes:
        images: Pictures that were measured.
        map50: Mean over classes of the average precision at IoU 0.5.
        map50_95: Mean over classes and IoU thresholds 0.5 ... 0.95.
        classes: Each class that the model and the annotations share.
        unknown: Annotated categories that the model has no label for -> boxes; they are NOT in the means.
    """

    images: int
    map50: float
    map50_95: float
    classes: tuple[ClassAccuracy, ...]
    unknown: dict[str, int]


@dataclass(frozen=True, slots=True)
class ClassificationAccuracy:
    """Accuracy of a classifier on a folder tree.

    Attributes:
        images: Pictures that were measured.
        top1: Share whose best class is right.
        top5: Share whose best five hold the right one.
        labels: Row and column names of `confusion`.
        confusion: int64 (n, n), [true, predicted] counts; the last column is for classes that no
            folder has.
    """

    images: int
    top1: float
    top5: float
    labels: tuple[str, ...]
    confusion: npt.NDArray[np.int64]


def evaluate_detector(
    detector: Detector, images: Path, annotations: Path, progress: Progress = lambda paths: paths
) -> DetectionAccuracy:
    """Measure a detector on COCO annotations.

    Make the detector with `conf=EVALUATION_CONF`, `max_det=EVALUATION_MAX_DET` and `multi_label=True` to get
    numbers that compare with published ones.

    Args:
        detector: The detector.
        images: Folder that the annotations' file names start from.
        annotations: COCO instances JSON.
        progress: Wraps the list of pictures.

    Raises:
        InputError: The annotations or a picture cannot be read, or no category is known to the model.
        MissingDependencyError: pycocotools is not installed.
    """
    coco = _load_coco(annotations)
    paths = _annotated_paths(coco, images)
    names = {canonical(category["name"]): category["id"] for category in coco.dataset["categories"]}
    category_of = {
        i: names[canonical(label)] for i, label in enumerate(detector.spec.labels) if canonical(label) in names
    }
    if not category_of:
        raise InputError(
            f"{annotations}: none of its categories ({_some(names)}) is a label of the model "
            f"({_some(detector.spec.labels) or 'it has none: pass --labels FILE'})"
        )
    rows: list[dict[str, Any]] = []
    for path in progress(list(paths)):
        detections, _ = detector.detect(read_image(path))
        for xyxy, score, class_id, _ in detections:
            if class_id in category_of:
                x1, y1, x2, y2 = (float(v) for v in xyxy)
                rows.append(
                    {
                        "image_id": paths[path],
                        "category_id": category_of[class_id],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "score": score,
                    }
                )
    precision, category_ids = _coco_precision(coco, rows, sorted(set(category_of.values())))
    counts = _box_counts(coco)
    label_of = {c["id"]: c["name"] for c in coco.dataset["categories"]}
    classes = tuple(
        ClassAccuracy(label_of[c], counts.get(c, 0), _mean(precision[0, :, k]), _mean(precision[:, :, k]))
        for k, c in enumerate(category_ids)
    )
    unknown = {label_of[c]: n for c, n in counts.items() if n and c not in set(category_ids)}
    return DetectionAccuracy(len(paths), _mean(precision[0]), _mean(precision), classes, unknown)


def _load_coco(annotations: Path) -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise MissingDependencyError(
            "measuring mAP needs pycocotools; install it with: pip install 'edge-pipeline[evaluate]'"
        ) from error
    try:
        dataset = json.loads(annotations.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{annotations}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{annotations}: expected COCO instances JSON ({error})") from error
    problem = _coco_problem(dataset)
    if problem:
        raise InputError(f"{annotations}: expected COCO instances JSON; {problem}")
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _coco_problem(dataset: Any) -> str | None:
    """Return what keeps a parsed file from being COCO instances, in words."""
    needed = {
        "images": ("id", "file_name"),
        "categories": ("id", "name"),
        "annotations": ("image_id", "category_id", "bbox"),
    }
    if not isinstance(dataset, dict):
        return f"found a {type(dataset).__name__} at the top"
    for section, keys in needed.items():
        rows = dataset.get(section)
        if not isinstance(rows, list):
            return f"found no list {section!r}"
        for number, row in enumerate(rows):
            missing = [key for key in keys if not isinstance(row, dict) or key not in row]
            if missing:
                return f"{section}[{number}] has no {', '.join(missing)}"
    if not dataset["images"]:
        return "it lists no image"
    for number, row in enumerate(dataset["annotations"]):
        # Converters often leave these out; COCO's own tools need them.
        row.setdefault("id", number + 1)
        row.setdefault("iscrowd", 0)
        box = row["bbox"]
        if not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)):
            return f"annotations[{number}].bbox is {box!r}, expected four numbers x, y, width, height"
        row.setdefault("area", box[2] * box[3])
    # An id of 0 means "unmatched" inside COCOeval: such a box would never count as found.
    if any(row["id"] == 0 for row in dataset["annotations"]):
        for row in dataset["annotations"]:
            row["id"] += 1
    return None


def _annotated_paths(coco: Any, images: Path) -> dict[Path, int]:
    if not images.is_dir():
        raise InputError(f"{images}: expected a folder of images")
    paths = {}
    for row in coco.dataset["images"]:
        path = images / row["file_name"]
        if not path.is_file():
            path = images / Path(row["file_name"]).name
        if not path.is_file():
            raise InputError(f"{images}: the annotations name {row['file_name']}, which is not there")
        paths[path] = row["id"]
    return paths


def _coco_precision(
    coco: Any, rows: list[dict[str, Any]], category_ids: list[int]
) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Return precision (10 IoU thresholds, 101 recalls, K classes), -1 where a class has no box, and the K ids."""
    from pycocotools.cocoeval import COCOeval

    if not rows:
        has_boxes = {c for c, n in _box_counts(coco).items() if n}
        empty = np.zeros((10, 101, len(category_ids)))
        empty[:, :, [k for k, c in enumerate(category_ids) if c not in has_boxes]] = -1
        return empty, category_ids
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(coco, coco.loadRes(rows), "bbox")
        run.params.catIds = category_ids
        run.evaluate()
        run.accumulate()
    # Axes: IoU, recall, class, area range (0 = all), boxes per picture (-1 = 100).
    precision: npt.NDArray[np.float64] = run.eval["precision"][:, :, :, 0, -1]
    return precision, list(run.params.catIds)


def _box_counts(coco: Any) -> dict[int, int]:
    counts: dict[int, int] = {}
    for row in coco.dataset["annotations"]:
        if not row["iscrowd"]:
            counts[row["category_id"]] = counts.get(row["category_id"], 0) + 1
    return counts


def _mean(precision: npt.NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f", ... {len(listed)} in all" if len(listed) > 5 else "")


def evaluate_classifier(
    classifier: Classifier, folder: Path, progress: Progress = lambda paths: paths
) -> ClassificationAccuracy:
    """Measure a classifier on a tree with one folder per class.

    Args:
        classifier: The classifier, made with `top` of at least 5 (fewer where it has fewer classes).
        folder: Its subfolders are named like labels, or by class number.
        progress: Wraps the list of pictures.

    Raises:
        InputError: The tree is empty, or a folder names no label.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder with one subfolder per class")
    labels = classifier.spec.labels
    number_of = {canonical(label): i for i, label in reversed(list(enumerate(labels)))}
    truth: dict[Path, int] = {}
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        class_id = number_of.get(canonical(sub.name), int(sub.name) if sub.name.isdecimal() else -1)
        pictures = sorted(p for p in sub.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if pictures and not 0 <= class_id < max(len(labels), class_id + (not labels)):
            raise InputError(f"{sub}: the folder's name is no label of the model ({_some(labels)})")
        truth.update(dict.fromkeys(pictures, class_id))
    if not truth:
        raise InputError(f"{folder}: expected pictures in one subfolder per class, found none")
    rows = sorted(set(truth.values()))
    place = {class_id: i for i, class_id in enumerate(rows)}
    confusion = np.zeros((len(rows), len(rows) + 1), np.int64)
    top1 = top5 = 0
    for path in progress(list(truth)):
        result, _ = classifier.classify(read_image(path))
        top1 += result.class_id[0] == truth[path]
        top5 += truth[path] in result.class_id[:5]
        confusion[place[truth[path]], place.get(result.class_id[0], len(rows))] += 1
    names = tuple(classifier.spec.label(class_id) for class_id in rows)
    return ClassificationAccuracy(len(truth), top1 / len(truth), top5 / len(truth), names, confusion)
