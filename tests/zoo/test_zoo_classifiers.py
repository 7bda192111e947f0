"""Classifiers as Keras, Teachable Machine and others write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures import constant_model
from tflite_builder import Builder

from edge.classifier import Classifier
from edge.errors import SpecError
from edge.spec.resolve import Overrides

PICTURE = np.full((40, 60, 3), 90, np.uint8)
LOGITS = np.array([[0.5, 3.0, 1.0, -2.0]], np.float32)
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum()


def graph_of(*tail: str) -> bytes:
    """Return a classifier of free batch whose logits go through the operators of `tail`."""
    graph = Builder()
    picture = graph.tensor("picture", (1, 16, 16, 3), signature=(-1, 16, 16, 3))
    # The sum of the picture times zero: the logits do come out of a matrix product.
    flat = graph.op("RESHAPE", [picture, graph.constant((1, 768), "int32")], (1, 768), signature=(-1, 768))
    made, width = graph.constant(np.zeros((4, 768))), 4
    made = graph.op("FULLY_CONNECTED", [flat, made, graph.constant(LOGITS[0])], (1, 4), "logits", signature=(-1, 4))
    for kind in tail:
        if kind == "SLICE":
            begin, size = graph.constant((0, 1), "int32"), graph.constant((1, 3), "int32")
            made, width = graph.op("SLICE", [made, begin, size], (1, 3), "sliced"), 3
        else:
            made = graph.op(kind, [made], (1, width), kind, signature=(-1, width), **OPTIONS.get(kind, {}))
    return graph.build([picture], [made])


OPTIONS = {"SOFTMAX": {"beta": 1.0}}


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ((), SOFTMAX[0]),
        (("SOFTMAX",), SOFTMAX[0]),
        (("LOGISTIC",), 1 / (1 + np.exp(-LOGITS[0]))),
        # A background class that is cut away behind the softmax leaves probabilities, not logits.
        (("SOFTMAX", "SLICE"), SOFTMAX[0, 1:]),
    ],
    ids=["logits", "softmax", "sigmoid", "softmax-slice"],
)
def test_scores_become_probabilities_once(tail: tuple[str, ...], expected: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(graph_of(*tail))
    with pytest.raises(SpecError, match=r"--input-range.*-1\.\.1"):
        Classifier.load(path, threads=1)
    found, _ = Classifier.load(path, Overrides(input_range="-1..1"), threads=1).classify(PICTURE)
    order = np.argsort(-expected, kind="stable")
    assert list(found.class_id) == order.tolist()
    np.testing.assert_allclose(found.score, expected[order], atol=1e-5)


def test_teachable_machine_with_its_numbered_labels(tmp_path: Path) -> None:
    path, labels = tmp_path / "model_unquant.tflite", tmp_path / "labels.txt"
    path.write_bytes(graph_of("SOFTMAX"))
    labels.write_text("0 Class 1\n1 Class 2\n2 My class\n3 d\n")
    classifier = Classifier.load(path, Overrides(input_range="-1..1", labels=labels), top=1, threads=1)
    found, _ = classifier.classify(PICTURE)
    assert [classifier.spec.label(i) for i in found.class_id] == ["Class 2"]


def test_a_free_input_size_is_asked_for_and_taken_from_a_description(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(constant_model({"scores": SOFTMAX}, (1, -1, -1, 3)))
    with pytest.raises(SpecError, match=r"free size.*input\.size_wh.*--attach"):
        Classifier.load(path, Overrides(input_range="0..1"), threads=1)
    description = {"name": "m", "task": "classify", "input": {"size_wh": [48, 32]}, "decoder": {"name": "classifier"}}
    path.with_suffix(".json").write_text(json.dumps(description))
    classifier = Classifier.load(path, top=1, threads=1)
    assert classifier.backend.input.shape == (1, 32, 48, 3)
    assert classifier.classify(PICTURE)[0].class_id == (1,)


def test_a_stateful_network_remembers_the_frames_before(tmp_path: Path) -> None:
    graph = Builder()
    picture = graph.tensor("picture", (1, 16, 16, 3))
    flat = graph.op("RESHAPE", [picture, graph.constant((1, 768), "int32")], (1, 768))
    features = graph.constant(np.repeat(LOGITS.T / 768, 768, axis=1))
    times = graph.constant(np.ones((4, 3)))  # the sum of this frame and the two before
    memory = graph.tensor("memory", (1, 12), variable=True)
    scores = graph.op("SVDF", [flat, features, times, -1, memory], (1, 4), "scores", rank=1)
    path = tmp_path / "model.tflite"
    path.write_bytes(graph.build([picture], [scores]))
    overrides = Overrides(decoder="classifier", input_range="0..1")
    classifier = Classifier.load(path, overrides, threads=1)
    white = np.full((16, 16, 3), 255, np.uint8)
    for frames in (1, 2, 3, 3):
        expected = np.exp(LOGITS[0] * frames)
        expected = np.sort(expected / expected.sum())[::-1]
        np.testing.assert_allclose(classifier.classify(white)[0].score, expected, atol=1e-5)
