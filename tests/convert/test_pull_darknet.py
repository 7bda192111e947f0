"""`edge models pull` of a Darknet model: fetched, converted, and run by its name."""

from __future__ import annotations

import hashlib
import json
import os

import cv2
import numpy as np
import pytest
from darknet_reference import Weights, run, write
from networks import NETWORKS
from test_darknet_graph import image_for
from typer.testing import CliRunner
from webserver import serving

from edge.cli.app import app
from edge.spec.archive import read_tail
from edge.spec.resolve import METADATA_NAME
from edge.zoo.table import MODELS, PublicModel, Remote


def edge(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield server


@pytest.fixture
def dark(server, tmp_path, monkeypatch):
    """A tiny network with two classes on the server, in the table as dark-1.1."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = Weights()
    run(NETWORKS["two_heads"], image_for(NETWORKS["two_heads"]), weights)
    for file in write(tmp_path, NETWORKS["two_heads"], weights.array()):
        server.files[file.name] = file.read_bytes()
    server.files["two.names"] = b"cat\ndog\n"
    remote = {
        name: Remote(server.url(name), hashlib.sha256(data).hexdigest(), len(data))
        for name, data in server.files.items()
    }
    row = PublicModel(
        task="detect",
        classes=2,
        size_wh=(32, 32),
        licence="MIT",
        attribution="somebody",
        weights=remote["net.weights"],
        cfg=remote["net.cfg"],
        labels=remote["two.names"],
    )
    monkeypatch.setitem(MODELS, "dark-1.1", row)
    return row


def test_a_darknet_model_is_converted_once_and_runs_by_its_name(server, dark, tmp_path):
    code, out, said = edge("models", "pull", "dark-1.1")
    path = tmp_path / "cache" / "edge" / "dark-1.1.tflite"
    assert (code, out) == (0, f"{path}\n"), said
    assert said.splitlines()[0] == "dark-1.1: somebody; licence: MIT"
    assert said.splitlines()[-1] == "run it with: edge detect --model dark-1.1 --source photo.jpg"
    spec = json.loads(read_tail(path)[METADATA_NAME])
    assert (spec["name"], spec["labels"], spec["quantization"]) == ("dark-1.1", ["cat", "dog"], "float16")
    assert (spec["provenance"]["licence"], spec["provenance"]["attribution"]) == ("MIT", "somebody")
    assert spec["provenance"]["source_sha256"] == dark.weights.sha256
    assert spec["provenance"]["source"] == "net.cfg + net.weights" and "selftest" in spec
    assert sorted(os.listdir(path.parent)) == [".lock", "dark-1.1.tflite", "downloads"]
    assert os.listdir(path.parent / "downloads") == []
    made = path.stat().st_mtime_ns
    code, _, said = edge("models", "pull", "dark-1.1")
    assert code == 0 and said.startswith("already there")
    assert path.stat().st_mtime_ns == made and set(server.asked.values()) == {1}
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 64, 3), np.uint8))
    code, out, _ = edge(
        *("detect", "--model", "dark-1.1", "--source", tmp_path / "a.png", "--conf", "0", "--json", "-", "--quiet")
    )
    assert code == 0 and {found["name"] for found in json.loads(out)["detections"]} <= {"cat", "dog"}


def test_weights_that_do_not_fit_leave_no_model_and_one_line(server, dark, tmp_path, monkeypatch):
    data = server.files["net.weights"][:-4]
    server.files["short.weights"] = data
    short = Remote(server.url("short.weights"), hashlib.sha256(data).hexdigest(), len(data))
    row = PublicModel("detect", 2, (32, 32), "MIT", "somebody", short, cfg=dark.cfg, labels=dark.labels)
    monkeypatch.setitem(MODELS, "dark-1.1", row)
    code, out, said = edge("models", "pull", "dark-1.1")
    assert (code, out) == (2, "") and said.splitlines()[-1].startswith("edge: ") and "Traceback" not in said
    assert not (tmp_path / "cache" / "edge" / "dark-1.1.tflite").exists()
