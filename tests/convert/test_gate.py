"""The gate: what counts as the same answer, what is refused, and what happens to files then."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from fixtures import paint, tiny_classifier, tiny_detector

import convert.target
from convert.gate import (
    Gate,
    Measurement,
    agreement,
    doubt,
    expected_drop,
    explained,
    measure,
    passed,
    picture_agreement,
    rank,
    refused,
    sound,
    verdict,
)
from convert.gate_data import Boxes, open_gate_data
from convert.loaded import LoadedModel, freeze
from convert.target import TARGETS
from convert.variants import Variants
from edge.detections import Detections
from edge.errors import GateError, InputError
from edge.result import Classification
from edge.spec import DecoderSpec, GateRecord, InputSpec, ModelSpec

SWAPPED = ("green", "red", "blue")
"""Labels that make a model call red things green."""


def boxes(*rows):
    """Each row is x1, y1, x2, y2, class; the score falls."""
    values = np.array(rows, np.float32).reshape(-1, 5)
    score = np.linspace(0.9, 0.5, len(values), dtype=np.float32)
    return Detections(values[:, :4], score, values[:, 4].astype(np.int32))


def measurement(answers, value=1.0, metric="agreement"):
    return Measurement(metric, value, "some", {}, None, tuple(answers))


@pytest.fixture
def coco(tmp_path):
    """A folder of two pictures and its annotations: a red and a blue cell, and a red one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cells = [[("red", 0, 0), ("blue", 2, 1)], [("red", 3, 2)]]
    rows = []
    for i, painted in enumerate(cells):
        cv2.imwrite(str(folder / f"{i}.png"), paint(painted))
        for name, column, row in painted:
            category = {"red": 1, "blue": 2}[name]
            rows.append({"image_id": i, "category_id": category, "bbox": [column * 32, row * 32, 32, 32]})
    file = tmp_path / "instances.json"
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(2)]
    file.write_text(json.dumps({"images": images, "categories": categories, "annotations": rows}))
    return folder, file


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (boxes(), boxes(), 1.0),
        (boxes((0, 0, 10, 10, 1)), boxes(), 0.0),
        (boxes((0, 0, 10, 10, 1)), boxes((0, 0, 10, 9, 1)), 1.0),
        (boxes((0, 0, 10, 10, 1)), boxes((0, 0, 10, 9, 2)), 0.0),
        (boxes((0, 0, 10, 10, 1)), boxes((0, 0, 10, 4.9, 1)), 0.0),
        # One of two boxes is found, once: a box matches only one other.
        (boxes((0, 0, 10, 10, 1), (50, 50, 60, 60, 1)), boxes((0, 0, 10, 10, 1), (0, 0, 10, 9, 1)), 0.5),
        # Each takes the nearest, not the first.
        (boxes((0, 0, 10, 10, 1), (0, 0, 10, 8, 1)), boxes((0, 0, 10, 8, 1), (0, 0, 10, 10, 1)), 1.0),
        (Classification((3, 1), (0.6, 0.4)), Classification((3, 2), (0.5, 0.5)), 1.0),
        (Classification((3,), (0.6,)), Classification((2,), (0.6,)), 0.0),
        (Classification((3,), (0.6,), (0, 0, 10, 10)), Classification((3,), (0.6,), (0, 0, 10, 8)), 1.0),
        (Classification((3,), (0.6,), (0, 0, 10, 10)), Classification((3,), (0.6,), (0, 0, 10, 4)), 0.0),
        (Classification((3,), (0.6,), (0, 0, 10, 10)), Classification((3,), (0.6,), None), 0.0),
    ],
)
def test_agreement_on_a_picture(one, other, same):
    assert picture_agreement(one, other) == same
    assert picture_agreement(other, one) == same


