"""Accuracy on real pictures with real models, through the commands that users run: floors, just below what was seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.cli.app import app


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def coco_accuracy(model: Path, tiny_coco: Path) -> tuple[float, float]:
    annotations = tiny_coco / "annotations" / "instances_val2017.json"
    images = tiny_coco / "val2017"
    numbers = json.loads(run("evaluate", "-m", model, "--images", images, "--annotations", annotations, "--json", "-"))
    assert numbers["images"] == 50 and numbers["unknown"] == {}
    return numbers["mAP50"], numbers["mAP50-95"]


@pytest.mark.parametrize(
    ("name", "map50", "map50_95"),
    [
        ("yolov8n_full_integer_quant_640_ultralytics8.2.23", 0.465, 0.32),
        ("ssd_mobilenet_v1_1_metadata_1", 0.33, 0.19),
    ],
)
def test_found_models_with_no_flag(shared_data, tiny_coco: Path, name: str, map50: float, map50_95: float) -> None:
    found = coco_accuracy(shared_data(f"tflite/{name}.tflite"), tiny_coco)
    assert found[0] >= map50 and found[1] >= map50_95, found


@pytest.mark.parametrize(("name", "map50", "map50_95"), [("", 0.29, 0.145), ("-xl", 0.365, 0.195)])
def test_converted_darknet(
    shared_data, tiny_coco: Path, tmp_path: Path, name: str, map50: float, map50_95: float
) -> None:
    cfg, names = shared_data(f"darknet/yolo-fastest-1.1{name}.cfg"), shared_data("darknet/coco.names")
    run("convert", cfg, "--labels", names, "--out", tmp_path / "m.tflite")
    found = coco_accuracy(tmp_path / "m.tflite", tiny_coco)
    assert found[0] >= map50 and found[1] >= map50_95, found


def test_a_classifier_names_three_pictures(shared_data) -> None:
    pictures = {"cat.bmp": "cat", "bird.bmp": "chickadee", "grace_hopper.bmp": "military uniform"}
    sources = [word for name in pictures for word in ("--source", shared_data(f"images/{name}"))]
    model, labels = shared_data("tflite/mobilenet_v2_1.0_224_quant.tflite"), shared_data("tflite/imagenet_labels.txt")
    lines = run("classify", "--model", model, "--labels", labels, "--top", 1, *sources, "-q").splitlines()
    assert len(lines) == len(pictures)
    for line, (name, label) in zip(lines, pictures.items(), strict=True):
        assert name in line and label in line


def test_the_bundled_detector_sees_the_cars_of_a_real_clip(shared_data, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    run("detect", "--source", shared_data("video/car-detection.mp4"), "--json", out, "-q")
    frames = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(frames) == 377
    seen = sum(any(d["name"] in ("car", "bus", "truck") for d in frame["detections"]) for frame in frames)
    assert seen > 50
