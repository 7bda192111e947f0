"""Accuracy of a model on labelled pictures, measured with the runtime itself."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.classifier import Classifier
from edge.coco import canonical
from edge.detections import Detections
from edge.detector import Detector
from edge.errors import InputError, MissingDependencyError
from edge.frame import Image
from edge.geometry import iou_matrix
from edge.labelled import LabelledPictures
from edge.labelled.coco import find_picture, load_instances
from edge.labelled.objects import LabelledObjects
from edge.result import Classification
from edge.sources.images import decode_image, read_image

log = logging.getLogger(__name__)

Progress = Callable[[Sequence[Any]], Iterable[Any]]
"""Wraps the list of pictures that is gone through, to show how far it is."""

Look = Callable[[str, Image, Detections, Detections, Detections], None]
"""Told of each picture of a detector's: its name, it, what was found and what is labelled."""

EVALUATION_CONF = 0.001
EVALUATION_MAX_DET = 100
"""The score threshold and the boxes per picture that COCO results are made with by convention."""

LOCATED_IOU = 0.5
"""The overlap from which a box counts as found, as in ImageNet's localisation task."""


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
    """Accuracy of a classifier.

    Attributes:
        images: Pictures that were measured.
        top1: Share whose best class is right.
        top5: Share whose best five hold the right one.
        labels: Row and column names of `confusion`.
        confusion: int64 (n, n + 1), [true, predicted] counts; the last column is for classes that the data do not have.
        ms: Stage -> median milliseconds per picture, and the median of their sum as "total".
    """

    images: int
    top1: float
    top5: float
    labels: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class ClassLocalization:
    """Accuracy of a localiser on one class, or on all of them.

    Attributes:
        label: Name.
        images: Pictures of it.
        top1: Share whose best class is right.
        mean_iou: Mean overlap of the box with the true one, whatever the class said; 0 where no box was given.
        located: Share whose best class is right and whose box overlaps the true one by `LOCATED_IOU` or more.
    """

    label: str
    images: int
    top1: float
    mean_iou: float
    located: float


@dataclass(frozen=True, slots=True)
class LocalizationAccuracy:
    """Accuracy of a localiser.

    Attributes:
        total: All pictures.
        classes: Each class of the data.
        ms: As in `ClassificationAccuracy`.
    """

    total: ClassLocalization
    classes: tuple[ClassLocalization, ...]
    ms: dict[str, float]


def evaluate_detector(
    detector: Detector,
    images: Path,
    annotations: Path,
    progress: Progress = lambda paths: paths,
    look: Look | None = None,
) -> DetectionAccuracy:
    """Measure a detector on COCO annotations.

    Make the detector with `conf=EVALUATION_CONF`, `max_det=EVALUATION_MAX_DET` and `multi_label=True` to get
    numbers that compare with published ones.

    Args:
        detector: The detector.
        images: Folder that the annotations' file names start from.
        annotations: COCO instances JSON.
        progress: Wraps the list of pictures.
        look: Told of each picture.

    Raises:
        InputError: The annotations or a picture cannot be read, or no category is known to the model.
        MissingDependencyError: pycocotools is not installed.
    """
    dataset = load_instances(annotations)
    if not images.is_dir():
        raise InputError(f"{images}: expected a folder of images")
    pictures = [(find_picture([images], row["file_name"]), row["id"]) for row in dataset["images"]]
    return _measure(detector, dataset, f"{annotations}", pictures, read_image, progress, look)


def evaluate_objects(
    detector: Detector,
    objects: LabelledObjects,
    progress: Progress = lambda pictures: pictures,
    look: Look | None = None,
) -> DetectionAccuracy:
    """Measure a detector on labelled objects of any form; see `evaluate_detector`.

    Raises:
        InputError: A picture cannot be read, or no category is known to the model.
        MissingDependencyError: pycocotools is not installed.
    """
    pictures = [(row["file_name"], row["id"]) for row in objects.dataset["images"]]
    with objects.reader() as read:

        def decoded(name: str) -> Image:
            return decode_image(read(name), f"{objects.path}: {name}")

        return _measure(detector, objects.dataset, f"{objects.path}", pictures, decoded, progress, look)


