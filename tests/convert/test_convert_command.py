"""`edge convert` as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
from darknet_reference import Weights, run, write
from networks import NETWORKS
from test_darknet_graph import image_for
from typer.testing import CliRunner

from edge.classifier import Classifier
from edge.cli.app import app
from edge.detector import Detector
from edge.spec.archive import read_tail
from edge.spec.resolve import METADATA_NAME


@pytest.fixture
def darknet(tmp_path, monkeypatch):
    """Give a function that writes `<name>.cfg`, `.weights` and two labels into the working folder."""
    monkeypatch.chdir(tmp_path)

    def make(name):
        weights = Weights()
        run(NETWORKS[name], image_for(NETWORKS[name]), weights)
        cfg, file = write(tmp_path, NETWORKS[name], weights.array())
        (tmp_path / "two.names").write_text("cat\ndog\n")
        return cfg.rename(tmp_path / f"{name}.cfg"), file.rename(tmp_path / f"{name}.weights")

    return make


def edge(*words):
    """Run the command in this process; give its exit code, and what it said on stdout and stderr."""
    done = CliRunner().invoke(app, ["convert", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def metadata(path):
    return json.loads(read_tail(path)[METADATA_NAME])


def test_detector_describes_itself_and_runs(darknet, tmp_path):
    cfg, weights = darknet("two_heads")
    code, out, said = edge(cfg, weights, "--labels", "two.names", "--licence", "MIT", "--attribution", "me")
    assert (code, out) == (0, "")
    assert "in 1 XNNPACK partition" in said
    for name in ("head_0", "head_1"):
        assert f"{name}: float32" in said
    spec = metadata(tmp_path / "two_heads_float32.tflite")
    assert (spec["name"], spec["labels"], spec["quantization"]) == ("two_heads", ["cat", "dog"], "float32")
    assert spec["provenance"]["licence"] == "MIT"
    assert spec["provenance"]["attribution"] == "me"
    assert spec["provenance"]["created_by"].startswith("edge ")
    assert len(spec["provenance"]["source_sha256"]) == 64
    found = Detector.load(tmp_path / "two_heads_float32.tflite", conf=0.0)
    detections, _ = found.detect(np.zeros((48, 64, 3), np.uint8))
    assert len(detections) > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "two.names",
        "two_heads.cfg",
        "two_heads.weights",
        "two_heads_float32.tflite",
    ]


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_int8_through_the_runtime(io, darknet, tmp_path, pictures):
    cfg, _ = darknet("classifier")
    assert edge(cfg, "--to", "float32", "--out", "float.tflite")[0] == 0
    given = ("--to", "int8", "--io", io, "--calibrate", pictures, "--out", "int8.tflite", "--json")
    code, out, _ = edge(cfg, *given)
    assert code == 0
    facts = json.loads(out)
    assert (facts["mode"], facts["calibration_images"]) == ("int8", 12)
    assert facts["partitions"] == (2 if io == "float32" else 1)  # SOFTMAX, then the way back to float
    image = cv2.imread(str(sorted(pictures.rglob("*.png"))[5]))
    scores = []
    for name in ("float.tflite", "int8.tflite"):
        result, _ = Classifier.load(tmp_path / name, top=4).classify(image)
        scores.append(dict(zip(result.class_id, result.score, strict=True)))
    assert set(scores[0]) == set(scores[1])
    assert all(abs(scores[0][index] - scores[1][index]) < 0.05 for index in scores[0])


def test_another_size_name_and_fit(darknet, tmp_path):
    cfg, _ = darknet("dropout")
    given = ("--size", "64x32", "--name", "small", "--resize", "stretch", "--out", "out.tflite")
    assert edge(cfg, *given)[0] == 0
    spec = metadata(tmp_path / "out.tflite")
    assert (spec["name"], spec["input"]["size_wh"], spec["input"]["resize"]) == ("small", [64, 32], "stretch")


def test_existing_file_is_kept_without_force(darknet, tmp_path):
    cfg, weights = darknet("dropout")
    (tmp_path / "out.tflite").write_bytes(b"precious")
    code, _, message = edge(cfg, "--out", "out.tflite")
    assert code == 2
    assert "out.tflite exists; pass --force" in message
    assert (tmp_path / "out.tflite").read_bytes() == b"precious"
    assert edge(cfg, "--out", "out.tflite", "--force")[0] == 0
    assert (tmp_path / "out.tflite").read_bytes() != b"precious"
    before = weights.read_bytes()
    code, _, message = edge(cfg, "--out", weights, "--force")
    assert code == 2
    assert "is an input itself" in message
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        (["none.cfg"], "cannot read none.cfg"),
        (["none.keras"], "cannot read none.keras"),
        (["dropout.weights"], "pass the .cfg first"),
        (["dropout.cfg", "none.weights"], "cannot read none.weights"),
        (["dropout.cfg", "--to", "int4"], "unknown quantisation 'int4'"),
        (["dropout.cfg", "--to", "int8"], "give a folder of typical ones with --calibrate"),
        (["dropout.cfg", "--to", "int8", "--calibrate", "none"], "--calibrate none: expected a folder"),
        (["dropout.cfg", "--io", "int8"], "float32 has float32 input and outputs"),
        (["dropout.cfg", "--size", "64"], "--size '64': expected width x height"),
        (["dropout.cfg", "--size", "0x64"], "--size '0x64': expected width x height"),
        (["dropout.cfg", "--size", "65x64"], "needs multiples of 32"),
        (["dropout.cfg", "--labels", "none"], "none: the labels cannot be read"),
        (["dropout.cfg", "--anchors", "1,2,3"], "--anchors '1,2,3': expected pairs"),
        (["dropout.cfg", "--anchors", "a,b"], "--anchors 'a,b': expected pairs"),
        (["dropout.cfg", "--strides", "8,x"], "--strides '8,x': expected numbers"),
        (["dropout.cfg", "--resize", "squash"], "flag --resize"),
        (["dropout.cfg", "--decoder", "yolov8"], "--decoder is for Keras models"),
        (["dropout.cfg", "--out", "no/where.tflite"], "does not exist"),
    ],
)
def test_bad_arguments_say_one_line_and_write_nothing(arguments, telling, darknet, tmp_path):
    darknet("dropout")
    before = sorted(tmp_path.iterdir())
    code, _, message = edge(*arguments)
    assert code == 2
    assert telling in message
    assert message.startswith("edge: ")
    assert message.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_broken_calibration_picture_is_named(darknet, tmp_path, pictures):
    cfg, _ = darknet("dropout")
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "zz.jpg").write_bytes(b"not a picture")
    code, _, message = edge(cfg, "--to", "int8", "--calibrate", folder)
    assert code == 2
    assert "zz.jpg: expected a picture to calibrate on" in message
    assert message.count("\n") == 1
    assert not list(tmp_path.glob("*.tflite"))


def test_keras_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = keras.Input((32, 32, 3))
    keras.Model(image, keras.layers.Conv2D(14, 8, strides=8)(image)).save("head.keras")
    given = ("--decoder", "yolo_anchors", "--anchors", "4,5 6.5,7", "--input-range", "-1..1", "--color", "BGR")
    assert edge("head.keras", *given, "--strides", "8")[0] == 0
    spec = metadata(tmp_path / "head_float32.tflite")
    assert spec["decoder"]["params"]["anchors"] == [[[4, 5], [6.5, 7]]]
    assert (spec["input"]["mean"], spec["input"]["color"]) == ([127.5], "BGR")


def test_command_line_is_one_line_on_failure_and_names_what_is_missing(tmp_path):
    # A wheel brings `edge` without `convert`: run where that package, and TensorFlow, cannot be found.
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('convert', 'tensorflow', 'keras'): raise ModuleNotFoundError(name=name)\n"
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, p=None: None if n in ('convert', 'tensorflow', 'keras') else find(n, p)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "sys.argv = ['edge', 'convert', 'net.cfg']\n"
        "import runpy\n"
        "runpy.run_module('edge', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={**os.environ}
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "needs convert, tensorflow, keras" in done.stderr
    assert "pip install -e '.[convert]'" in done.stderr
