"""The gate: a converted model is measured against the float model, with the runtime itself, before it gets its name.

With labels the measure is mAP50-95 (detector), top-1 (classifier) or the share located (localiser). Without labels only
the agreement with the float model's own answers is left, which is weaker: it says how much changed, not whether that
was right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.gate_data import LOCALIZER, Boxes, GateData
from convert.writer import write_model
from edge.classifier import Classifier
from edge.detections import Detections
from edge.detector import Detector, Limits
from edge.errors import GateError, InputError
from edge.evaluate import (
    EVALUATION_CONF,
    EVALUATION_MAX_DET,
    LOCATED_IOU,
    ClassificationAccuracy,
    DetectionAccuracy,
    LocalizationAccuracy,
    evaluate_classifier,
    evaluate_detector,
    evaluate_localizer,
)
from edge.frame import Image
from edge.geometry import iou_matrix
from edge.loader import LoadedModel, load_model
from edge.result import Classification
from edge.spec import Accuracy, GateRecord

AGREEMENT = "agreement"
MATCH_IOU = 0.5
"""Overlap from which two models' boxes of one class count as the same object."""

AGREEMENT_IOUS = tuple(i / 100 for i in range(50, 100, 5))
"""Overlaps, those of mAP50-95, over which the agreement of a detector with the float model is averaged."""

CONFIDENCE = 1.645
"""Standard errors below which 19 of 20 values of a normal distribution do not fall."""

REJECTED_SUFFIX = ".rejected"

Answer = Detections | Classification


@dataclass(frozen=True)
class Measurement:
    """What a model does on the pictures.

    Attributes:
        metric: The one that is judged, see `edge.spec.GateRecord`.
        value: Of that metric, 0..1.
        dataset: Name of the pictures.
        metrics: Every metric, 0..1.
        detail: The whole report of `edge.evaluate`; None without labels.
        answers: What the model said to each picture, in order; with labels a detector's boxes down to the score, and up
            to the number, that COCO results are made with.
        conf: Score threshold of the model itself; 0 where it has none, and where the answers are above it anyway.
    """

    metric: str
    value: float
    dataset: str
    metrics: dict[str, float]
    detail: DetectionAccuracy | ClassificationAccuracy | LocalizationAccuracy | None
    answers: tuple[Answer, ...]
    conf: float = 0.0

    @property
    def images(self) -> int:
        """Pictures that were measured."""
        return len(self.answers)

    def record(self, mode: str) -> Accuracy:
        """Return it as a model file states it."""
        return Accuracy(dataset=f"{self.dataset}, {self.images} images, {mode}", metrics=self.metrics)


class Gate:
    """Judges candidates for one model on the same pictures."""

    def __init__(self, reference: Path, data: GateData, max_drop: float) -> None:
        """Measure the float model.

        Args:
            reference: The float model's file.
            data: The pictures.
            max_drop: Points, of 100, that a candidate may lose.

        Raises:
            InputError: The pictures are broken or say nothing about this model.
            EdgeError: The model does not run.
        """
        self.data = data
        self.max_drop = max_drop
        self.reference = measure(reference, data)
        self._measured = {reference: self.reference}
        if data.labels is None and not any(map(_says_something, self.reference.answers)):
            raise InputError(
                f"--data {data.name}: the float model finds nothing in any of the {data.count} pictures, so there is "
                "nothing to compare; give pictures that show its objects"
            )
        if not self.reference.value > 0:  # NaN where no labelled box is of a class that the model knows
            raise InputError(
                f"--data {data.name}: the float model gets nothing right ({self.reference.metric} is 0), so there is "
                "nothing to lose; check that labels, --input-range and --color are those that it was trained with"
            )

    def judge(self, candidate: Path) -> tuple[Measurement, GateRecord]:
        """Measure a candidate, once, and compare it with the float model.

        Raises:
            EdgeError: It does not run.
        """
        if candidate not in self._measured:
            self._measured[candidate] = measure(candidate, self.data)
        measured = self._measured[candidate]
        if self.data.labels is None:
            measured = agreement(self.reference, measured)
        record = verdict(self.reference, measured, self.max_drop)
        if isinstance(self.data.labels, Boxes):
            agreed, low = self._agreement(measured)
            record = record.model_copy(update={"agreement": agreed, "agreement_low": low})
        return measured, record

    def _agreement(self, measured: Measurement) -> tuple[float, float]:
        """Return the mean F1 over `AGREEMENT_IOUS` of boxes that reach the model's own score threshold.

        Of the pictures' labels a repair may meet a few more or a few less by chance; of the float model's boxes it can
        only lose. So this tells two models apart on pictures that are too few for their accuracies.

        Returns:
            The agreement, and the lower end of its one-sided confidence interval over the pictures.
        """
        pairs = [
            [_scored(answer, self.reference.conf) for answer in answers]
            for answers in zip(self.reference.answers, measured.answers, strict=True)
        ]
        counts = np.array([[_box_counts(one, other, iou) for one, other in pairs] for iou in AGREEMENT_IOUS])
        twice, boxes = 2 * counts[..., 0].mean(axis=0), counts[0, :, 1]
        if not boxes.any():
            return 1.0, 1.0
        value = twice.sum() / boxes.sum()
        # The standard error of a ratio of two sums.
        error = np.sqrt(np.square(twice - value * boxes).sum()) / boxes.sum()
        return float(value), float(value - CONFIDENCE * error)


