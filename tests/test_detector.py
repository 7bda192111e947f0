"""From a picture to boxes, through real models of every family and dtype."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures import (
    BROKEN_METADATA,
    BROKEN_TAILS,
    CELL,
    DTYPES,
    FAMILIES,
    broken,
    described,
    paint,
    tiny_classifier,
    tiny_detector,
)

from edge.classifier import Classifier
from edge.detector import Detector
from edge.errors import EdgeError, InputError, SpecError
from edge.geometry import iou_matrix

CELLS = [("red", 0, 0), ("green", 3, 2), ("blue", 1, 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_finds_painted_cells(tmp_path: Path, family: str, dtype: str) -> None:
    tiny = tiny_detector(family, dtype)
    detector = Detector.load(tiny.save(tmp_path / "m.tflite"), conf=0.5)
    detections, stage_ms = detector.detect(paint(CELLS))
    assert list(stage_ms) == ["preprocess", "invoke", "decode", "nms"]
    names = [detector.spec.label(int(c)) for c in detections.class_id]
    assert sorted(names) == sorted(name for name, _, _ in CELLS)
    assert np.all(np.diff(detections.score) <= 0)
    for name, column, row in CELLS:
        box = np.array([[column, row, column + 1, row + 1]], np.float32) * CELL
        found = detections[np.array([n == name for n in names])]
        assert iou_matrix(box, found.xyxy).max() > 0.9, (name, found.xyxy)
    assert len(detector.detect(paint([]))[0]) == 0


@pytest.mark.parametrize("scale", [0.5, 2, 3])
def test_boxes_are_in_pixels_of_the_picture(tmp_path: Path, scale: float) -> None:
    import cv2

    detector = Detector.load(tiny_detector().save(tmp_path / "m.tflite"), conf=0.5)
    picture = cv2.resize(paint([("green", 2, 1)]), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    detections, _ = detector.detect(picture)
    expected = np.array([[2, 1, 3, 2]], np.float32) * CELL * scale
    assert iou_matrix(expected, detections.xyxy).max() > 0.85


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(tmp_path: Path, threads: int) -> None:
    path = tiny_detector("yolo_anchors").save(tmp_path / "m.tflite")
    noise = np.random.default_rng(0).integers(0, 40, (96, 128, 3), np.uint8)
    picture = np.maximum(paint(CELLS), noise)
    one, _ = Detector.load(path, conf=0.01, threads=1).detect(picture)
    other, _ = Detector.load(path, conf=0.01, threads=threads).detect(picture)
    assert len(one) and np.array_equal(one.xyxy, other.xyxy) and np.array_equal(one.score, other.score)


def test_classes_max_det_and_agnostic(tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    picture = paint(CELLS)
    assert {int(c) for c in Detector.load(path, conf=0.5, classes=[1]).detect(picture)[0].class_id} == {1}
    assert len(Detector.load(path, conf=0.5, max_det=2).detect(picture)[0]) == 2
    assert len(Detector.load(path, conf=0.5, agnostic=True).detect(picture)[0]) == 3


@pytest.mark.parametrize("arguments", [{"conf": 1.5}, {"conf": -0.1}, {"iou": 2.0}, {"max_det": 0}])
def test_thresholds_out_of_range(tmp_path: Path, arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        Detector.load(tiny_detector().save(tmp_path / "m.tflite"), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [*BROKEN_TAILS, *BROKEN_METADATA, "wrong-size", "wrong-labels", "truncated"])
def test_broken_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(broken(kind))
    with pytest.raises(EdgeError) as caught:
        Detector.load(path)
    assert "\n" not in str(caught.value) and "m.tflite" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("softmax", [True, False])
def test_classifies(tmp_path: Path, dtype: str, softmax: bool) -> None:
    classifier = Classifier.load(tiny_classifier(dtype, softmax=softmax).save(tmp_path / "m.tflite"), top=2)
    picture = paint([("blue", c, r) for c in range(4) for r in range(3)])
    result, stage_ms = classifier.classify(picture)
    assert classifier.spec.label(result.class_id[0]) == "blue" and len(result.class_id) == 2
    assert 0.9 < result.score[0] <= 1 and result.score[0] >= result.score[1]
    assert list(stage_ms) == ["preprocess", "invoke", "decode"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("resize", "box"),
    [
        # Of a picture of 256 x 96 in an input of 128 x 96.
        ("stretch", (64, 24, 192, 48)),
        ("letterbox-center", (64, 0, 192, 48)),
        ("letterbox-topleft", (64, 48, 192, 96)),
        ("center-crop", (96, 24, 160, 48)),
    ],
)
def test_a_localisers_box_is_in_pixels_of_the_picture(
    tmp_path: Path, dtype: str, resize: str, box: tuple[int, ...]
) -> None:
    # Corners the wrong way round, as a regression may leave them.
    tiny = tiny_classifier(dtype, box=(0.75, 0.25, 0.25, 0.5))
    path = tmp_path / "m.tflite"
    path.write_bytes(described(tiny, input=tiny.spec.input.model_dump() | {"resize": resize}))
    classifier = Classifier.load(path)
    result, stage_ms = classifier.classify(paint([("blue", c, r) for c in range(8) for r in range(3)], (256, 96)))
    assert classifier.spec.label(result.class_id[0]) == "blue"
    assert result.box_xyxy == pytest.approx(box, abs=1.1)
    assert list(stage_ms) == ["preprocess", "invoke", "decode"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-1.0, 0.5, 2.0, 9.0), (0, 48, 128, 96)),
        ((0.0, -3e36, 0.5, 3e36), (0, 0, 64, 96)),
        ((0.0, -3e38, 0.5, 3e38), None),
        ((1.5, 0.0, 2.0, 1.0), None),
        ((0.3, 0.2, 0.3, 0.8), None),
        ((float("nan"), 0.0, 1.0, 1.0), None),
        ((0.0, 0.0, float("inf"), 1.0), None),
    ],
)
def test_a_box_is_clipped_and_one_that_is_none_is_left_out(
    tmp_path: Path, box: tuple[float, float, float, float], expected: tuple[int, ...] | None
) -> None:
    path = tiny_classifier(box=box).save(tmp_path / "m.tflite")
    result, _ = Classifier.load(path).classify(paint([]))
    assert result.box_xyxy == (None if expected is None else pytest.approx(expected, abs=0.1))
    assert len(result.class_id) == 3


def test_the_wrong_command_says_which_is_right(tmp_path: Path) -> None:
    detector = tiny_detector().save(tmp_path / "d.tflite")
    classifier = tiny_classifier().save(tmp_path / "c.tflite")
    with pytest.raises(SpecError, match="edge detect"):
        Classifier.load(detector)
    with pytest.raises(SpecError, match="edge classify, or .* edge detect --method sliding-window"):
        Detector.load(classifier)
    with pytest.raises(InputError, match="--top 0"):
        Classifier.load(classifier, top=0)


def test_outputs_that_do_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    tiny = tiny_detector()
    decoder = tiny.spec.decoder.model_dump() | {"outputs": {"box_8": "nowhere"}}
    path.write_bytes(described(tiny, decoder=decoder))
    with pytest.raises(SpecError, match="box_8 -> nowhere"):
        Detector.load(path)