def test_agreement_counts_boxes_not_pictures():
    reference = measurement([boxes((0, 0, 9, 9, 0), (20, 0, 29, 9, 0), (40, 0, 49, 9, 0)), boxes((0, 0, 9, 9, 0))])
    candidate = measurement([boxes((0, 0, 9, 9, 0), (20, 0, 29, 9, 0)), boxes()])
    found = agreement(reference, candidate)
    assert found.value == pytest.approx(2 * 2 / (4 + 2))
    record = verdict(reference, found, 40)
    assert (record.metric, record.images, record.reference) == ("agreement", 2, 1.0)
    assert record.drop == pytest.approx(100 / 3, abs=1e-5)
    assert passed(record)
    assert not passed(record.model_copy(update={"max_drop": 33.0}))


def test_detector_is_measured_against_labels(coco, tmp_path):
    good = tiny_detector().save(tmp_path / "good.tflite")
    bad = tiny_detector(labels=SWAPPED).save(tmp_path / "bad.tflite")
    data = open_gate_data(*coco, tiny_detector().spec)
    assert isinstance(data.labels, Boxes)
    gate = Gate(good, data, 1.0)
    assert gate.reference.value == pytest.approx(1.0)
    assert set(gate.reference.metrics) == {"mAP50", "mAP50-95"}
    assert gate.reference.record("int8").dataset == "instances.json, 2 images, int8"
    measured, record = gate.judge(bad)
    # Nothing red is found any more; blue is.
    assert measured.value == pytest.approx(0.5)
    assert (record.metric, record.dataset, record.drop) == ("mAP50-95", "instances.json", pytest.approx(50))
    assert not passed(record)
    assert passed(gate.judge(good)[1])


def test_boxes_beside_the_float_ones_are_seen_where_the_labels_see_nothing(coco, tmp_path):
    good = tiny_detector().save(tmp_path / "good.tflite")
    gate = Gate(good, open_gate_data(*coco, tiny_detector().spec), 1.0)
    kept, record = gate.judge(good)
    assert (record.agreement, expected_drop(record)) == (1.0, 0.0)
    narrow = []
    for answer in kept.answers:
        xyxy = answer.xyxy.copy()
        xyxy[:, 2] -= 0.28 * (xyxy[:, 2] - xyxy[:, 0])
        narrow.append(Detections(xyxy, answer.score, answer.class_id))
    # An overlap of .72 meets five of the ten, .5 to .7.
    path = tmp_path / "narrow.tflite"
    gate._measured[path] = replace(kept, answers=tuple(narrow))
    _, record = gate.judge(path)
    assert (record.drop, record.agreement) == (0, pytest.approx(0.5))
    assert passed(record) and not sound(record)
    # What does not reach the model's own threshold is no box of it.
    weak = [Detections(a.xyxy, a.score * 0 + 0.01, a.class_id) for a in kept.answers]
    gate._measured[path] = replace(kept, answers=tuple(weak))
    assert gate.judge(path)[1].agreement == 0.0


def agreeing(record, agreement, **changes):
    return record.model_copy(update={"agreement": agreement, "agreement_low": agreement, **changes})


def test_few_pictures_make_an_agreement_doubtful(coco, tmp_path):
    good = tiny_detector().save(tmp_path / "good.tflite")
    gate = Gate(good, open_gate_data(*coco, tiny_detector().spec), 1.0)
    kept, _ = gate.judge(good)
    path, lows = tmp_path / "half.tflite", []
    for times in (1, 16):
        # Of three boxes in two pictures, or as many times these, one is lost, always in the second.
        answers = [kept.answers[0], kept.answers[1][:0]] * times
        gate.reference = replace(kept, answers=kept.answers * times)
        gate._measured[path] = replace(kept, answers=tuple(answers))
        _, record = gate.judge(path)
        assert record.agreement == pytest.approx(2 * 2 / 5)
        lows.append(record.agreement - record.agreement_low)
    # Residuals 4 - .8 * 4 and 0 - .8 * 1, of five boxes.
    assert lows == pytest.approx([1.645 * np.hypot(0.8, 0.8) / 5, 1.645 * np.hypot(0.8, 0.8) / 5 / 4])


