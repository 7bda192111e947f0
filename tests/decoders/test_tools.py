"""Thresholds in a tensor's own values, and the other shared pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.decoders.tools import BoxUnit, best_class, finish, logit, passes, sigmoid, softmax
from edge.tensor import TensorInfo

scales = st.floats(2.0**-20, 8, width=32)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    dtype=st.sampled_from(["int8", "uint8"]),
    scale=scales,
    zero_point=st.integers(-128, 255),
    real=st.one_of(st.floats(-20, 20), st.sampled_from([0.0, 0.001, 0.25, 0.5, 1.0, -math.inf, math.inf])),
)
def test_comparing_integers_equals_dequantising_first(dtype: str, scale: float, zero_point: int, real: float) -> None:
    info = TensorInfo("t", (256,), np.dtype(dtype), scale, zero_point)
    limits = np.iinfo(info.dtype)
    values = np.arange(limits.min, limits.max + 1).astype(info.dtype)
    np.testing.assert_array_equal(passes(values, info, real), info.dequantize(values) >= np.float32(real))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(scale=scales, level=st.integers(-128, 127))
def test_a_threshold_that_is_exactly_a_level_lets_it_pass(scale: float, level: int) -> None:
    info = TensorInfo("t", (256,), np.dtype("int8"), scale, -3)
    values = np.arange(-128, 128).astype(np.int8)
    real = float(info.dequantize(np.array([level], np.int8))[0])
    np.testing.assert_array_equal(passes(values, info, real), values >= level)


def test_float_tensors_are_compared_as_they_are() -> None:
    info = TensorInfo("t", (3,), np.dtype("float32"))
    assert passes(np.array([0.1, 0.5, np.nan], np.float32), info, 0.5).tolist() == [False, True, False]


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_logit_is_no_higher_than_the_sigmoid_needs(probability: float) -> None:
    exact = math.log(probability / (1 - probability))
    assert exact - 1e-3 < logit(probability) <= exact


def test_logit_of_the_ends() -> None:
    assert logit(0) == -math.inf
    assert sigmoid(np.array([logit(1)], np.float32))[0] == pytest.approx(1, abs=1e-6)


def test_sigmoid_and_softmax() -> None:
    x = np.array([[-2.0, 0.0, 3.0], [1.0, 1.0, 1.0]], np.float32)
    np.testing.assert_allclose(sigmoid(x), 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-6)
    np.testing.assert_allclose(softmax(x).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(softmax(x)[1], 1 / 3, rtol=1e-6)


def test_best_class_takes_the_first_of_equals_and_all_when_asked() -> None:
    scores = np.array([[0.2, 0.9, 0.9], [0.1, 0.1, 0.0], [0.5, 0.4, 0.6]], np.float32)
    row, chosen, score = best_class(scores, 0.4, False)
    assert row.tolist() == [0, 2] and chosen.tolist() == [1, 2]
    assert score == pytest.approx([0.9, 0.6])
    row, chosen, score = best_class(scores, 0.4, True)
    assert list(zip(row.tolist(), chosen.tolist(), strict=True)) == [(0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]


def test_finish_drops_what_is_not_finite_and_limits_scores() -> None:
    xyxy = np.array([[0, 0, 1, 1], [0, np.nan, 1, 1], [0, 0, np.inf, 1]], np.float32)
    found = finish(xyxy, np.array([1.01, 0.5, 0.5], np.float32), np.array([2, 1, 0]))
    assert found.xyxy.tolist() == [[0, 0, 1, 1]]
    assert found.score.tolist() == [1.0] and found.class_id.tolist() == [2]


@pytest.mark.parametrize(
    ("boxes", "scaled"),
    [
        ([[0.1, 0.1, 0.9, 0.9]], True),
        ([[-0.2, 0.0, 1.1, 1.3]], True),
        ([[10, 10, 50, 40]], False),
        ([[0, 0, 3, 3]], False),
        # A box may be several times as large as a small input: its centre tells.
        ([[-2.5, -2.0, 3.5, 3.0]], True),
        # One wild box does not turn the picture round.
        ([[0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.4, 0.4], [0.0, 0.0, 7.0, 7.0]], True),
    ],
)
def test_the_unit_of_boxes_is_measured(boxes: list[list[float]], scaled: bool) -> None:
    given_boxes = np.array(boxes, np.float32)
    found = BoxUnit("auto", (200, 100), "yolov8").to_pixels(given_boxes.copy())
    np.testing.assert_allclose(found, given_boxes * ((200, 100, 200, 100) if scaled else 1))


def test_the_measured_unit_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    unit = BoxUnit("auto", (200, 100), "yolov8")
    with caplog.at_level("INFO"):
        for _ in range(3):
            unit.to_pixels(np.array([[0.1, 0.1, 0.9, 0.9]], np.float32))
    assert [record.getMessage() for record in caplog.records] == ["decoder yolov8: the boxes look normalized"]
