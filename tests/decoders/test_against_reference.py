"""Every decoder gives what the plain loops give, on float and on quantised outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from heads import CASES, decoder, draw, infos
from reference import Case, Row

from edge.decoders.base import Candidates
from edge.tensor import TensorInfo


def expected(
    case: Case, tensors: dict[str, TensorInfo], raw: dict[str, npt.NDArray[Any]], multi_label: bool
) -> list[Row]:
    real = {}
    for role, info in tensors.items():
        values = raw[info.name]
        if info.quantized:
            values = (values.astype(np.float32) - np.float32(info.zero_point)) * np.float32(info.scale)
        real[role] = values.astype(np.float64)
    return list(case.rows(real, multi_label))


def check(found: Candidates, rows: list[Row], conf: float) -> int:
    """Compare without regard to order; a score within rounding of the threshold may be in or out."""
    assert found.xyxy.dtype == np.float32 and found.score.dtype == np.float32 and found.class_id.dtype == np.int32
    assert found.xyxy.shape == (len(found.score), 4) and found.class_id.shape == found.score.shape
    assert (found.score >= np.float32(conf)).all()
    slack = 1e-5
    sure = sorted(row for row in rows if row[4] >= conf + slack)
    possible = [row for row in rows if row[4] >= conf - slack]
    got = sorted(
        (*map(float, xyxy), float(score), int(index))
        for xyxy, score, index in zip(found.xyxy, found.score, found.class_id, strict=True)
    )
    for some, others in ((sure, got), (got, possible)):
        table = np.array(others).reshape(-1, 6)
        for row in some:
            near = np.isclose(table, np.minimum(row, [np.inf] * 4 + [1.0, np.inf]), rtol=1e-4, atol=2e-3).all(axis=1)
            close = near | np.isclose(table, row, rtol=1e-4, atol=2e-3).all(axis=1)
            assert close.any(), f"{row} is missing"
    assert len(sure) <= len(got) <= len(possible)
    return len(got)


@pytest.mark.parametrize("multi_label", [False, True], ids=["best", "multi"])
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16"])
@pytest.mark.parametrize("name", CASES)
def test_decoder_equals_the_plain_loops(name: str, dtype: str, multi_label: bool) -> None:
    case = CASES[name]
    tensors = infos(case, dtype)
    decode = decoder(case, tensors)
    total = 0
    for seed, conf in enumerate((0.05, 0.25, 0.6, 0.9)):
        raw = draw(case, tensors, np.random.default_rng(seed))
        total += check(decode(raw, conf, multi_label), expected(case, tensors, raw, multi_label), conf)
    assert total > 0


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_nothing_passes_a_threshold_of_one_and_everything_a_threshold_of_zero(name: str, dtype: str) -> None:
    case = CASES[name]
    tensors = infos(case, dtype)
    decode = decoder(case, tensors)
    raw = {
        key: (value * 0.5).astype(value.dtype) for key, value in draw(case, tensors, np.random.default_rng(3)).items()
    }
    rows = [row for row in expected(case, tensors, raw, False) if row[4] >= 0]
    assert len(decode(raw, 0.0).score) == len(rows)
    few = [row for row in rows if row[4] >= 1 - 1e-5]
    assert len(decode(raw, 1.0).score) <= len(few)


@pytest.mark.parametrize("name", CASES)
def test_results_own_their_memory(name: str) -> None:
    case = CASES[name]
    tensors = infos(case)
    raw = draw(case, tensors, np.random.default_rng(1))
    before = {key: value.copy() for key, value in raw.items()}
    found = decoder(case, tensors)(raw, 0.1)
    assert len(found.score)
    for key, value in raw.items():
        assert not any(np.shares_memory(column, value) for column in found)
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("name", CASES)
def test_numbers_that_are_none_neither_warn_nor_come_out(name: str, value: float) -> None:
    case = CASES[name]
    tensors = infos(case)
    decode = decoder(case, tensors)
    rng = np.random.default_rng(2)
    raw = draw(case, tensors, rng)
    for array in raw.values():
        array.ravel()[rng.random(array.size) < 0.2] = value
    for multi_label in (False, True):
        found = decode(raw, 0.2, multi_label)
        assert np.isfinite(found.xyxy).all() and np.isfinite(found.score).all()
        assert (found.score <= 1).all()
    for array in raw.values():
        array.fill(value)
    assert np.isfinite(decode(raw, 0.2).xyxy).all()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.family != "end2end"])
def test_the_first_of_equal_classes_wins(name: str) -> None:
    case = CASES[name]
    tensors = infos(case)
    raw = {info.name: np.full(info.shape, 0.75 if not case.logits else 0.5, np.float32) for info in tensors.values()}
    found = decoder(case, tensors)(raw, 0.1)
    assert len(found.score) and (found.class_id == 0).all()
    every = decoder(case, tensors)(raw, 0.1, True)
    assert len(every.score) == len(found.score) * case.classes
