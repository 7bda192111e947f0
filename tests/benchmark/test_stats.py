from __future__ import annotations

import math

import numpy as np
import pytest

from edge.benchmark import stats
from edge.benchmark.rounds import interleaved, share


def test_latency_has_the_names_of_litert_and_the_values_of_numpy() -> None:
    times = [float(n) for n in range(1, 101)]
    found = stats.latency(times)
    assert found["num_runs"] == 100
    assert found["avg_ms"] == pytest.approx(50.5)
    assert (found["min_ms"], found["max_ms"]) == (1, 100)
    assert found["median_ms"] == pytest.approx(50.5)
    assert found["p5_ms"] == pytest.approx(5.95)
    assert found["p90_ms"] == pytest.approx(90.1)
    assert found["p95_ms"] == pytest.approx(95.05)
    assert found["p99_ms"] == pytest.approx(99.01)
    assert found["std_ms"] == pytest.approx(float(np.std(times, ddof=1)))


def test_one_sample_has_no_deviation() -> None:
    assert stats.latency([3.0])["std_ms"] == 0
    assert stats.percentiles([3.0]) == dict.fromkeys(("p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms"), 3.0)


def test_spread_is_half_the_distance_and_unknown_for_one_round() -> None:
    assert stats.spread([9.0, 10.0, 13.0]) == pytest.approx(0.2)
    assert stats.spread([5.0]) is None
    assert stats.spread([]) is None


def test_a_clear_difference_is_told_with_an_interval_around_the_ratio() -> None:
    found = stats.compare([8.0, 8.1, 7.9, 8.0, 8.2], [10.0, 10.1, 9.9, 10.0, 10.2])
    assert found.ratio == pytest.approx(0.8)
    assert found.low < 0.8 < found.high < 1
    assert found.verdict == "faster"
    assert stats.compare([10.0, 10.1, 9.9, 10.0], [8.0, 8.1, 7.9, 8.0]).verdict == "slower"


def test_the_same_times_are_no_difference() -> None:
    times = [10.0, 10.1, 9.9, 10.05, 9.95]
    found = stats.compare(times, times)
    assert found.ratio == 1
    assert found.verdict == "no difference"


def test_times_that_scatter_tell_nothing() -> None:
    assert stats.compare([5.0, 20.0, 9.0, 12.0], [6.0, 18.0, 10.0, 11.0]).verdict == "cannot tell"


def test_three_rounds_are_too_few_for_an_interval() -> None:
    found = stats.compare([1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0])
    assert found.ratio == 0.5
    assert math.isnan(found.low) and math.isnan(found.high)
    assert found.verdict == "too few rounds"


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        # Each measurement's rounds scatter by a tenth; the second machine is truly a fifth slower.
        new, old = random.normal(1.2, 0.1, 12), random.normal(1.0, 0.1, 12)
        found = stats.compare(new.tolist(), old.tolist(), seed)
        held += found.low <= 1.2 <= found.high
    assert held >= 176


def test_variants_alternate_and_take_turns_in_being_first() -> None:
    order = list(interleaved(3, 4))
    assert order == [(r, (t + r) % 3) for r in range(4) for t in range(3)]
    for number in range(4):
        assert sorted(which for r, which in order if r == number) == [0, 1, 2]
    assert [which for _, which in order][::3] == [0, 1, 2, 0]
    # None ever has two turns in a row, which would let it find its own caches warm.
    turns = [which for _, which in order]
    assert all(a != b for a, b in zip(turns[:-1], turns[1:], strict=True))


def test_rounds_together_have_all_runs() -> None:
    assert share(200, 5) == 40
    assert share(7, 3) * 3 >= 7
    assert share(1, 5) == 1
