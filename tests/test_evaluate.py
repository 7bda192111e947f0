"""The numbers of `edge evaluate`, against cases whose answer is known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge.detections import Detections
from edge.errors import InputError, MissingDependencyError
from edge.evaluate import evaluate_classifier, evaluate_detector, evaluate_objects
from edge.labelled import open_labelled
from edge.labelled.objects import open_objects
from edge.result import Classification

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 4, "name": "motorcycle"}, {"id": 9, "name": "boat"}]


def fake_detector(labels: tuple[str, ...], rows: dict[int, list[tuple[list[float], float, int]]]) -> Any:
    """A detector that answers by the picture's grey value."""

    def detect(image: np.ndarray) -> tuple[Detections, dict[str, float]]:
        found = rows.get(int(image[0, 0, 0]), [])
        if not found:
            return Detections.empty(), {}
        xyxy, score, class_id = zip(*found, strict=True)
        return Detections(np.array(xyxy, np.float32), np.array(score, np.float32), np.array(class_id, np.int32)), {}

    return SimpleNamespace(detect=detect, spec=SimpleNamespace(labels=labels))


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures: one person and one motorcycle in the first, one person and a boat in the second."""
    for grey in (10, 20):
        cv2.imwrite(str(tmp_path / f"{grey}.png"), np.full((100, 100, 3), grey, np.uint8))
    annotations = {
        "images": [{"id": g, "file_name": f"val/{g}.png", "width": 100, "height": 100} for g in (10, 20)],
        "categories": CATEGORIES,
        "annotations": [
            {"image_id": 10, "category_id": 1, "bbox": [0, 0, 50, 50]},
            {"image_id": 10, "category_id": 4, "bbox": [50, 50, 40, 40]},
            {"image_id": 20, "category_id": 1, "bbox": [20, 20, 60, 60]},
            {"image_id": 20, "category_id": 9, "bbox": [0, 0, 10, 10]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    return tmp_path, tmp_path / "a.json"


def test_perfect_boxes_give_one(data: tuple[Path, Path]) -> None:
    labels = ("motorbike", "person", "boat")  # Darknet's name for motorcycle, another order
    rows = {
        10: [([0, 0, 50, 50], 0.9, 1), ([50, 50, 90, 90], 0.8, 0)],
        20: [([20, 20, 80, 80], 0.7, 1), ([0, 0, 10, 10], 0.6, 2)],
    }
    report = evaluate_detector(fake_detector(labels, rows), *data)
    assert report.images == 2
    assert report.map50 == pytest.approx(1) and report.map50_95 == pytest.approx(1)
    assert [(c.label, c.boxes) for c in report.classes] == [("person", 2), ("motorcycle", 1), ("boat", 1)]
    assert report.unknown == {}


def test_a_shifted_box_counts_at_low_overlap_only(data: tuple[Path, Path]) -> None:
    # The person of picture 20 is found with an overlap of 60 * 45 / (2 * 3600 - 2700) = 0.6.
    rows = {10: [([0, 0, 50, 50], 0.9, 0)], 20: [([20, 35, 80, 95], 0.7, 0)]}
    report = evaluate_detector(fake_detector(("person",), rows), *data)
    (person,) = report.classes
    assert person.map50 == pytest.approx(1)
    # Both found at thresholds .5, .55 and .6 (the overlap equals it); one of two at the other seven: AP 51/101.
    assert person.map50_95 == pytest.approx((3 + 7 * 51 / 101) / 10, abs=1e-6)
    assert report.unknown == {"motorcycle": 1, "boat": 1}


def test_nothing_found_is_zero_not_an_error(data: tuple[Path, Path]) -> None:
    report = evaluate_detector(fake_detector(("person", "cat"), {}), *data)
    assert report.map50 == 0 and report.map50_95 == 0 and report.classes[0].boxes == 2


def test_labels_without_a_common_name(data: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="none of its categories"):
        evaluate_detector(fake_detector(("zebra",), {}), *data)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "expected COCO instances JSON"),
        ("[]", "found a list at the top"),
        ('{"images": [], "categories": [], "annotations": []}', "lists no image"),
        ('{"images": [{"id": 1}], "categories": [], "annotations": []}', r"images\[0\] has no file_name"),
        (
            '{"images": [{"id": 1, "file_name": "x"}], "categories": [], '
            '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2]}]}',
            r"annotations\[0\].bbox",
        ),
    ],
)
def test_broken_annotations(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        evaluate_detector(fake_detector(("person",), {}), tmp_path, file)


def test_missing_picture_and_missing_file(data: tuple[Path, Path], tmp_path: Path) -> None:
    folder, annotations = data
    (folder / "20.png").unlink()
    with pytest.raises(InputError, match=r"name val/20\.png"):
        evaluate_detector(fake_detector(("person",), {}), folder, annotations)
    with pytest.raises(InputError, match="cannot be read"):
        evaluate_detector(fake_detector(("person",), {}), folder, tmp_path / "none.json")


def test_a_yolo_set_gives_what_the_same_boxes_in_coco_give(data: tuple[Path, Path], tmp_path: Path) -> None:
    rows = {
        10: [([0, 0, 50, 50], 0.9, 0), ([52, 50, 92, 90], 0.8, 1)],
        20: [([20, 20, 80, 70], 0.7, 0), ([30, 30, 40, 40], 0.75, 0)],
    }
    lines = {10: "0 .25 .25 .5 .5\n1 .7 .7 .4 .4", 20: "0 .5 .5 .6 .6\n2 .05 .05 .1 .1"}
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo" / "data.yaml").write_text("test: .\nnames: [person, motorcycle, boat]")
    for grey, text in lines.items():
        (tmp_path / "yolo" / f"{grey}.txt").write_text(text)
        (tmp_path / "yolo" / f"{grey}.png").write_bytes((tmp_path / f"{grey}.png").read_bytes())
    detector = fake_detector(("person", "motorcycle"), rows)
    expected = evaluate_detector(detector, *data)
    report = evaluate_objects(detector, open_objects(tmp_path / "yolo", "test"))
    assert report == expected and 0 < report.map50_95 < 1 and report.unknown == {"boat": 1}


def test_without_pycocotools(data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(MissingDependencyError, match="evaluate"):
        evaluate_detector(fake_detector(("person",), {}), *data)


def fake_classifier(labels: tuple[str, ...]) -> Any:
    def classify(image: np.ndarray) -> tuple[Classification, dict[str, float]]:
        best = int(image[0, 0, 0])
        order = [best] + [i for i in range(len(labels)) if i != best]
        return Classification(tuple(order[:5]), (0.9,) * 5), {"preprocess": 1.0 + best, "invoke": 8.0 - best}

    spec = SimpleNamespace(labels=labels, label=lambda i: labels[i])
    return SimpleNamespace(classify=classify, spec=spec)


def test_top1_top5_and_confusion(tmp_path: Path) -> None:
    labels = tuple("abcdefgh")
    for folder, greys in {"a": [0, 0, 1], "b": [1, 7], "h": [0]}.items():
        (tmp_path / folder).mkdir()
        for i, grey in enumerate(greys):
            cv2.imwrite(str(tmp_path / folder / f"{i}.png"), np.full((4, 4, 3), grey, np.uint8))
    (tmp_path / "notes").mkdir()  # a folder without pictures is no class
    report = evaluate_classifier(fake_classifier(labels), open_labelled(tmp_path))
    assert report.images == 6 and report.top1 == pytest.approx(3 / 6)
    assert report.top5 == pytest.approx(5 / 6)  # "h" is not among the first five of grey 0
    assert report.labels == ("a", "b", "h")
    # Grey values 0 0 1 1 7 0: the medians of each stage, and of a sum that is always 9.
    assert report.ms == {"preprocess": 1.5, "invoke": 7.5, "total": 9.0}
    assert report.confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0]]


def test_a_folder_that_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "zebra").mkdir()
    cv2.imwrite(str(tmp_path / "zebra" / "0.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="no label of the model"):
        evaluate_classifier(fake_classifier(("a",)), open_labelled(tmp_path))
    with pytest.raises(InputError, match="found none"):
        open_labelled(tmp_path / "zebra")


def test_classes_go_by_name_or_by_number(tmp_path: Path) -> None:
    for folder, grey in {"0": 0, "motorbike": 1, "Traffic_Light": 2}.items():
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "0.png"), np.full((4, 4, 3), grey, np.uint8))
    data = open_labelled(tmp_path)
    report = evaluate_classifier(fake_classifier(("person", "motorcycle", "traffic light")), data)
    assert report.top1 == 1 and report.labels == ("person", "motorcycle", "traffic light")
    with pytest.raises(
        InputError, match="'motorbike' of the data is no label of the model .it has none: pass --labels"
    ):
        evaluate_classifier(fake_classifier(()), data)
    (tmp_path / "0").rename(tmp_path / "3")
    with pytest.raises(InputError, match="class '3' of the data is no label"):
        evaluate_classifier(fake_classifier(("person", "motorcycle", "traffic light")), open_labelled(tmp_path))