def measure(path: Path, data: GateData) -> Measurement:
    """Run a model on all pictures.

    Args:
        path: A described `.tflite`.
        data: The pictures.

    Returns:
        Its accuracy; without labels an agreement of 1, that with itself.

    Raises:
        InputError: A picture is broken, or its labels are not those of the model.
        EdgeError: The model does not run.
    """
    model = load_model(path)
    try:
        return _measure(model, data)
    finally:
        model.backend.close()


def _measure(model: LoadedModel, data: GateData) -> Measurement:
    if data.labels is None:
        detects = model.spec.task == "detect"
        runner = _RecordingDetector(model) if detects else _RecordingClassifier(model, top=1)
        for i in range(data.count):
            runner.run(data.read(i))
        return Measurement(AGREEMENT, 1.0, data.name, {}, None, tuple(runner.answers))
    if isinstance(data.labels, Boxes):
        detector = _RecordingDetector(model, EVALUATION_CONF, None, EVALUATION_MAX_DET, multi_label=True)
        found = evaluate_detector(detector, data.labels.images, data.labels.annotations)
        metrics = {"mAP50": found.map50, "mAP50-95": found.map50_95}
        answers = tuple(detector.answers)
        return Measurement("mAP50-95", found.map50_95, data.name, metrics, found, answers, model.spec.conf)
    classifier = _RecordingClassifier(model, top=5)
    if model.spec.decoder.name == LOCALIZER:
        boxes = evaluate_localizer(classifier, data.labels)
        total = boxes.total
        metrics = {"located": total.located, "top1": total.top1, "mean_iou": total.mean_iou}
        return Measurement("located", total.located, data.name, metrics, boxes, tuple(classifier.answers))
    classes = evaluate_classifier(classifier, data.labels)
    metrics = {"top1": classes.top1, "top5": classes.top5}
    return Measurement("top1", classes.top1, data.name, metrics, classes, tuple(classifier.answers))


def agreement(reference: Measurement, candidate: Measurement) -> Measurement:
    """Return the candidate's measurement with its agreement with the reference as the value.

    For boxes this is F1, `2 * matched / (boxes of one + boxes of the other)` over all pictures, at the model's own
    score threshold: two boxes match when class and place (IoU of `MATCH_IOU` or more) are the same. For classes it is
    the share of pictures with the same best class (and, of a localiser, a box in the same place).
    """
    pairs = list(zip(reference.answers, candidate.answers, strict=True))
    if any(isinstance(one, Detections) for one, _ in pairs):
        counts = np.sum([_box_counts(one, other) for one, other in pairs], axis=0)
        value = 2 * counts[0] / counts[1]
    else:
        value = np.mean([picture_agreement(one, other) for one, other in pairs])
    return replace(candidate, value=float(value), metrics={AGREEMENT: float(value)})


def picture_agreement(one: Answer, other: Answer) -> float:
    """Return how far two answers to one picture agree, 0..1; two answers without any box agree."""
    if isinstance(one, Detections) or isinstance(other, Detections):
        matched, boxes = _box_counts(one, other)
        return 2 * matched / boxes if boxes else 1.0
    same_place = True
    if one.box_xyxy is not None or other.box_xyxy is not None:
        boxes_xyxy = [np.array([a.box_xyxy or (0, 0, 0, 0)], np.float32) for a in (one, other)]
        same_place = bool(iou_matrix(*boxes_xyxy)[0, 0] >= LOCATED_IOU)
    return float(one.class_id[:1] == other.class_id[:1] and same_place)


def verdict(reference: Measurement, candidate: Measurement, max_drop: float) -> GateRecord:
    """Put both measurements beside the limit."""
    return GateRecord(
        metric=candidate.metric,
        dataset=candidate.dataset,
        images=candidate.images,
        reference=reference.value,
        value=candidate.value,
        drop=round(100 * (reference.value - candidate.value), 6),
        max_drop=max_drop,
    )


