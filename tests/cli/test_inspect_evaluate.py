"""`edge inspect`, `edge evaluate`, and what the command line does with errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import CELL, Tiny, constant_model, described, paint, tiny_classifier, tiny_detector
from typer.testing import CliRunner, Result

from edge.cli.app import app
from edge.spec import DecoderSpec, InputSpec, ModelSpec


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
    measured = ("evaluate", "-m", path, "--images", tmp_path, "--annotations", tmp_path / "a.json", "--json")
    numbers = json.loads(edge(*measured, "-").stdout)
    assert numbers["mAP50"] == pytest.approx(1) and numbers["classes"][1]["AP50"] is None
    report = tmp_path / "new" / "b.json"  # beside the pictures; its folder is made
    assert edge(*measured, report).exit_code == 0 and json.loads(report.read_text()) == numbers
    refused = edge(*measured, report)
    assert refused.exit_code == 2 and "exists; give another name, or pass --force" in refused.stderr
    assert edge(*measured, report, "--force").exit_code == 0
    for own in ("a.png", "a.json"):
        refused = edge(*measured, tmp_path / own, "--force")
        assert refused.exit_code == 2 and "is an input itself" in refused.stderr


def test_the_worst_mistakes_of_a_detector_are_drawn(tmp_path: Path) -> None:
    path, data, sheet = tiny_detector().save(tmp_path / "m.tflite"), tmp_path / "set", tmp_path / "new" / "sheet.png"
    for part in ("images", "labels"):
        (data / "valid" / part).mkdir(parents=True)
    for name, labelled in (("good", "red"), ("bad", "green")):
        cv2.imwrite(str(data / "valid" / "images" / f"{name}.png"), paint([("red", 0, 0)]))
        box = f"{0.5 * CELL / 128} {0.5 * CELL / 96} {CELL / 128} {CELL / 96}"
        (data / "valid" / "labels" / f"{name}.txt").write_text(f"{int(labelled == 'green')} {box}")
    (data / "data.yaml").write_text("val: ../valid/images\nnames: [red, green]")
    shown = edge("evaluate", "-m", path, "--data", data, "--mistakes", sheet)
    assert shown.exit_code == 0 and f"the worst mistakes: {sheet}" in shown.stdout.replace("\n", "")
    # One picture: the other holds no mistake.
    assert cv2.imread(str(sheet)).shape[1] < 500
    (data / "valid" / "labels" / "bad.txt").write_text((data / "valid" / "labels" / "good.txt").read_text())
    shown = edge("evaluate", "-m", path, "--data", data, "--mistakes", tmp_path / "none.png")
    assert "no mistakes, and no sheet of them" in shown.stdout and not (tmp_path / "none.png").exists()
    refused = edge("evaluate", "-m", path, "--data", data, "--mistakes", "sheet.txt")
    assert refused.exit_code == 2 and "--mistakes sheet.txt: expected a picture name" in refused.stderr
    classifier = tiny_classifier().save(tmp_path / "c.tflite")
    (tmp_path / "tree" / "red").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "tree" / "red" / "a.png"), paint([("red", 0, 0)]))
    refused = edge("evaluate", "-m", classifier, "--data", tmp_path / "tree", "--mistakes", sheet)
    assert refused.exit_code == 2 and "exists; give another name, or pass --force" in refused.stderr
    refused = edge("evaluate", "-m", classifier, "--data", tmp_path / "tree", "--mistakes", sheet, "--force")
    assert refused.exit_code == 2 and "expected a detector" in refused.stderr
    own = data / "valid" / "images" / "bad.png"
    names = tmp_path / "names.txt"
    names.write_text("red\ngreen\nblue")
    for flags in (("--mistakes", own), ("--json", path), ("--labels", names, "--json", names)):
        refused = edge("evaluate", "-m", path, "--data", data, *flags, "--force")
        assert refused.exit_code == 2 and "is an input itself" in refused.stderr


def test_evaluate_a_detector_on_a_yolo_set(tmp_path: Path) -> None:
    path, data = tiny_detector().save(tmp_path / "m.tflite"), tmp_path / "set"
    for split in ("train", "valid"):
        for part in ("images", "labels"):
            (data / split / part).mkdir(parents=True)
        cv2.imwrite(str(data / split / "images" / "a.png"), paint([("red", 0, 0)]))
        lines = [f"0 {0.5 * CELL / 128} {0.5 * CELL / 96} {CELL / 128} {CELL / 96}", "7 0.5 0.5 0.1 0.1"]
        (data / split / "labels" / "a.txt").write_text("\n".join(lines[: 1 if split == "train" else 2]))
    (data / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [red]")
    shown = edge("evaluate", "-m", path, "--data", data)
    assert shown.exit_code == 0, shown.output
    assert "split val" in shown.stdout and "mAP50 1.0000" in shown.stdout
    assert "mended: boxes of a class that is not listed, left out: 1" in shown.stdout
    numbers = json.loads(edge("evaluate", "-m", path, "--data", data, "--split", "train", "--json", "-").stdout)
    assert (numbers["mAP50"], numbers["split"], numbers["notes"]) == (pytest.approx(1), "train", [])
    refused = edge("evaluate", "-m", path, "--data", data, "--split", "test")
    assert refused.exit_code == 2 and "found train, val" in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_evaluate_a_classifier(tmp_path: Path) -> None:
    path = tiny_classifier().save(tmp_path / "m.tflite")
    for name in ("red", "green"):
        (tmp_path / "data" / name).mkdir(parents=True)
        picture = paint([(name, c, r) for c in range(4) for r in range(3)])
        cv2.imwrite(str(tmp_path / "data" / name / "0.png"), picture)
    report = tmp_path / "r.json"
    shown = edge("evaluate", "--model", path, "--folder", tmp_path / "data", "--json", report)
    assert shown.exit_code == 0 and "top-1 1.0000" in shown.stdout
    numbers = json.loads(report.read_text())
    assert numbers["confusion"] == [[1, 0, 0], [0, 1, 0]] and numbers["split"] is None
    ms = numbers["ms"]
    assert set(ms) == {"preprocess", "invoke", "decode", "total"} and ms["total"] > ms["invoke"] > 0
    assert f"{ms['total']:.2f} ms per picture" in shown.stdout


@pytest.mark.parametrize(
    ("folders", "asked", "taken", "top1"),
    [
        (("train", "valid", "test"), None, "test", 0.0),
        (("train", "valid"), None, "val", 0.5),
        (("train", "valid", "test"), "valid", "valid", 0.5),
        (("train", "test"), "train", "train", 1.0),
    ],
)
def test_evaluate_takes_one_split_and_says_which(
    tmp_path: Path, folders: tuple[str, ...], asked: str | None, taken: str, top1: float
) -> None:
    path = tiny_classifier().save(tmp_path / "m.tflite")
    shown_as = {"train": ("red", "red"), "valid": ("red", "green"), "test": ("blue", "green")}
    for folder in folders:
        for i, name in enumerate(shown_as[folder]):
            target = tmp_path / "data[1]" / folder / "red" / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), paint([(name, c, r) for c in range(4) for r in range(3)]))
    arguments = ["evaluate", "-m", path, "--data", tmp_path / "data[1]", *(["--split", asked] if asked else [])]
    shown = edge(*arguments)
    assert shown.exit_code == 0 and f"data[1], split {taken}\n" in shown.stdout and f"top-1 {top1:.4f}" in shown.stdout
    numbers = json.loads(edge(*arguments, "--json", "-").stdout)
    assert (numbers["split"], numbers["top1"], numbers["images"]) == (taken, top1, 2)


def localizer(path: Path) -> Path:
    """Save a model that says "green" and the middle half of the picture, whatever it sees."""
    outputs = {
        "scores": np.array([[0.1, 0.8, 0.1]], np.float32),
        "box": np.array([[0.25, 0.25, 0.75, 0.75]], np.float32),
    }
    spec = ModelSpec(
        name="middle",
        task="classify",
        input=InputSpec(resize="stretch"),
        decoder=DecoderSpec(
            name="localizer", outputs={"scores": "scores", "box": "box"}, params={"activation": "none"}
        ),
        labels=("red", "green", "blue"),
    )
    return Tiny(constant_model(outputs), spec).save(path)


def one_box_pictures(root: Path) -> Path:
    """Write pictures of 128 x 64 pixels: two with the box of `localizer`, one beside it, and one with two boxes."""
    boxes = [(0, 2, [32, 16, 64, 32]), (1, 1, [32, 16, 64, 32]), (2, 2, [64, 16, 64, 32])]
    boxes += [(3, 2, [0, 0, 9, 9]), (3, 1, [0, 0, 9, 9])]
    (root / "annotations").mkdir(parents=True)
    for i in range(4):
        cv2.imwrite(str(root / f"{i}.png"), paint([("green", 1, 1)], (128, 64)))
    annotations = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(4)],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}, {"id": 3, "name": "blue"}],
        "annotations": [{"image_id": i, "category_id": c, "bbox": box} for i, c, box in boxes],
    }
    (root / "annotations" / "instances_test.json").write_text(json.dumps(annotations))
    return root


def test_evaluate_a_localizer(tmp_path: Path) -> None:
    path, data = localizer(tmp_path / "m.tflite"), one_box_pictures(tmp_path / "data")
    by_data = ("--data", data)
    by_files = ("--images", data, "--annotations", data / "annotations" / "instances_test.json")
    shown = edge("evaluate", "-m", path, *by_data)
    assert shown.exit_code == 0, shown.output
    assert "3 images with one box, 2 classes: top-1 0.6667, mean IoU 0.7778" in shown.stdout
    assert "right class and IoU >= 0.5 0.3333" in shown.stdout and "blue" not in shown.stdout
    for given in (by_data, by_files):
        numbers = json.loads(edge("evaluate", "-m", path, *given, "--json", "-").stdout)
        # The box beside it overlaps by half: 1/3. The class of the second picture is red.
        assert numbers["images"] == 3 and numbers["top1"] == pytest.approx(2 / 3)
        assert numbers["mean_iou"] == pytest.approx((1 + 1 + 1 / 3) / 3) and numbers["located"] == pytest.approx(1 / 3)
        red, green = numbers["classes"]
        assert (red["label"], red["images"], red["top1"], red["mean_iou"], red["located"]) == ("red", 1, 0, 1, 0)
        assert (green["label"], green["images"], green["top1"], green["located"]) == ("green", 2, 1, 0.5)
        assert green["mean_iou"] == pytest.approx(2 / 3) and numbers["ms"]["invoke"] > 0


def test_evaluate_what_does_not_fit_together(tmp_path: Path) -> None:
    data = one_box_pictures(tmp_path / "data")
    annotations = data / "annotations" / "instances_test.json"
    (tmp_path / "tree" / "red").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "tree" / "red" / "0.png"), paint([]))
    local, plain = localizer(tmp_path / "l.tflite"), tiny_classifier().save(tmp_path / "c.tflite")
    for says, arguments in (
        ("needs boxes", ("-m", local, "--data", tmp_path / "tree")),
        ("not a detector", ("-m", plain, "--images", data, "--annotations", annotations)),
        ("expected a split 'val'", ("-m", plain, "--data", data, "--split", "val")),
        ("one plain set", ("-m", plain, "--data", tmp_path / "tree", "--split", "test")),
        ("expected --images DIR", ("-m", plain, "--images", data, "--annotations", annotations, "--split", "test")),
        ("expected --images DIR", ("-m", plain, "--data", data, "--images", data)),
    ):
        refused = edge("evaluate", *arguments)
        assert refused.exit_code == 2 and says in refused.stderr and len(refused.stderr.splitlines()) == 1, refused
    # A classifier may be asked about the pictures of a localiser: which object is there?
    assert edge("evaluate", "-m", plain, "--data", data).exit_code == 0


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