def test_passing_is_luck_where_the_agreement_says_otherwise():
    record = GateRecord(metric="mAP50-95", dataset="d", images=50, reference=0.2, value=0.21, drop=-1, max_drop=1)
    record = agreeing(record, 0.7)
    assert expected_drop(record) == pytest.approx(1.8)
    assert passed(record) and not sound(record)
    better = agreeing(record, 0.8, drop=0.5)
    assert sound(better) and rank(better) > rank(record)
    refused = agreeing(record, 0.9, drop=1.1)
    assert rank(record) > rank(refused)
    assert not sound(better.model_copy(update={"max_drop": 0.7}))
    assert sound(agreeing(record, None))
    assert "by luck: agreement with float 0.700, for which up to 1.80 are usual, 1 allowed" in explained(record)
    assert explained(better).endswith("for which up to 0.80 are usual; enough")
    assert explained(refused) == "1.10 points lost, 1 allowed"
    assert "other pictures may lose more" in doubt(record, repaired=False)


def test_detector_without_labels_is_compared_with_float(coco, tmp_path):
    folder, _ = coco
    good = tiny_detector().save(tmp_path / "good.tflite")
    data = open_gate_data(folder, None, tiny_detector().spec)
    assert data.labels is None
    gate = Gate(good, data, 1.0)
    assert gate.judge(good)[1].drop == 0
    blank = tmp_path / "blank"
    blank.mkdir()
    cv2.imwrite(str(blank / "0.png"), paint([]))
    with pytest.raises(InputError, match="finds nothing in any of the 1 pictures"):
        Gate(good, open_gate_data(blank, None, tiny_detector().spec), 1.0)


def test_classifier_and_localizer(tmp_path):
    for split in ("train", "val"):
        for name in ("red", "green"):
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            cells = [(name, x, y) for x in range(4) for y in range(3)]
            cv2.imwrite(str(tmp_path / "tree" / split / name / "0.png"), paint(cells))
    spec = tiny_classifier().spec
    data = open_gate_data(tmp_path / "tree", None, spec)
    assert (data.name, data.count) == ("tree val", 2)
    found = measure(tiny_classifier().save(tmp_path / "good.tflite"), data)
    assert (found.metric, found.value) == ("top1", 1.0)
    assert measure(tiny_classifier(labels=SWAPPED).save(tmp_path / "bad.tflite"), data).value == 0.0
    plain = open_gate_data(tmp_path / "tree" / "val" / "red", None, spec)
    assert (plain.labels, plain.count) == (None, 1)

    images = [{"id": 0, "file_name": "0.png"}]
    rows = [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 64, 96]}]
    text = json.dumps({"images": images, "categories": [{"id": 1, "name": "red"}], "annotations": rows})
    (tmp_path / "one.json").write_text(text)
    for box, value in (((0, 0, 0.5, 1), 1.0), ((0.5, 0, 1, 1), 0.0)):
        tiny = tiny_classifier(box=box)
        data = open_gate_data(tmp_path / "tree" / "val" / "red", tmp_path / "one.json", tiny.spec)
        found = measure(tiny.save(tmp_path / "box.tflite"), data)
        assert (found.metric, found.value, found.metrics["top1"]) == ("located", value, 1.0)


def test_labels_that_the_float_model_never_meets_prove_nothing(coco, tmp_path):
    folder, file = coco
    dataset = json.loads(file.read_text())
    bad = tiny_detector(labels=("blue", "green", "red")).save(tmp_path / "bad.tflite")
    for rows, said in ((dataset["annotations"], "gets nothing right"), ([], "found none")):
        file.write_text(json.dumps(dataset | {"annotations": rows}))
        with pytest.raises(InputError, match=said):
            Gate(bad, open_gate_data(folder, file, tiny_detector().spec), 1.0)
    # Classes and stray pictures beside them: not taken for unlabelled ones.
    (folder / "red").mkdir()
    (folder / "0.png").rename(folder / "red" / "0.png")
    assert open_gate_data(folder, None, tiny_classifier().spec).labels is not None