def passed(record: GateRecord) -> bool:
    """Whether no more was lost than allowed."""
    return record.drop <= record.max_drop


def expected_drop(record: GateRecord) -> float:
    """Return the points that a model with this agreement, at its least, loses; 0 where no agreement was measured.

    The share of its accuracy that a detector lost was about (1 - agreement)^2 in all but one of the cases that
    docs/quantisation.md lists.
    """
    return 0.0 if record.agreement_low is None else 100 * record.reference * (1 - record.agreement_low) ** 2


def sound(record: GateRecord) -> bool:
    """Whether boxes agree with float so well that passing is not luck: no more is to be expected than is allowed."""
    return expected_drop(record) <= record.max_drop


def rank(record: GateRecord) -> tuple[float, float]:
    """Return what is larger of the better of two models: passing, then agreement where both pass, else accuracy."""
    if passed(record):
        return 1.0, -record.drop if record.agreement is None else record.agreement
    return 0.0, -record.drop


def explained(record: GateRecord) -> str:
    """Say why a repair is enough, or why the next one is tried."""
    if not passed(record):
        return f"{record.drop:.2f} points lost, {record.max_drop:g} allowed"
    agreed = ""
    if record.agreement is not None:
        agreed = f"agreement with float {record.agreement:.3f}, for which up to {expected_drop(record):.2f} are usual"
    if not sound(record):
        return f"{record.drop:.2f} points lost, by luck: {agreed}, {record.max_drop:g} allowed"
    return "; ".join(filter(None, (f"{record.drop:.2f} points lost, {record.max_drop:g} allowed", agreed))) + "; enough"


def doubt(record: GateRecord, repaired: bool) -> str:
    """Say what is to be expected of a model that passes without being `sound`, and what may help."""
    more = "hundreds of pictures in --calibrate rather than dozens"
    advice = (
        f"{more}, and more --rescue-minutes, help" if repaired else f"--rescue auto mends an int8, better with {more}"
    )
    return (
        f"agreement with the float model's boxes is {record.agreement:.3f}, for which a loss of up to "
        f"{expected_drop(record):.2f} points is usual, more than the {record.max_drop:g} allowed: other pictures may "
        f"lose more than these; {advice}"
    )


def refused(path: Path, content: bytes, record: GateRecord, advice: str) -> GateError:
    """Keep a refused file aside and return the error that says so; whatever lies at `path` stays as it is.

    Args:
        path: The name that it would have got.
        content: The file.
        record: Why it is refused.
        advice: What could be tried instead.

    Raises:
        OutputError: It cannot be written.
    """
    aside = path.with_name(path.name + REJECTED_SUFFIX)
    write_model(aside, content, True, lambda _: None)
    return GateError(
        f"{path} refused: {record.metric} is {record.value:.4f}, in float {record.reference:.4f} ({record.dataset}, "
        f"{record.images} pictures): {record.drop:.2f} points lost, --max-drop allows {record.max_drop:g}; kept as "
        f"{aside}; {advice}, or accept it with a larger --max-drop"
    )


def _says_something(answer: Answer) -> bool:
    return not isinstance(answer, Detections) or len(answer) > 0


def _scored(answer: Any, conf: float) -> Detections:
    """Return the boxes that reach a score."""
    chosen = answer.score >= conf
    return Detections(answer.xyxy[chosen], answer.score[chosen], answer.class_id[chosen])


def _box_counts(one: Any, other: Any, iou: float = MATCH_IOU) -> tuple[int, int]:
    """Return the pairs of boxes that overlap by `iou`, and the boxes of both together."""
    overlap = iou_matrix(one.xyxy, other.xyxy) * (one.class_id[:, None] == other.class_id[None])
    matched = 0
    for row in range(len(one) if len(other) else 0):  # best score first
        nearest = int(overlap[row].argmax())
        if overlap[row, nearest] >= iou:
            matched += 1
            overlap[:, nearest] = 0
    return matched, len(one) + len(other)


class _RecordingDetector(Detector):
    """A detector that remembers what it found, in order."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.answers: list[Detections] = []

    def detect(self, image: Image, limits: Limits | None = None) -> tuple[Detections, dict[str, float]]:
        found, ms = super().detect(image, limits)
        self.answers.append(found)
        return found, ms

    run = detect


class _RecordingClassifier(Classifier):
    """A classifier that remembers what it said, in order."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.answers: list[Classification] = []

    def classify(self, image: Image) -> tuple[Classification, dict[str, float]]:
        found, ms = super().classify(image)
        self.answers.append(found)
        return found, ms

    run = classify
