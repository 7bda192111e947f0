"""`edge detect --method sliding-window`, and localisers in `edge classify`, from the command line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import paint, tiny_classifier, tiny_detector
from typer.testing import CliRunner, Result

from edge.cli.app import app

Edge = Callable[..., Result]
SIZE = (32, 24)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return tiny_classifier(size_wh=SIZE, any_batch=True).save(tmp_path / "classifier.tflite")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    image = np.zeros((120, 160, 3), np.uint8)
    image[50:74, 60:92] = (0, 255, 0)
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), image)
    return path


def edge(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def refused(result: Result, *said: str) -> None:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    for word in said:
        assert word in line


def test_a_classifier_finds_objects(classifier: Path, scene: Path, tmp_path: Path) -> None:
    detect = ("detect", "-m", classifier, "-s", scene, "--method", "sliding-window", "--conf", "0.99999")
    result = edge(*detect, "--json", "-", "--save", tmp_path / "out.png", "--window", 32, "--stride", 0.2)
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    boxes = [list(found["box"].values()) for found in row["detections"] if found["name"] == "green"]
    assert len(boxes) == len(row["detections"])
    assert any(box == pytest.approx([60, 50, 92, 74], abs=8) for box in boxes)
    assert set(row["stage_ms"]) >= {"preprocess", "invoke", "decode", "nms"}
    assert cv2.imread(str(tmp_path / "out.png")).shape == (120, 160, 3)
    assert json.loads(edge(*detect, "--json", "-", "--classes", "red").stdout)["detections"] == []
    assert json.loads(edge(*detect, "--json", "-", "--window", 90).stdout)["detections"] == []


def test_verbose_counts_the_windows(classifier: Path, scene: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        edge("-v", "detect", "-m", classifier, "-s", scene, "--method", "sliding-window", "--pyramid-scale", 5, "-q")
    # 32 x 24 in 160 x 120: 17 by 17 windows, and the whole picture as one.
    assert any("290 windows at 2 sizes in a picture of 160 x 120, 64 at a time" in line for line in caplog.messages)


def test_what_does_not_fit_is_one_line(classifier: Path, scene: Path, tmp_path: Path) -> None:
    detector = tiny_detector().save(tmp_path / "detector.tflite")
    refused(edge("detect", "-m", classifier, "-s", scene), "edge classify", "--method sliding-window")
    refused(edge("detect", "-m", detector, "-s", scene, "--method", "sliding-window"), "finds objects itself")
    refused(edge("detect", "-m", classifier, "-s", scene, "--stride", 0.5), "--stride", "--method sliding-window")
    refused(edge("detect", "-m", detector, "-s", scene, "--pyramid-scale", 2), "--pyramid-scale: is for a classifier")
    sliding = ("detect", "-m", classifier, "-s", scene, "--method", "sliding-window")
    refused(edge(*sliding, "--stride", 0), "--stride 0", "at most 1")
    refused(edge(*sliding, "--window", 0), "--window 0", "1 pixel or more")
    refused(edge(*sliding, "--pyramid-scale", 1), "--pyramid-scale 1", "1.05")
    refused(edge("detect", "-m", detector, "-s", scene, "--method", "magic"), "--method", "sliding-window")


def test_a_localiser_in_every_output(tmp_path: Path) -> None:
    model = tiny_classifier(box=(0.25, 0.25, 0.75, 0.5)).save(tmp_path / "m.tflite")
    picture = tmp_path / "red.png"
    cv2.imwrite(str(picture), paint([("red", c, r) for c in range(4) for r in range(3)]))
    out = tmp_path / "out.png"
    classify = ("classify", "-m", model, "-s", picture, "-q")
    result = edge(*classify, "--save", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("; box 32 24 96 48\n") and ": red 1.000; " in result.stdout
    drawn = cv2.imread(str(out)).astype(int)
    assert abs(drawn[48, 60] - drawn[80, 60]).max() > 50
    row = json.loads(edge(*classify, "--json", "-").stdout)
    assert row["classes"][0]["name"] == "red" and row["box"] == {"x1": 32.0, "y1": 24.0, "x2": 96.0, "y2": 48.0}
    (first, *_) = csv.DictReader(io.StringIO(edge(*classify, "--csv", "-", "--top", 1).stdout))
    assert (first["name"], first["x1"], first["y2"]) == ("red", "32.0", "48.0")


def test_inspect_shows_a_localiser(tmp_path: Path, scene: Path) -> None:
    tiny = tiny_classifier(box=(0.25, 0.25, 0.75, 0.5))
    shown = edge("inspect", tiny.save(tmp_path / "m.tflite"))
    assert shown.exit_code == 0
    assert "localizer" in shown.stdout and "scores = scores, box = box" in shown.stdout
    # Nothing but a description says which output is the box.
    bare = tiny.save(tmp_path / "bare.tflite", described=False)
    flagged = edge("classify", "-m", bare, "-s", scene, "--decoder", "localizer")
    refused(flagged, "decoder localizer also needs outputs", "--attach")
    (tmp_path / "spec.json").write_text(tiny.spec.model_dump_json())
    assert edge("inspect", bare, "--attach", tmp_path / "spec.json").exit_code == 0
