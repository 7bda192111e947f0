"""The fallback runtime for real: tflite-runtime, NumPy 1 and OpenCV 4 in an environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from environments import environment
from fixtures import FAMILIES, paint, tiny_detector

from edge.detector import Detector

ROOT = Path(__file__).resolve().parents[2]
CELLS = [("red", 0, 0), ("green", 3, 2), ("blue", 1, 1)]

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("tflite-runtime's last wheels are for Python 3.11")
    packages = ("tflite-runtime==2.14.0", "numpy<2", "opencv-python<4.12", "pydantic", "typer", "rich")
    return environment(tmp_path_factory.mktemp("venv"), *packages)


def edge(python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_same_boxes_as_litert(old_python: Path, tmp_path: Path, family: str, dtype: str) -> None:
    model = tiny_detector(family, dtype).save(tmp_path / "m.tflite")
    cv2.imwrite(str(tmp_path / "p.png"), paint(CELLS))
    done = edge(old_python, "detect", "--model", model, "--source", tmp_path / "p.png", "--json", "-", "--conf", 0.5)
    assert done.returncode == 0, done.stderr
    assert "tflite-runtime 2.14.0" in done.stderr
    found = json.loads(done.stdout)["detections"]
    expected, _ = Detector.load(model, conf=0.5).detect(paint(CELLS))
    assert len(found) == len(expected) == len(CELLS)
    for row, (xyxy, score, class_id, _) in zip(found, expected, strict=True):
        assert row["class"] == class_id and row["confidence"] == pytest.approx(score, abs=0.01)
        assert list(row["box"].values()) == pytest.approx(xyxy.tolist(), abs=0.6)


def test_a_model_that_is_cut_short_is_one_line(old_python: Path, tmp_path: Path) -> None:
    whole = tiny_detector().model
    (tmp_path / "m.tflite").write_bytes(whole[: len(whole) * 2 // 3])
    done = edge(old_python, "inspect", tmp_path / "m.tflite")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


def test_numpy_2_is_told_apart_from_no_runtime(old_python: Path, tmp_path: Path) -> None:
    """Run last: it breaks the environment. tflite-runtime then imports, and fails when it is used."""
    subprocess.run([old_python, "-m", "pip", "install", "-q", "--no-deps", "numpy>=2,<3"], check=True)
    done = edge(old_python, "inspect", tiny_detector().save(tmp_path / "m.tflite"))
    assert done.returncode == 2 and "no TFLite runtime works here" in done.stderr
    assert len(done.stderr.splitlines()) == 1
