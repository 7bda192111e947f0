"""Scores become probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge.decoders import CLASSIFIERS, Score
from edge.errors import SpecError
from edge.spec import DecoderSpec, InputSpec, ModelSpec
from edge.tensor import TensorInfo

LOGITS = np.array([[1.0, 3.0, -2.0]], np.float32)


def build(info: TensorInfo, labels: tuple[str, ...] = (), **params: Any) -> Score:
    decoder = DecoderSpec(name="classifier", params=params)
    spec = ModelSpec(name="c", task="classify", input=InputSpec(), decoder=decoder, labels=labels)
    return CLASSIFIERS["classifier"](spec, (8, 8), {info.name: info})


def float_info(*shape: int) -> TensorInfo:
    return TensorInfo("scores", shape, np.dtype("float32"))


@pytest.mark.parametrize("activation", ["softmax", "auto"])
def test_logits_go_through_softmax(activation: str) -> None:
    found = build(float_info(1, 3), activation=activation)({"scores": LOGITS})
    exact = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    assert found.dtype == np.float32


def test_independent_classes_go_through_sigmoid() -> None:
    found = build(float_info(1, 3), activation="sigmoid")({"scores": LOGITS})
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-LOGITS[0])), rtol=1e-6)


@pytest.mark.parametrize("activation", ["none", "auto"])
@pytest.mark.parametrize("shape", [(1, 3), (3,), (1, 1, 1, 3), (1, 3, 1, 1)])
def test_probabilities_stay(activation: str, shape: tuple[int, ...]) -> None:
    given = np.array([0.2, 0.7, 0.1], np.float32).reshape(shape)
    found = build(float_info(*shape), activation=activation)({"scores": given})
    np.testing.assert_allclose(found, [0.2, 0.7, 0.1])
    assert not np.shares_memory(found, given)


def test_quantised_scores_are_dequantised() -> None:
    info = TensorInfo("scores", (1, 4), np.dtype("uint8"), 1 / 256, 0)
    found = build(info)({"scores": np.array([[0, 64, 128, 255]], np.uint8)})
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 255 / 256])


@pytest.mark.filterwarnings("error")
def test_scores_that_are_no_number_count_as_nothing() -> None:
    given = np.array([[np.nan, 2.0, np.nan]], np.float32)
    assert build(float_info(1, 3))({"scores": given}).tolist() == [0, 2, 0]
    assert np.isfinite(build(float_info(1, 3), activation="softmax")({"scores": given})).all()


@pytest.mark.parametrize(
    ("activation", "given", "expected"), [("auto", 2.0, 0.8808), ("auto", 0.3, 0.3), ("none", 0.3, 0.3)]
)
def test_one_score_of_two_classes_is_the_second_one(activation: str, given: float, expected: float) -> None:
    scores = {"scores": np.array([[given]], np.float32)}
    assert build(float_info(1, 1), activation=activation)(scores) == pytest.approx([expected], abs=1e-4)
    found = build(float_info(1, 1), ("cat", "dog"), activation=activation)(scores)
    assert found == pytest.approx([1 - expected, expected], abs=1e-4)


def test_a_softmax_of_one_score_is_refused() -> None:
    with pytest.raises(SpecError, match="expected sigmoid"):
        build(float_info(1, 1), activation="softmax")
