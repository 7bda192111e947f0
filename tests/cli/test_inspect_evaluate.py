"""`edge inspect`, `edge evaluate`, and what the command line does with errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest
from fixtures import CELL, described, paint, tiny_classifier, tiny_detector
from typer.testing import CliRunner, Result

from edge.cli.app import app


def edge(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_inspect_shows_what_a_model_is(tmp_path: Path) -> None:
    path = tiny_detector("yolov8", "int8").save(tmp_path / "m.tflite")
    shown = edge("inspect", path)
    assert shown.exit_code == 0
    for word in ("tiny-yolov8-int8", "int8 1 x 96 x 128 x 3", "red, green, blue", "XNNPACK", "metadata.json"):
        assert word in shown.stdout, word
    facts = json.loads(edge("inspect", path, "--json").stdout)
    assert facts["spec"]["decoder"]["name"] == "yolov8" and facts["inputs"][0]["zero_point"] == -128
    assert len(facts["sha256"]) == 64 and facts["bytes"] == path.stat().st_size


def test_a_silent_file_is_described_with_flags_and_then_runs_without(tmp_path: Path) -> None:
    path = tiny_detector("yolov8").save(tmp_path / "m.tflite", described=False)
    labels = tmp_path / "names.txt"
    labels.write_text("red\ngreen\nblue\n")
    silent = edge("inspect", path)
    assert silent.exit_code == 0 and "does not run as it is" in silent.stdout
    flags = ("--decoder", "yolov8", "--labels", labels, "--input-range", "0..1")
    spec = tmp_path / "spec.json"
    spec.write_text(edge("inspect", path, *flags, "--json").stdout)
    attached = edge("inspect", path, "--attach", spec)
    assert attached.exit_code == 0, attached.stderr
    facts = json.loads(edge("inspect", path, "--json").stdout)
    assert facts["spec"]["labels"] == ["red", "green", "blue"] and facts["members"] == ["metadata.json"]
    again = edge("inspect", path, "--attach", spec)
    assert again.exit_code == 2 and "--force" in again.stderr
    assert edge("inspect", path, "--attach", spec, "--force").exit_code == 0


def test_a_description_that_does_not_fit_is_not_attached(tmp_path: Path) -> None:
    path = tiny_detector("yolov8").save(tmp_path / "m.tflite")
    before = path.read_bytes()
    spec = tiny_detector("yolov8", labels=("only", "two")).spec
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    refused = edge("inspect", path, "--attach", tmp_path / "spec.json", "--force")
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["m.tflite", "spec.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"spec": 3}'])
def test_attaching_what_is_no_description(tmp_path: Path, text: str) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite", described=False)
    (tmp_path / "x.json").write_text(text)
    refused = edge("inspect", path, "--attach", tmp_path / "x.json")
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1
    assert edge("inspect", path, "--attach", tmp_path / "none.json").exit_code == 2


def test_evaluate_a_detector(tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    cells = [("red", 0, 0), ("blue", 2, 1)]
    cv2.imwrite(str(tmp_path / "a.png"), paint(cells))
    ids = {"red": 1, "green": 2, "blue": 3}
    annotations = {
        "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 96}],
        "categories": [{"id": i, "name": name} for name, i in ids.items()],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": ids[n], "bbox": [c * CELL, r * CELL, CELL, CELL]}
            for i, (n, c, r) in enumerate(cells)
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    shown = edge("evaluate", "--model", path, "--images", tmp_path, "--annotations", tmp_path / "a.json")
    assert shown.exit_code == 0, shown.output
    assert "mAP50 1.0000" in shown.stdout and "green" not in shown.stdout
    numbers = json.loads(
        edge("evaluate", "-m", path, "--images", tmp_path, "--annotations", tmp_path / "a.json", "--json", "-").stdout
    )
    assert numbers["mAP50"] == pytest.approx(1) and numbers["classes"][1]["AP50"] is None


def test_evaluate_a_classifier(tmp_path: Path) -> None:
    path = tiny_classifier().save(tmp_path / "m.tflite")
    for name in ("red", "green"):
        (tmp_path / "data" / name).mkdir(parents=True)
        picture = paint([(name, c, r) for c in range(4) for r in range(3)])
        cv2.imwrite(str(tmp_path / "data" / name / "0.png"), picture)
    report = tmp_path / "r.json"
    shown = edge("evaluate", "--model", path, "--folder", tmp_path / "data", "--json", report)
    assert shown.exit_code == 0 and "top-1 1.0000" in shown.stdout
    assert json.loads(report.read_text())["confusion"] == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inspect", "none.tflite"], 2),
        (["evaluate", "--model", "none.tflite", "--folder", "."], 2),
        (["evaluate", "--model", "none.tflite"], 2),
        (["evaluate", "--folder", "."], 2),
        (["nonsense"], 2),
        (["detect", "--source", "none.mp4"], 2),
        (["--version"], 0),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    result = edge(*arguments)
    assert result.exit_code == code
    assert "Traceback" not in result.output


def test_a_broken_description_inside_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(described(tiny_detector(), labels=["one"]))
    refused = edge("evaluate", "--model", path, "--images", tmp_path, "--annotations", tmp_path / "a.json")
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect", "--source", "x.png"],
        ["classify", "--source", "x.png", "--model", "m.tflite"],
        ["evaluate", "--model", "m.tflite", "--folder", "."],
        ["inspect", "m.tflite", "--attach", "spec.json"],
        ["convert", "x.cfg"],
    ],
)
def test_opencv_that_does_not_load_is_one_line(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    result = edge(*arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == ["edge: OpenCV is not installed; install it with: pip install opencv-python"]
