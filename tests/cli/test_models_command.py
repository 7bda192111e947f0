"""`edge models` as a user runs it."""

from __future__ import annotations

import importlib.util
import json

import pytest
from typer.testing import CliRunner

import models
from edge.cli.app import app

ROWS = ("lenet-5", "mobilenet-v2-0.35", "yolov3-tiny")


def edge(*words):
    """Run the command in this process; give its exit code, and what it said on stdout and stderr."""
    done = CliRunner().invoke(app, ["models", *words], env={"COLUMNS": "80"})
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def few(monkeypatch):
    """All networks take ten seconds to build."""
    monkeypatch.setattr(models, "MODELS", {name: models.MODELS[name] for name in ROWS})


def test_list_shows_what_each_network_costs_in_80_columns(few):
    code, out, said = edge("list")
    assert (code, said) == (0, "")
    heading, *rows = out.splitlines()
    assert heading.split() == ["name", "task", "parameters", "MACs", "input", "weights"]
    cells = {row.split()[0]: " ".join(row.split()[1:]) for row in rows}
    assert cells == {
        "lenet-5": "classify 61,706 417 k 32 x 32 x 1",
        "mobilenet-v2-0.35": "classify 1,691,208 59.3 M 224 x 224 x 3 imagenet",
        "yolov3-tiny": "detect 8,858,734 2.78 G 416 x 416 x 3",
    }
    assert max(map(len, out.splitlines())) <= 80 and "…" not in out


def test_list_as_json(few):
    code, out, _ = edge("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and tuple(rows) == ROWS
    assert rows["yolov3-tiny"] == {
        "name": "yolov3-tiny",
        "task": "detect",
        "parameters": 8_858_734,
        "trainable": 8_852_366,
        "macs": 2_782_480_896,
        "input_shape": [416, 416, 3],
        "classes": 80,
        "pretrained": False,
        "source": "Redmon, Farhadi 2018",
    }


def test_summary_shows_the_layers():
    code, out, _ = edge("summary", "lenet-5")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "layer type output parameters MACs"
    assert lines[2] == "c1 Conv2D 28 x 28 x 6 156 118 k"
    assert lines[3] == "s2 AveragePooling2D 14 x 14 x 6"
    assert lines[-2].startswith("lenet-5 (LeCun et al. 1998): 61,706 parameters, 61,706 of them trainable, 417 k")
    facts = json.loads(edge("summary", "lenet-5", "--json")[1])
    assert facts["parameters"] == sum(layer["parameters"] for layer in facts["layers"]) == 61_706
    assert facts["layers"][3] == {
        "name": "c3",
        "kind": "Conv2D",
        "output_shape": [10, 10, 16],
        "parameters": 2_416,
        "trainable": 2_416,
        "macs": 240_000,
    }


def test_a_misspelt_name_is_one_line_with_the_right_one():
    code, out, said = edge("summary", "resnet50")
    assert (code, out) == (2, "")
    assert said.startswith("edge: no network is called 'resnet50'; did you mean resnet-50 or ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [("list",), ("summary", "lenet-5")])
def test_without_tensorflow_it_says_how_to_get_it(words, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else found(name))
    code, out, said = edge(*words)
    assert (code, out) == (2, "")
    assert said == (
        "edge: edge models runs on a workstation and needs tensorflow: in a checkout of this project, run "
        "pip install -e '.[convert]'\n"
    )
