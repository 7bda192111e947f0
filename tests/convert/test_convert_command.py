"""`edge convert` as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from darknet_reference import Weights, run, write
from media import small_disk
from networks import NETWORKS
from test_darknet_graph import image_for
from typer.testing import CliRunner

import convert.repair
from convert.calibration import CalibrationImages
from convert.quantize import quantize
from convert.rescue import Rescued, Trial
from convert.selftest_pictures import MAX_CANDIDATES, draw_picture
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


@pytest.fixture
def colors(tmp_path, monkeypatch):
    """A Keras model that names the strongest colour, and a folder of pictures that it is right about."""
    monkeypatch.chdir(tmp_path)
    image = keras.Input((16, 16, 3))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    layer = keras.layers.Dense(3, activation="softmax", use_bias=False)
    model = keras.Model(image, layer(mean))
    layer.set_weights([8 * np.eye(3, dtype=np.float32)])
    model.save("colors.keras")
    names = ("red", "green", "blue")
    Path("names").write_text("\n".join(names))
    for i, name in enumerate(names):
        folder = tmp_path / "tree" / name
        folder.mkdir(parents=True)
        for level in range(60, 256, 60):
            picture = np.full((16, 16, 3), 30, np.uint8)
            picture[..., 2 - i] = level
            cv2.imwrite(str(folder / f"{level}.png"), picture)
    return "colors.keras", "--input-range", "0..1", "--labels", "names", "--data", "tree"


def test_accuracy_goes_into_the_file(colors, tmp_path):
    code, out, said = edge(*colors, "--to", "float16", "--out", "half.tflite", "--json")
    assert (code, said) == (0, "")
    facts = json.loads(out)
    spec = metadata(tmp_path / "half.tflite")
    gate = spec["conversion"]["gate"]
    assert facts["spec"]["conversion"]["gate"] == gate
    assert (gate["metric"], gate["reference"], gate["value"], gate["drop"]) == ("top1", 1.0, 1.0, 0.0)
    assert (gate["dataset"], gate["images"], gate["max_drop"]) == ("tree", 12, 1.0)
    assert [row["dataset"] for row in spec["accuracy"]] == ["tree, 12 images, float32", "tree, 12 images, float16"]


def test_what_lost_too_much_is_kept_aside(colors, tmp_path):
    # Calibrated on black pictures, everything brighter saturates.
    (tmp_path / "black").mkdir()
    cv2.imwrite(str(tmp_path / "black" / "0.png"), np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "out.tflite").write_bytes(b"precious")
    given = (*colors, "--target", "edgetpu", "--calibrate", "black", "--out", "out.tflite", "--force")
    code, out, message = edge(*given, "--report", "report.html")
    assert (code, out) == (4, "")
    assert message.count("\n") == 1
    for telling in ("out.tflite refused: top1 is 0.", "1.0000 (tree, 12 pictures)", "out.tflite.rejected"):
        assert telling in message
    assert (tmp_path / "out.tflite").read_bytes() == b"precious"
    spec = metadata(tmp_path / "out.tflite.rejected")
    assert spec["conversion"]["gate"]["drop"] > 1
    assert (spec["conversion"]["target"], spec["conversion"]["calibration_images"]) == ("edgetpu", 1)
    assert "refused" in (tmp_path / "report.html").read_text()
    assert "the report is report.html" in message and "(chosen: int8, the Edge TPU computes" in message
    code, _, message = edge(*colors, "--to", "float16", "--out", "again.tflite", "--report", "report.html")
    # A report is kept like any other file, and what was refused before is gone once another is accepted.
    assert code == 2 and "report.html exists" in message
    (tmp_path / "half.tflite.rejected").touch()
    assert edge(*colors, "--to", "float16", "--out", "half.tflite")[0] == 0
    assert not (tmp_path / "half.tflite.rejected").exists()
    (tmp_path / "half.tflite.rejected").mkdir()
    assert edge(*colors, "--to", "float16", "--out", "half.tflite", "--force")[0] == 0, "a folder is nobody's file"
    assert edge(*given, "--max-drop", "100")[0] == 0
    assert metadata(tmp_path / "out.tflite")["quantization"] == "int8"


def test_a_report_that_cannot_be_written_costs_no_model(colors, tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        with (disk / "rest").open("wb", buffering=0) as rest, suppress(OSError):
            while rest.write(bytes(4096)):
                pass
        code, _, message = edge(*colors, "--to", "float16", "--out", "half.tflite", "--report", disk / "r.html")
    assert code == 2 and message.count("\n") == 1
    assert "No space left" in message and "half.tflite was written" in message
    assert metadata(tmp_path / "half.tflite")["conversion"]["gate"]["value"] == 1.0


def test_named_repairs_are_applied_and_the_file_checks_itself(darknet, tmp_path, pictures):
    cfg, _ = darknet("two_heads")
    code, _, said = edge(cfg, "--to", "int8", "--calibrate", pictures, "--rescue", "head-scales", "--out", "out.tflite")
    assert code == 0
    assert "head_0_xy: int8" in said
    spec = metadata(tmp_path / "out.tflite")
    assert spec["conversion"] == {"steps": ["head-scales"], "calibration_images": 12}
    assert set(spec["decoder"]["outputs"]) == {
        f"head_{i}_{part}" for i in (0, 1) for part in ("xy", "wh", "obj", "cls")
    }
    assert [head["name"] for head in spec["selftest"]["heads"]] == list(spec["decoder"]["outputs"])
    done = CliRunner().invoke(app, ["verify", "out.tflite"])
    assert done.exit_code == 0


@pytest.mark.parametrize("better", [True, False])
def test_auto_rescue_takes_what_passes_and_refuses_what_is_not_enough(better, colors, tmp_path, monkeypatch):
    (tmp_path / "black").mkdir()
    cv2.imwrite(str(tmp_path / "black" / "0.png"), np.zeros((16, 16, 3), np.uint8))

    def rescue_auto(model, samples, judge, io, mixed, plan):
        assert plan.minutes == 3
        # One step that helps, or one that does not: calibrated on real pictures, or on the same black ones.
        real = CalibrationImages(tmp_path / "tree", model.spec.input, model.input_shape)
        content = quantize(model, "int8", real if better else samples, io)
        verdict = judge(content, model.spec)
        assert verdict.passed == better
        assert not mixed
        done = Trial("mse-ranges", "did it", verdict.value, verdict.why)
        trials = (Trial("head-scales", "no head to split"), done)
        return Rescued(content, model.spec, ("mse-ranges",), trials, verdict)

    monkeypatch.setattr(convert.repair, "rescue_auto", rescue_auto)
    given = ("--target", "edgetpu", "--calibrate", "black", "--out", "out.tflite", "--rescue", "auto")
    given += ("--rescue-minutes", 3)
    code, out, said = edge(*colors, *given, "--report", "report.html", "--json")
    assert "ranges by" not in said
    report = (tmp_path / "report.html").read_text()
    assert "mse-ranges" in report and ("0.00 points lost, 1 allowed; enough" in report) == better
    if not better:
        assert code == 4
        assert "the repairs were not enough" in said
        return
    assert code == 0
    assert metadata(tmp_path / "out.tflite")["conversion"]["steps"] == ["mse-ranges"]
    tried = json.loads(out)["tried"]
    assert [row["value"] for row in tried] == [None, 1.0]
    assert tried[1]["why"] == "0.00 points lost, 1 allowed; enough"


def test_calibration_pictures_stay_out_of_the_file_where_they_are_to(darknet, tmp_path, pictures):
    cfg, _ = darknet("two_heads")
    drawn = [cv2.imencode(".png", draw_picture(seed))[1].tobytes() for seed in range(MAX_CANDIDATES)]
    drawn = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) for png in drawn]
    for flag, theirs in ((), 2), (("--no-selftest-pictures",), 0):
        code, _, said = edge(cfg, "--to", "int8", "--calibrate", pictures, "--out", "out.tflite", "--force", *flag)
        assert code == 0
        assert ("shows parts of calibration pictures" in " ".join(said.split())) == bool(theirs)
        held = [content for name, content in read_tail(tmp_path / "out.tflite").items() if name.endswith(".png")]
        held = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) for png in held]
        assert len(held) == 3
        assert sum(not any(holds(whole, part) for whole in drawn) for part in held) == theirs
        assert CliRunner().invoke(app, ["verify", "out.tflite"]).exit_code == 0


def holds(whole, part):
    """Whether a picture is cut out of another one's middle."""
    top, left = ((a - b) // 2 for a, b in zip(whole.shape[:2], part.shape[:2], strict=True))
    return np.array_equal(whole[top : top + part.shape[0], left : left + part.shape[1]], part)


def test_cpu_target_prints_both_times(darknet, tmp_path):
    cfg, _ = darknet("classifier")
    code, _, said = edge(cfg, "--target", "cpu")
    assert code == 0
    said = " ".join(said.split())
    spec = metadata(tmp_path / "classifier_cpu.tflite")
    assert spec["quantization"] in ("weight-only", "float32")
    assert spec["conversion"] == {"target": "cpu", "steps": [], "calibration_images": 0}
    for telling in ("target cpu: weight-only", "ms, float32", "rounds in turn", f"mode {spec['quantization']}"):
        assert telling in said


def test_unlabelled_pictures_compare_with_float_and_calibrate(darknet, pictures):
    cfg, _ = darknet("classifier")
    code, _, said = edge(cfg, "--target", "edgetpu", "--data", pictures / "more", "--max-drop", "100")
    assert code == 0
    said = " ".join(said.split())
    for telling in ("agreement", "a weaker measure than accuracy", "calibrated on the pictures that it is measured on"):
        assert telling in said
    for telling in ("operators map to the Edge TPU", "edgetpu_compiler --show_operations classifier_int8.tflite"):
        assert telling in said


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
        (["dropout.cfg", "--to", "int8", "--target", "cpu"], "give only one of them"),
        (["dropout.cfg", "--target", "toaster"], "unknown target 'toaster'; expected one of cpu, gpu, edgetpu"),
        (["dropout.cfg", "--target", "edgetpu"], "needs pictures to calibrate on"),
        (["dropout.cfg", "--target", "edgetpu", "--io", "float32", "--calibrate", "x"], "takes int8 or uint8 input"),
        (["dropout.cfg", "--rescue", "auto", "--data", "."], "--rescue repairs int8 models, not float32"),
        (["dropout.cfg", "--rescue", "auto", "--target", "cpu", "--data", "."], "--rescue repairs int8 models"),
        (["dropout.cfg", "--to", "int8", "--calibrate", ".", "--rescue", "auto"], "--rescue auto measures"),
        (["dropout.cfg", "--to", "int8", "--calibrate", ".", "--rescue", "magic"], "unknown step 'magic'"),
        (
            ["dropout.cfg", "--target", "edgetpu", "--calibrate", ".", "--rescue", "mixed-precision"],
            "--rescue mixed-precision leaves layers in float",
        ),
        (["dropout.cfg", "--rescue-minutes", "3"], "--rescue-minutes bounds the training among the repairs"),
        (
            ["dropout.cfg", "--to", "int8", "--calibrate", ".", "--rescue", "fine-tuning", "--rescue-minutes", "-1"],
            "--rescue-minutes -1: expected minutes from 0 on",
        ),
        (["dropout.cfg", "--annotations", "x.json"], "--annotations needs --data"),
        (["dropout.cfg", "--report", "x.html"], "--report needs --data"),
        (["dropout.cfg", "--max-drop", "0.1"], "--max-drop needs --data"),
        (["dropout.cfg", "--data", "none"], "--data none: expected a folder of pictures, found no folder"),
        (["dropout.cfg", "--data", ".", "--max-drop", "-1"], "--max-drop -1: expected points from 0 to 100"),
        (["dropout.cfg", "--data", ".", "--report", "dropout.weights"], "expected a name that ends in .html"),
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
        (["dropout.cfg", "--out", "out"], "--out out: expected a name that ends in .tflite"),
        (["dropout.cfg", "--out", "two.names", "--force"], "--out two.names: expected a name that ends in .tflite"),
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
