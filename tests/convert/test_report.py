"""The report: numbers that agree with COCO's, charts that can be read, and a page that needs nothing else."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fixtures import paint, tiny_classifier, tiny_detector

from convert.gate import Gate
from convert.gate_data import Boxes, GateData, open_gate_data
from convert.quant_error import TensorError
from convert.report.charts import Point, lines, scatter, ticks
from convert.report.compare import compare_classes, compare_mistakes
from convert.report.curves import precision_at_recalls
from convert.report.data import ClassPair, Confused, Curves, Picture, ReportData, Variant
from convert.report.examples import examples
from convert.report.page import render
from convert.rescue import Trial
from edge.detections import Detections
from edge.evaluate import evaluate_detector
from edge.spec import Accuracy, ConversionRecord, GateRecord

_VOID = {"meta", "img", "br", "circle", "line", "polyline"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps what a test asks for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def report(**changes):
    gate = GateRecord(metric="mAP50-95", dataset="some", images=9, reference=0.5, value=0.4, drop=10, max_drop=1)
    metrics = {"mAP50-95": 0.5, "mAP50": 0.7}
    worse = {"mAP50-95": 0.4, "mAP50": 0.6}
    picture = Picture(b"\xff\xd8\xff", "image/jpeg", 480, ("float32: 1 box",))
    spec = tiny_detector().spec.model_copy(
        update={
            "name": "<b>net</b>",
            "accuracy": (Accuracy(dataset="some, 9 images, int8", metrics=worse),),
            "conversion": ConversionRecord(target="edgetpu", steps=("equalisation",), calibration_images=7, gate=gate),
        }
    )
    fields = {
        "spec": spec,
        "gate": gate,
        "passed": False,
        "size_wh": (128, 96),
        "runtime": "a runtime, 2 threads",
        "machine": "a machine",
        "variants": (
            Variant("float32", 4000, 5.0, metrics, 0.0, True, False),
            Variant("int8 repaired", 1000, 4.0, worse, 10.0, False, True),
        ),
        "classes": (ClassPair("<script>", 3, 0.5, 0.2), ClassPair("dog", 4, 0.25, 0.75)),
        "class_metric": "AP50-95",
        "curves": Curves(np.full(101, 0.7), np.full(101, 0.6)),
        "confused": (Confused("dog", "cat", 1, 4),),
        "tried": (Trial("mse-ranges", "ranges by mse", 0.4), Trial("head-scales", "no head to split")),
        "changed": 2,
        "examples": ((picture, picture),),
        "left_out": ("dynamic: cannot be converted",),
        "layers": (
            TensorError("net/conv_1/BiasAdd;net/conv_1/convolution", "CONV_2D", 12.5, 7.25),
            TensorError("input", "QUANTIZE", math.inf, 0.0),
        ),
    }
    return ReportData(**(fields | changes))


def test_page_is_whole_and_fetches_nothing():
    text = render(report())
    page = Page(text)
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?:|@import|url\(|<script", text)
    said = " ".join(page.text)
    for telling in (
        "<b>net</b>",
        "refused",
        "10.00 points lost",
        "a machine",
        "equalisation",
        "7 pictures",
        "<script>",
    ):
        assert telling in said
    for telling in ("float32, area 0.7000", "0.500 → 0.200", "+50.0", "conv_1", "12.5 dB, -7.2 here", "exact", "+3"):
        assert telling in said
    for telling in ("dynamic: cannot be converted", "ranges by mse", "not applied"):
        assert telling in said
    assert "-1 allowed" not in said


def test_page_without_labels_says_that_it_knows_less():
    gate = GateRecord(metric="agreement", dataset="some", images=9, reference=1, value=1, drop=0, max_drop=1)
    variant = Variant("float32", 4000, 5.0, {"agreement": 1.0}, 0.0, True, True)
    page = Page(
        render(
            report(
                gate=gate,
                passed=True,
                variants=(variant,),
                classes=(),
                curves=None,
                confused=(),
                changed=0,
                examples=(),
                layers=(),
                left_out=(),
                tried=(),
            )
        )
    )
    said = " ".join(page.text)
    assert "a weaker measure than labels" in said
    assert "Both models answer alike on all 9 pictures" in said
    for absent in ("Precision over recall", "Classes:", "Mistakes", "Quantisation error"):
        assert absent not in said


def answers_and_labels(tmp_path, rng):
    """Random boxes near random labels, with crowds, and scores so coarse that many are equal."""
    categories = [{"id": 7, "name": "red"}, {"id": 3, "name": "Blue"}, {"id": 9, "name": "unknown"}]
    images, rows, answers = [], [], []
    for i in rng.permutation(12):
        images.append({"id": int(i), "file_name": f"{i}.png"})
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((100, 100, 3), np.uint8))
        found = []
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = rng.uniform(0, 50, 2).tolist() + rng.uniform(10, 50, 2).tolist()
            category = int(rng.choice([7, 3, 9]))
            crowd = int(rng.random() < 0.2)
            rows.append({"image_id": int(i), "category_id": category, "bbox": [x, y, w, h], "iscrowd": crowd})
            for _ in range(rng.integers(0, 3)):
                x1, y1, x2, y2 = np.array([x, y, x + w, y + h]) + rng.normal(0, 3, 4)
                class_id = {7: 0, 3: 2, 9: 1}[category] if rng.random() < 0.8 else int(rng.integers(0, 3))
                found.append((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1), round(rng.random() * 4) / 4, class_id))
        found.sort(key=lambda row: -row[4])
        values = np.array(found, np.float32).reshape(-1, 6)
        answers.append(Detections(values[:, :4], values[:, 4], values[:, 5].astype(np.int32)))
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"images": images, "categories": categories, "annotations": rows}))
    return answers, Boxes(tmp_path, file, tuple(image["id"] for image in images))


@pytest.mark.parametrize("seed", range(6))
def test_area_below_the_curve_is_map50(seed, tmp_path):
    answers, labels = answers_and_labels(tmp_path, np.random.default_rng(seed))
    names = ("red", "green", "blue")
    left = iter(answers)
    stub = SimpleNamespace(spec=SimpleNamespace(labels=names), detect=lambda image: (next(left), {}))
    expected = evaluate_detector(stub, labels.images, labels.annotations)
    curve = precision_at_recalls(answers, labels, names)
    assert 0.05 < expected.map50 < 0.95
    assert curve.mean() == pytest.approx(expected.map50, abs=1e-6)
    assert (np.diff(curve) <= 1e-12).all()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.1121, 0.2105), (3.2, 1170.0), (0.00011, 0.00012)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    digits = f"{found[1] - found[0]:.6e}".split("e")[0].rstrip("0").rstrip(".")
    assert digits in ("1", "2", "5")


def test_scatter_joins_only_what_nothing_beats():
    points = [
        Point("slow and good", 9, 0.9, 4, "float"),
        Point("fast and bad", 1, 0.1, 1, "made"),
        Point("beaten", 9.5, 0.5, 2, "float"),
        Point("a < b", 5, 0.5, 2, "float"),
    ]
    svg = scatter(points, "ms", "mAP")
    Page(svg)
    assert len(re.search(r'class="front" points="([^"]*)"', svg)[1].split()) == 3
    assert "a &lt; b" in svg
    assert svg.count("<circle") == 4
    one = scatter(points[:1], "ms", "mAP")
    assert "nan" not in one
    assert "inf" not in one


def test_names_in_a_scatter_cover_neither_each_other_nor_a_disc():
    points = [Point(f"variant {i}", 7 + 0.1 * i, 0.2 + 0.001 * i, 4, "float") for i in range(4)]
    points.append(Point("far away", 1, 0.1, 1, "float"))
    svg = scatter(points, "ms", "mAP")
    names = re.findall(r'class="name[^"]*" x="([\d.]+)" y="([\d.]+)">([^<]*)', svg)
    places = [(float(x), float(y) - 11, float(x) + 6 * len(name), float(y)) for x, y, name in names]
    discs = [tuple(map(float, row)) for row in re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', svg)]
    for i, (left, top, right, bottom) in enumerate(places):
        for other in places[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
        for x, y, r in discs:
            assert right <= x - r or x + r <= left or bottom <= y - r or y + r <= top


def test_lines_stay_in_their_frame():
    svg = lines([("float", np.array([1.0, 0.5, 0.0]))], "recall", "precision")
    points = [tuple(map(float, p.split(","))) for p in re.search(r'line float" points="([^"]*)"', svg)[1].split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted(y for _, y in points)  # down the picture: precision falls


def test_classifier_comparison(tmp_path):
    for name in ("red", "green", "blue"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for i in range(2):
            cells = [(name, x, y) for x in range(4) for y in range(3)]
            cv2.imwrite(str(tmp_path / "tree" / name / f"{i}.png"), paint(cells))
    spec = tiny_classifier().spec
    data = open_gate_data(tmp_path / "tree", None, spec)
    gate = Gate(tiny_classifier().save(tmp_path / "good.tflite"), data, 1.0)
    swapped = tiny_classifier(labels=("green", "red", "blue"))
    # The labels are the model's own: as a candidate it is right about blue alone.
    measured, _ = gate.judge(swapped.save(tmp_path / "bad.tflite"))
    metric, classes = compare_classes(gate.reference, measured)
    assert metric == "recall"
    assert [(c.label, c.count, c.reference, c.value) for c in classes][-1] == ("blue", 2, 1.0, 1.0)
    assert {(c.true, c.predicted, c.reference, c.value) for c in compare_mistakes(gate.reference, measured)} == {
        ("red", "green", 0, 2),
        ("green", "red", 0, 2),
    }


def test_examples_show_the_most_different_pictures_first(tmp_path):
    pictures = [paint([("red", 0, 0)]), paint([("red", 0, 0), ("blue", 1, 1)]), paint([("blue", 2, 2)])]
    data = GateData("some", len(pictures), lambda i: pictures[i], None)
    gate = Gate(tiny_detector().save(tmp_path / "good.tflite"), data, 1.0)
    bad = tiny_detector()
    measured, _ = gate.judge(bad.save(tmp_path / "same.tflite"))
    assert examples(gate, measured, bad.spec) == (0, ())
    lost = [measured.answers[0][:0], measured.answers[1][:1], measured.answers[2]]
    changed, shown = examples(gate, SimpleNamespace(answers=tuple(lost)), bad.spec)
    assert changed == 2
    assert [pair[0].caption for pair in shown] == [("float32: 1 box",), ("float32: 2 boxes",)]
    assert [pair[1].caption for pair in shown] == [("converted: 0 boxes",), ("converted: 1 box",)]
    drawn = cv2.imdecode(np.frombuffer(shown[0][0].data, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (96, 128, 3)
