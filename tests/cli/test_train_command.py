"""`edge train` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("tensorflow")

from edge.cli.app import app

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def edge(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree: bright discs and dark ones, as pictures."""
    root = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(0)
    for name, value in (("bright", 230), ("dark", 30)):
        (root / name).mkdir()
        for number in range(40):
            picture = np.full((40, 40, 3), 120, np.uint8)
            x, y = (int(c) for c in rng.integers(12, 28, 2))
            cv2.circle(picture, (x, y), 8, (value,) * 3, -1)
            cv2.imwrite(str(root / name / f"{number}.png"), picture)
    return root


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "shapes"
    done = edge("train", "classifier", "--data", shapes, "--model", "mnist-convnet-b", "--run", run, "--size", "28x28",
                "--epochs", 10, "--batch", 16, "--lr", "3e-3", "--val-fraction", 0.25, "--licence", "CC0")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "epoch  10" in done.stderr and "accuracy 1.0000 on 20 images" in done.stdout
    return run


def test_train_convert_evaluate_classify_need_no_flags(trained: Path, shapes: Path, tmp_path: Path) -> None:
    model = tmp_path / "shapes.tflite"
    calibration = trained / "calibration"
    converted = edge("convert", trained / "best.keras", "--to", "int8", "--calibrate", calibration, "--out", model)
    assert converted.exit_code == 0, converted.stderr
    report = json.loads(edge("evaluate", "--model", model, "--data", shapes, "--json", "-").stdout)
    assert report["top1"] > 0.95 and report["images"] == 80
    named = edge("classify", "--model", model, "--source", shapes / "dark" / "0.png", "--quiet")
    assert named.exit_code == 0 and "dark 1.0" in named.stdout or "dark 0.9" in named.stdout
    facts = json.loads(edge("inspect", model, "--json").stdout)
    assert facts["spec"]["provenance"]["licence"] == "CC0"
    assert facts["spec"]["accuracy"][0]["metrics"]["top1"] == 1.0


def test_resuming_a_finished_run_prints_its_summary_again(trained: Path) -> None:
    again = edge("train", "classifier", "--run", trained, "--resume")
    assert again.exit_code == 0 and "epoch   " not in again.stderr
    assert "best" in again.stdout


def test_compare_names_the_runs_and_draws_them(trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "compare.png"
    compared = edge("train", "compare", trained, "--save", picture)
    assert compared.exit_code == 0 and "mnist-convnet-b" in compared.stdout and "1.0000" in compared.stdout
    assert cv2.imread(str(picture)) is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--data"),
        (("--data", "{data}"), "--model"),
        (("--data", "{data}", "--model", "resnet18"), "resnet-18"),
        (("--data", "{data}/nowhere", "--model", "lenet-5"), "nowhere"),
        (("--data", "{data}", "--model", "lenet-5", "--size", "0x0"), "--size"),
        (("--data", "{data}", "--model", "lenet-5", "--val-fraction", "1.5"), "--val-fraction 1.5"),
        (("--data", "{data}", "--model", "lenet-5", "--augment", "wild"), "--augment"),
        (("--data", "{data}", "--model", "lenet-5", "--fine-tune-from", "conv_99"), "conv_99"),
        (("--data", "{data}", "--model", "lenet-5", "--epochs", "0"), "no epoch"),
        (("--data", "{data}", "--model", "lenet-5", "--freeze-epochs", "2"), "--weights"),
        (("--data", "{data}", "--model", "lenet-5", "--fine-tune-from", "1.0"), "--fine-tune-from"),
        (("--resume",), "no run to resume"),
        (("--resume", "--epochs", "9"), "--epochs"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], says: str, shapes: Path, tmp_path: Path) -> None:
    filled = [argument.format(data=shapes) for argument in arguments]
    refused = edge("train", "classifier", "--run", tmp_path / "run", *filled)
    assert refused.exit_code == 2
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith("edge: ") and says in line


def test_a_run_that_never_began_leaves_its_folder_free(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for _ in range(2):  # the same message twice: the first try must not be mistaken for a run
        refused = edge("train", "classifier", "--run", run, "--data", shapes, "--model", "nothing")
        assert refused.exit_code == 2 and "nothing" in refused.stderr


def test_a_broken_picture_is_named(shapes: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("a", "b"):
        (tree / name).mkdir(parents=True)
        for number in range(3):
            (tree / name / f"{number}.png").write_bytes((shapes / "dark" / "0.png").read_bytes())
    (tree / "b" / "1.png").write_bytes(b"not a picture")
    refused = edge("train", "classifier", "--run", tmp_path / "run", "--data", tree, "--model", "lenet-5")
    assert refused.exit_code == 2 and "1.png" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