def _measure(
    detector: Detector,
    dataset: dict[str, Any],
    where: str,
    pictures: list[tuple[Any, int]],
    read: Callable[[Any], Image],
    progress: Progress,
    look: Look | None,
) -> DetectionAccuracy:
    """Measure on COCO instances; `pictures` are what `read` takes, and their ids."""
    coco = _index(dataset)
    names = {canonical(category["name"]): category["id"] for category in coco.dataset["categories"]}
    category_of = {
        i: names[canonical(label)] for i, label in enumerate(detector.spec.labels) if canonical(label) in names
    }
    if not category_of:
        raise InputError(
            f"{where}: none of its categories ({_some(names)}) is a label of the model "
            f"({_some(detector.spec.labels) or 'it has none: pass --labels FILE'})"
        )
    if not any(_box_counts(coco).values()):
        raise InputError(f"{where}: expected labelled boxes, found none")
    rows: list[dict[str, Any]] = []
    for source, image_id in progress(pictures):
        image = read(source)
        detections, _ = detector.detect(image)
        if look is not None:
            known = detections[np.isin(detections.class_id, list(category_of))]
            labelled, crowds = (_labelled(coco, image_id, category_of, crowd) for crowd in (False, True))
            look(Path(str(source)).name, image, known, labelled, crowds)
        for xyxy, score, class_id, _ in detections:
            if class_id in category_of:
                x1, y1, x2, y2 = (float(v) for v in xyxy)
                rows.append(
                    {
                        "image_id": image_id,
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
    return DetectionAccuracy(len(pictures), _mean(precision[0]), _mean(precision), classes, unknown)


def _labelled(coco: Any, image_id: int, category_of: dict[int, int], crowd: bool) -> Detections:
    """Return the labelled boxes of a picture, of the classes that the model has: its crowds, or all others."""
    class_of = {category: class_id for class_id, category in reversed(category_of.items())}
    rows = [row for row in coco.imgToAnns[image_id] if bool(row["iscrowd"]) == crowd and row["category_id"] in class_of]
    boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    class_id = np.array([class_of[row["category_id"]] for row in rows], np.int32)
    return Detections(boxes, np.ones(len(rows), np.float32), class_id)


def _index(dataset: dict[str, Any]) -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise MissingDependencyError(
            "measuring mAP needs pycocotools; install it with: pip install 'edge-pipeline[evaluate]'"
        ) from error
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


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
    classifier: Classifier, pictures: LabelledPictures, progress: Progress = lambda indices: indices
) -> ClassificationAccuracy:
    """Measure a classifier.

    Args:
        classifier: The classifier, made with `top` of at least 5 (fewer where it has fewer classes).
        pictures: The data; classes are named like the model's labels, or by number.
        progress: Wraps the list of picture indices.

    Raises:
        InputError: A picture is broken, or a class of the data is no label of the model.
    """
    truth = _true_classes(classifier, pictures)
    rows = sorted(set(truth))
    place = {class_id: i for i, class_id in enumerate(rows)}
    confusion = np.zeros((len(rows), len(rows) + 1), np.int64)
    top1 = top5 = 0
    stages: _Stages = defaultdict(list)
    for i, result in _classified(classifier, pictures, progress, stages):
        top1 += result.class_id[0] == truth[i]
        top5 += truth[i] in result.class_id[:5]
        confusion[place[truth[i]], place.get(result.class_id[0], len(rows))] += 1
    names = tuple(classifier.spec.label(class_id) for class_id in rows)
    n = len(pictures)
    return ClassificationAccuracy(n, top1 / n, top5 / n, names, confusion, _medians(stages))


def evaluate_localizer(
    classifier: Classifier, pictures: LabelledPictures, progress: Progress = lambda indices: indices
) -> LocalizationAccuracy:
    """Measure a localiser on pictures with one box each.

    Args:
        classifier: A classifier whose results have boxes.
        pictures: The data, with boxes; classes are named like the model's labels, or by number.
        progress: Wraps the list of picture indices.

    Raises:
        InputError: The data have no boxes, a picture is broken, or a class of the data is no label of the model.
    """
    if pictures.boxes_xyxy is None:
        raise InputError("measuring a localiser needs boxes; expected a folder with COCO annotations")
    truth = np.array(_true_classes(classifier, pictures))
    right = np.zeros(len(pictures), bool)
    iou = np.zeros(len(pictures), np.float32)
    stages: _Stages = defaultdict(list)
    for i, result in _classified(classifier, pictures, progress, stages):
        right[i] = result.class_id[0] == truth[i]
        if result.box_xyxy is not None:
            iou[i] = iou_matrix(np.array([result.box_xyxy], np.float32), pictures.boxes_xyxy[i : i + 1])[0, 0]

    def of(label: str, chosen: npt.NDArray[np.bool_]) -> ClassLocalization:
        located = right[chosen] & (iou[chosen] >= LOCATED_IOU)
        return ClassLocalization(
            label, int(chosen.sum()), float(right[chosen].mean()), float(iou[chosen].mean()), float(located.mean())
        )

    classes = tuple(of(classifier.spec.label(int(c)), truth == c) for c in np.unique(truth))
    return LocalizationAccuracy(of("all", np.ones(len(truth), bool)), classes, _medians(stages))


_Stages = defaultdict[str, list[float]]


def _classified(
    classifier: Classifier, pictures: LabelledPictures, progress: Progress, stages: _Stages
) -> Iterator[tuple[int, Classification]]:
    """Yield the answer for each picture, and note the milliseconds of its stages."""
    for i in progress(range(len(pictures))):
        result, stage_ms = classifier.classify(pictures.read(i))
        for name, ms in stage_ms.items():
            stages[name].append(ms)
        yield i, result


def _medians(stages: _Stages) -> dict[str, float]:
    total = np.sum(list(stages.values()), axis=0)
    return {name: float(np.median(values)) for name, values in {**stages, "total": total}.items()}


def _true_classes(classifier: Classifier, pictures: LabelledPictures) -> list[int]:
    """Return the model's class index of each picture."""
    labels = classifier.spec.labels
    number_of = {canonical(label): i for i, label in reversed(list(enumerate(labels)))}
    class_of = {}
    for i in sorted(set(pictures.class_id.tolist())):
        name = pictures.names[i]
        number = int(name) if name.isdecimal() and len(name) < 10 else -1
        class_id = number_of.get(canonical(name), number)
        if not 0 <= class_id < max(len(labels), class_id + (not labels)):
            known = _some(labels) or "it has none: pass --labels FILE"
            raise InputError(f"class {name!r} of the data is no label of the model ({known})")
        class_of[i] = class_id
    return [class_of[i] for i in pictures.class_id.tolist()]
