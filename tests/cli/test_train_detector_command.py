"""`edge train detector` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from rectangles import SIZE, write_dataset
from typer.testing import CliRunner, Result

pytest.importorskip("tensorflow")

from edge.bundled import default_model
from edge.cli.app import app

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


BUNDLED = str(default_model())


def edge(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("rectangles") / "data", images=8)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "rectangles"
    done = edge("train", "detector", "--data", data, "--run", run, "--size", SIZE, "--epochs", 1, "--batch", 8)
    assert done.exit_code == 0, done.stderr
    assert "epoch   1" in done.stderr and "val AP50" in done.stderr
    assert "data val" in done.stdout and "edge convert" in done.stdout
    return run


def test_train_convert_verify_detect_need_no_flags(trained: Path, data: Path, tmp_path: Path) -> None:
    model = tmp_path / "rectangles.tflite"
    calibration = trained / "calibration"
    converted = edge("convert", trained / "best.keras", "--to", "int8", "--calibrate", calibration, "--out", model)
    assert converted.exit_code == 0, converted.stderr
    facts = json.loads(edge("inspect", model, "--json").stdout)["spec"]
    assert facts["labels"] == ["red", "blue"]
    # It went on from the model that ships, whose attribution goes with it.
    assert "started from edge-yolo-n" in facts["provenance"]["attribution"]
    assert edge("verify", model).exit_code == 0
    measured = edge("evaluate", "--model", model, "--data", data, "--split", "val", "--json", "-")
    assert measured.exit_code == 0, measured.stderr
    assert json.loads(measured.stdout)["images"] == 8
    found = edge("detect", "--model", model, "--source", data / "valid", "--conf", 0.01, "--json", "-", "--quiet")
    assert found.exit_code == 0 and len(found.stdout.splitlines()) == 8


def test_a_network_learns_from_another(trained: Path, data: Path, tmp_path: Path) -> None:
    given = ("train", "detector", "--data", data, "--size", SIZE, "--epochs", 1, "--batch", 8, "--run", tmp_path / "r")
    done = edge(*given, "--distill", trained / "best.keras")
    assert done.exit_code == 0, done.stderr
    described = json.loads((tmp_path / "r" / "best.spec.json").read_text())
    assert "taught by edge-yolo-n: " in described["provenance"]["attribution"]
    alone, taught = (json.loads((run / "metrics.jsonl").read_text()) for run in (trained, tmp_path / "r"))
    assert taught["class_loss"] > alone["class_loss"] and taught["box_loss"] > alone["box_loss"]


def test_a_finished_run_is_resumed_as_its_kind_only(trained: Path) -> None:
    wrong = edge("train", "classifier", "--run", trained, "--resume")
    assert wrong.exit_code == 2 and "continue it with: edge train detector" in wrong.stderr
    compared = edge("train", "compare", trained)
    assert compared.exit_code == 0 and "edge-yolo-n" in compared.stdout


def test_check_reports_and_draws_a_sheet(data: Path, tmp_path: Path) -> None:
    done = edge("train", "detector", "--data", data, "--check", "--run", tmp_path / "look", "--json")
    assert done.exit_code == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert sorted(report["classes"]) == ["blue", "red"]
    assert min(cv2.imread(str(tmp_path / "look" / "data.png")).shape[:2]) > 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "r"], "--data is missing"),
        (["--data", "DATA"], "--run is missing"),
        (["--data", "missing.zip", "--run", "r"], "missing.zip"),
        (["--data", "DATA", "--run", "r", "--size", "100"], "--size 100: expected a multiple of 32"),
        (["--data", "DATA", "--run", "r", "--head", "none"], "--head none"),
        (["--data", "DATA", "--run", "r", "--model", "yolov3"], "--model yolov3"),
        (["--data", "DATA", "--run", "r", "--weights", "nothing.keras"], "nothing.keras"),
        (["--data", "DATA", "--run", "r", "--weights", "edge-yolo-n-int8.tflite"], "edge-yolo-n-int8.tflite"),
        (["--data", "DATA", "--run", "r", "--distill", "nothing.keras"], "nothing.keras"),
        (["--data", "DATA", "--run", "r", "--distill", BUNDLED], "--distill: it knows person, bicycle"),
        (
            ["--data", "DATA", "--run", "r", "--distill", BUNDLED, "--head", "anchors"],
            "--distill needs --head anchor-free",
        ),
        (["--run", "r", "--resume"], "no run to resume"),
    ],
)
def test_wrong_input_is_one_line(arguments, said, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = edge("train", "detector", *[str(data) if a == "DATA" else a for a in arguments])
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_int8_weights_are_no_start(data: Path, tmp_path: Path) -> None:
    from edge.bundled import bundled_model

    done = edge(
        "train", "detector", "--data", data, "--run", tmp_path / "r", "--weights", bundled_model("edge-yolo-n-int8")
    )
    assert done.exit_code == 2
    assert "expected the float32 or float16 form" in done.stderr


def test_weights_of_imagenet_that_cannot_be_had_are_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    done = edge("train", "detector", "--data", data, "--run", tmp_path / "r", "--size", SIZE, "--weights", "imagenet")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert "0.35_224_no_top.h5 are not in" in done.stderr and "no network" in done.stderr
    kept = tmp_path / "keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    kept.write_text("broken")
    broken = edge("train", "detector", "--data", data, "--run", tmp_path / "b", "--size", SIZE, "--weights", "imagenet")
    assert broken.exit_code == 2 and broken.stderr.count("\n") == 1
    assert "these are not the weights of MobileNetV2 0.35" in broken.stderr
