"""Files that people have run with no flag but the model, and see what is in a photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from edge.classifier import Classifier
from edge.detector import Detector
from edge.errors import BackendError, SpecError
from edge.spec.resolve import Overrides

YOLOV8N = "tflite/yolov8n_full_integer_quant_640_ultralytics8.2.23.tflite"
SSD = "tflite/ssd_mobilenet_v1_1_metadata_1.tflite"
MOBILENET = "tflite/mobilenet_v2_1.0_224_quant.tflite"


@pytest.mark.parametrize(
    ("model", "decoder", "labels", "least"),
    [(YOLOV8N, "yolov8", 80, 0.7), (SSD, "ssd_postprocess", 90, 0.7)],
)
def test_detectors_find_the_animal(
    model: str, decoder: str, labels: int, least: float, shared_data: Callable[[str], Path]
) -> None:
    detector = Detector.load(shared_data(model), threads=1)
    assert detector.spec.decoder.name == decoder and len(detector.spec.labels) == labels
    for name, box in (("cat", (50, 40, 365, 335)), ("bird", (35, 82, 470, 322))):
        found, _ = detector.detect(cv2.imread(str(shared_data(f"images/{name}.bmp"))))
        assert detector.spec.label(int(found.class_id[0])) == name and found.score[0] > least
        assert found.xyxy[0] == pytest.approx(box, abs=25)


@pytest.mark.parametrize("with_labels", [False, True])
def test_a_classifier_names_the_photos(with_labels: bool, shared_data: Callable[[str], Path]) -> None:
    flags = Overrides(labels=shared_data("tflite/imagenet_labels.txt")) if with_labels else None
    classifier = Classifier.load(shared_data(MOBILENET), flags, threads=1)
    assert len(classifier.spec.labels) == 1001
    for name, label in (("cat", "Egyptian cat"), ("bird", "chickadee"), ("grace_hopper", "military uniform")):
        found, _ = classifier.classify(cv2.imread(str(shared_data(f"images/{name}.bmp"))))
        assert classifier.spec.label(found.class_id[0]) == label
        assert 0.5 < found.score[0] <= 1


def test_labels_of_another_model_are_refused(shared_data: Callable[[str], Path]) -> None:
    coco = Overrides(labels=shared_data("tflite/coco_labels.txt"))
    with pytest.raises(SpecError, match="the model has 80 classes, the labels name 90"):
        Detector.load(shared_data(YOLOV8N), coco)
    with pytest.raises(SpecError, match="the model has 1001 classes, the labels name 90"):
        Classifier.load(shared_data(MOBILENET), coco)


def test_an_edge_tpu_model_asks_for_its_delegate(shared_data: Callable[[str], Path]) -> None:
    with pytest.raises(BackendError, match="--delegate edgetpu"):
        Classifier.load(shared_data("tflite/mobilenet_v1_0.25_128_quant_edgetpu.tflite"))