def test_data_that_do_not_suit_say_what_to_give(coco, tmp_path):
    folder, file = coco
    with pytest.raises(InputError, match="is a classifier without boxes; give --data alone"):
        open_gate_data(folder, file, tiny_classifier().spec)
    with pytest.raises(InputError, match="no picture in it"):
        (tmp_path / "none").mkdir()
        open_gate_data(tmp_path / "none", None, tiny_detector().spec)
    with pytest.raises(InputError, match="expected the folder of the pictures"):
        open_gate_data(tmp_path / "nowhere", file, tiny_detector().spec)
    (tmp_path / "annotations").mkdir()
    file.rename(tmp_path / "annotations" / "instances_val.json")
    with pytest.raises(InputError, match="--data .*/val --annotations .*instances_val.json"):
        open_gate_data(tmp_path, None, tiny_detector().spec)


def test_refused_file_is_kept_aside(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"precious")
    record = GateRecord(metric="top1", dataset="some", images=10, reference=0.9, value=0.5, drop=40, max_drop=1)
    for content in (b"first", b"second"):
        error = refused(path, content, record, "try something else")
        assert isinstance(error, GateError)
        assert error.exit_code == 4
        assert (tmp_path / "model.tflite.rejected").read_bytes() == content
    assert path.read_bytes() == b"precious"
    for telling in ("top1 is 0.5000", "0.9000", "10 pictures", "40.00 points lost", "allows 1;", "try something else"):
        assert telling in str(error)
    assert "\n" not in str(error)


def scaled(factor):
    """A classifier that multiplies inside by `factor` and divides again."""
    kernel = np.random.default_rng(0).normal(size=(8, 8, 3, 2)).astype(np.float32)

    def run(image):
        inside = tf.nn.relu(tf.nn.conv2d(image * factor, kernel, 8, "VALID"))
        return [tf.reshape(inside, (1, 2)) / factor]

    spec = ModelSpec(
        name="scaled",
        task="classify",
        input=InputSpec(resize="stretch"),
        decoder=DecoderSpec(name="classifier", outputs={"scores": "scores"}, params={"activation": "softmax"}),
        labels=("a", "b"),
    )
    return LoadedModel(freeze(run, (1, 8, 8, 3)), ("scores",), spec)


@pytest.mark.parametrize(("factor", "mode"), [(2.0, "float16"), (1e5, "float32")])
def test_gpu_keeps_float32_where_float16_overflows(factor, mode, tmp_path):
    white = [np.full((8, 8, 3), 255, np.uint8)]
    choice = TARGETS["gpu"].choose(Variants(scaled(factor), None, tmp_path), white)
    assert choice.mode == mode
    assert "65504" in choice.reason


@pytest.mark.parametrize(("times", "mode"), [((2.0, 2.05), "weight-only"), ((2.0, 2.2), "float32")])
def test_cpu_takes_the_smaller_file_where_it_is_as_fast(times, mode, monkeypatch, tmp_path):
    monkeypatch.setattr(convert.target, "interleaved_ms", lambda files, images: np.tile(times, (9, 1)))
    choice = TARGETS["cpu"].choose(Variants(scaled(2.0), None, tmp_path), [np.zeros((8, 8, 3), np.uint8)])
    assert choice.mode == mode
    assert choice.ms == {"float32": times[0], "weight-only": times[1]}
    assert f"{times[1]:.2f} ms" in choice.reason


def test_cpu_target_runs_both(tmp_path):
    choice = TARGETS["cpu"].choose(Variants(scaled(2.0), None, tmp_path), [np.zeros((8, 8, 3), np.uint8)])
    assert min(choice.ms.values()) > 0


def test_edgetpu_is_int8(tmp_path):
    assert TARGETS["edgetpu"].choose(Variants(scaled(2.0), None, tmp_path), []).mode == "int8"
    assert TARGETS["edgetpu"].calibrated
