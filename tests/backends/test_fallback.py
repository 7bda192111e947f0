"""An accelerator that fails while it is loaded, while the model is prepared, or in the middle of a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from c_delegate import build_delegate
from fixtures import SIZE_WH, described, paint, tiny_classifier, tiny_detector
from media import film
from tflite_builder import compiled
from typer.testing import CliRunner

from edge.backends.factory import open_backend
from edge.cli.app import app
from edge.detector import Detector
from edge.errors import BackendError, InputError, ModelFileError
from edge.loader import load_model
from edge.spec.archive import with_tail

CELLS = [("red", 0, 0), ("green", 3, 2)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_delegate(tmp_path_factory.mktemp("delegate"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("fail=create&say=busy", "refused to start (busy)"),
        ("fail=prepare", "does not fit the device"),
        ("fail=invoke", "the device is gone"),
        ("fail=invoke&after=2", "the device is gone"),
    ],
)
def test_the_cpu_goes_on(
    library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, options: str, says: str
) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    with caplog.at_level(logging.WARNING):
        model = load_model(path, delegate=f"{library}?{options}", fallback=True)
        detector = Detector(model, conf=0.5)
        found = [detector.detect(paint(CELLS[: 1 + i % 2]))[0].class_id.tolist() for i in range(5)]
    # The frame that it failed on is not lost.
    assert found == [[0], [0, 1], [0], [0, 1], [0]]
    assert says in model.backend.failure and "CPU" in model.backend.description
    (line,) = [record.getMessage() for record in caplog.records]
    assert says in line and line.endswith("continuing on the CPU with m.tflite") and "\n" not in line
    model.backend.close()


def test_nothing_is_said_of_one_that_works(library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = open_backend(tiny_detector().save(tmp_path / "m.tflite"), delegate=str(library), fallback=True)
    backend.infer(lambda tensor: None)
    assert backend.failure is None and "libd.so" in backend.description and not caplog.records


def test_what_is_no_failure_of_the_accelerator_is_raised(library: Path, tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    with pytest.raises(InputError, match="expected cpu, gpu, edgetpu"):
        open_backend(path, delegate="tpu", fallback=True)
    with pytest.raises(ModelFileError, match="no such model file"):
        open_backend(tmp_path / "none.tflite", delegate=str(library), fallback=True)
    backend = open_backend(path, fallback=True)
    kept = backend.infer(lambda tensor: None)
    with pytest.raises(BackendError, match="inference failed"):  # a view is alive: a bug, not a device that is gone
        backend.infer(lambda tensor: None)
    assert kept and backend.failure is None


@pytest.mark.parametrize("delegate", ["edgetpu", "edgetpu:usb", "cpu"])
def test_an_edge_tpu_file_finds_its_twin(tmp_path: Path, delegate: str) -> None:
    tiny = tiny_detector("anchor_free", "int8")
    tiny.save(tmp_path / "m.tflite")
    path = tmp_path / "m_edgetpu.tflite"
    path.write_bytes(with_tail(compiled(tiny.model), {"metadata.json": tiny.spec.model_dump_json().encode()}))
    model = load_model(path, delegate=delegate, fallback=True)
    assert Detector(model, conf=0.5).detect(paint(CELLS))[0].class_id.tolist() == [0, 1]
    assert ("libedgetpu.so.1" if "edgetpu" in delegate else "needs its delegate") in model.backend.failure
    with pytest.raises(BackendError, match="libedgetpu1-std|--delegate edgetpu"):
        load_model(path, delegate=delegate)


def test_an_edge_tpu_file_without_its_twin(tmp_path: Path) -> None:
    path = tmp_path / "m_edgetpu.tflite"
    path.write_bytes(compiled(tiny_detector("anchor_free", "int8").model))
    with pytest.raises(BackendError, match="libedgetpu1-std.*and on the CPU: .*compiled for the Edge TPU"):
        open_backend(path, delegate="edgetpu", fallback=True)
    with pytest.raises(BackendError, match="--delegate edgetpu"):
        open_backend(path, fallback=True)


def test_a_twin_that_is_another_model(library: Path, tmp_path: Path) -> None:
    tiny_detector("yolov8").save(tmp_path / "other.tflite")
    path = tmp_path / "m.tflite"
    path.write_bytes(described(tiny_detector(), cpu_twin="other.tflite"))
    backend = open_backend(path, delegate=f"{library}?fail=invoke", fallback=True)
    with pytest.raises(BackendError, match=r"device is gone.*other\.tflite is no twin of .*its tensors differ"):
        backend.infer(lambda tensor: None)


def test_the_size_that_was_given_stays(library: Path, tmp_path: Path) -> None:
    path = tiny_classifier(any_batch=True).save(tmp_path / "c.tflite")
    # It takes two parts of this network, and so runs twice for a picture.
    backend = open_backend(path, delegate=f"{library}?fail=invoke&after=2", fallback=True)
    shape = (4, SIZE_WH[1], SIZE_WH[0], 3)
    backend.resize(shape)
    for failed in (False, True, True):
        scores = backend.infer(lambda tensor: tensor.fill(0.5))["scores"]
        assert scores.shape == (4, 3) and np.allclose(scores.sum(axis=1), 1)
        assert (backend.failure is not None) == failed
        del scores
    assert backend.input.shape == shape


@pytest.fixture
def street(tmp_path: Path) -> Path:
    return film(tmp_path / "street.mkv", (paint([("red", i % 4, 1)]) for i in range(12)), 12.5, SIZE_WH, "FFV1")


def test_a_run_that_loses_its_device(library: Path, street: Path, tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    words = ["detect", "--model", path, "--source", street, "--delegate", f"{library}?fail=invoke&after=5"]
    done = CliRunner().invoke(app, [*map(str, words), "--json", str(tmp_path / "a.jsonl")])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(12))
    assert [row.get("fallback", False) for row in rows] == [False] * 5 + [True] * 7
    assert all([d["name"] for d in row["detections"]] == ["red"] for row in rows)
    assert "7 of them on the CPU: the accelerator failed" in done.stderr


def test_a_run_that_may_not_go_on(library: Path, street: Path, tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    words = ["detect", "--model", path, "--source", street, "--delegate", f"{library}?fail=invoke&after=5"]
    target = tmp_path / "a.jsonl"
    done = CliRunner().invoke(app, [*map(str, words), "--no-fallback", "--quiet", "--json", str(target)])
    assert done.exit_code == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge: ") and "the device is gone" in line
    assert len(target.read_text().splitlines()) == 5


def test_classify_goes_on_too(library: Path, tmp_path: Path) -> None:
    path = tiny_classifier().save(tmp_path / "c.tflite")
    cv2.imwrite(str(tmp_path / "p.png"), np.full((96, 128, 3), (0, 0, 255), np.uint8))
    words = ["classify", "--model", path, "--source", tmp_path / "p.png", "--delegate", f"{library}?fail=create"]
    done = CliRunner().invoke(app, [*map(str, words), "--json", "-"])
    row = json.loads(done.stdout)
    assert done.exit_code == 0 and row["fallback"] and row["classes"][0]["name"] == "red"
