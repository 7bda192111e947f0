"""Scores become probabilities, and a localiser's box pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge.decoders import CLASSIFIERS
from edge.decoders.base import Classify
from edge.errors import SpecError
from edge.spec import DecoderSpec, InputSpec, ModelSpec
from edge.tensor import TensorInfo

LOGITS = np.array([[1.0, 3.0, -2.0]], np.float32)


def build(info: TensorInfo, labels: tuple[str, ...] = (), **params: Any) -> Classify:
    decoder = DecoderSpec(name="classifier", params=params)
    spec = ModelSpec(name="c", task="classify", input=InputSpec(), decoder=decoder, labels=labels)
    return CLASSIFIERS["classifier"](spec, (8, 8), {info.name: info})


def scores_of(head: Classify, raw: np.ndarray) -> np.ndarray:
    found = head({"scores": raw})
    assert len(found.score) == 1 and found.xyxy is None
    return found.score[0]


def float_info(*shape: int) -> TensorInfo:
    return TensorInfo("scores", shape, np.dtype("float32"))


@pytest.mark.parametrize("activation", ["softmax", "auto"])
def test_logits_go_through_softmax(activation: str) -> None:
    found = scores_of(build(float_info(1, 3), activation=activation), LOGITS)
    exact = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    assert found.dtype == np.float32


def test_independent_classes_go_through_sigmoid() -> None:
    found = scores_of(build(float_info(1, 3), activation="sigmoid"), LOGITS)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-LOGITS[0])), rtol=1e-6)


@pytest.mark.parametrize("activation", ["none", "auto"])
@pytest.mark.parametrize("shape", [(1, 3), (3,), (1, 1, 1, 3), (1, 3, 1, 1)])
def test_probabilities_stay(activation: str, shape: tuple[int, ...]) -> None:
    given = np.array([0.2, 0.7, 0.1], np.float32).reshape(shape)
    found = scores_of(build(float_info(*shape), activation=activation), given)
    np.testing.assert_allclose(found, [0.2, 0.7, 0.1])
    assert not np.shares_memory(found, given)


def test_quantised_scores_are_dequantised() -> None:
    info = TensorInfo("scores", (1, 4), np.dtype("uint8"), 1 / 256, 0)
    found = scores_of(build(info), np.array([[0, 64, 128, 255]], np.uint8))
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 255 / 256])


@pytest.mark.filterwarnings("error")
def test_scores_that_are_no_number_count_as_nothing() -> None:
    given = np.array([[np.nan, 2.0, np.nan]], np.float32)
    assert scores_of(build(float_info(1, 3)), given).tolist() == [0, 2, 0]
    assert np.isfinite(scores_of(build(float_info(1, 3), activation="softmax"), given)).all()


@pytest.mark.parametrize(
    ("activation", "given", "expected"), [("auto", 2.0, 0.8808), ("auto", 0.3, 0.3), ("none", 0.3, 0.3)]
)
def test_one_score_of_two_classes_is_the_second_one(activation: str, given: float, expected: float) -> None:
    scores = np.array([[given]], np.float32)
    assert scores_of(build(float_info(1, 1), activation=activation), scores) == pytest.approx([expected], abs=1e-4)
    found = scores_of(build(float_info(1, 1), ("cat", "dog"), activation=activation), scores)
    assert found == pytest.approx([1 - expected, expected], abs=1e-4)


def test_a_softmax_of_one_score_is_refused() -> None:
    with pytest.raises(SpecError, match="expected sigmoid"):
        build(float_info(1, 1), activation="softmax")


@pytest.mark.parametrize("activation", ["none", "auto", "softmax", "sigmoid"])
@pytest.mark.parametrize("classes", [1, 3])
def test_each_picture_of_a_batch_is_read_as_if_it_were_alone(activation: str, classes: int) -> None:
    if (classes, activation) == (1, "softmax"):
        return
    logits = np.random.default_rng(0).normal(0, 3, (6, classes)).astype(np.float32)
    # Half of them are probabilities already, which "auto" tells picture by picture.
    logits[::2] = np.exp(logits[::2]) / np.exp(logits[::2]).sum(axis=1, keepdims=True)
    head = build(float_info(1, classes), ("no", "yes") if classes == 1 else (), activation=activation)
    many = head({"scores": logits}).score
    assert many.shape == (6, max(2, classes))
    for row, found in zip(logits, many, strict=True):
        np.testing.assert_array_equal(found, scores_of(head, row[None]))


def localizer(box: TensorInfo) -> Classify:
    decoder = DecoderSpec(name="localizer", outputs={"scores": "scores", "box": "box"})
    spec = ModelSpec(name="l", task="classify", input=InputSpec(), decoder=decoder)
    return CLASSIFIERS["localizer"](spec, (200, 100), {"scores": float_info(1, 3), "box": box})


@pytest.mark.filterwarnings("error")
def test_boxes_are_pixels_of_the_input_with_their_corners_in_order() -> None:
    head = localizer(TensorInfo("box", (1, 4), np.dtype("float32")))
    given = [[0.1, 0.2, 0.5, 0.6], [0.5, 0.6, 0.1, 0.2], [0.5, 0.2, 0.1, 0.6], [-0.5, 0, 2, 1], [np.nan, 0, 1, 1]]
    found = head({"scores": np.ones((5, 3), np.float32), "box": np.array(given, np.float32)})
    assert found.xyxy is not None and found.xyxy.dtype == np.float32
    np.testing.assert_allclose(found.xyxy[:3], [[20, 20, 100, 60]] * 3, rtol=1e-5)
    np.testing.assert_allclose(found.xyxy[3], [-100, 0, 400, 100], rtol=1e-5)
    assert np.isnan(found.xyxy[4]).any()


def test_a_quantised_box_is_dequantised() -> None:
    head = localizer(TensorInfo("box", (1, 4), np.dtype("int8"), 1 / 256, -128))
    found = head({"scores": np.ones((1, 3), np.float32), "box": np.array([[-128, -64, 0, 64]], np.int8)})
    np.testing.assert_allclose(found.xyxy, [[0, 25, 100, 75]])


@pytest.mark.parametrize("shape", [(1, 5), (2, 2), (1,), (), (1, 4, 4)])
def test_a_box_has_four_values(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match=r"'box': expected shape \(1, 4\)"):
        localizer(TensorInfo("box", shape, np.dtype("float32")))
