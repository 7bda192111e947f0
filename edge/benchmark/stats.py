"""Times in a few numbers, and whether two sets of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

PERCENTILES = (5, 50, 90, 95, 99)
RESAMPLES = 4000
SAME = 0.05
"""Differences below this share are none that a user would notice."""

FEWEST_ROUNDS = 4
"""Rounds below which no interval is stated: there are too few ways to draw from them."""


def latency(samples_ms: Sequence[float]) -> dict[str, Any]:
    """Return times in the names of LiteRT's own benchmark tool, with percentiles 90 and 99 besides.

    Args:
        samples_ms: Milliseconds, at least one.
    """
    values = np.asarray(samples_ms, np.float64)
    p5, p50, p90, p95, p99 = np.percentile(values, PERCENTILES)
    named = {
        "avg_ms": values.mean(),
        "min_ms": values.min(),
        "max_ms": values.max(),
        "median_ms": p50,
        "std_ms": values.std(ddof=1) if len(values) > 1 else 0.0,
        "p5_ms": p5,
        "p90_ms": p90,
        "p95_ms": p95,
        "p99_ms": p99,
    }
    return {**{name: float(value) for name, value in named.items()}, "num_runs": len(values)}


def percentiles(samples_ms: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p95, p99 and max of times, at least one, in milliseconds."""
    values = np.asarray(samples_ms, np.float64)
    p50, p90, p95, p99 = np.percentile(values, PERCENTILES[1:])
    return {
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "max_ms": float(values.max()),
    }


def spread(rounds: Sequence[float]) -> float | None:
    """Return how far rounds lie apart: half of highest minus lowest, as a share of their median; None for one round."""
    middle = float(np.median(rounds)) if len(rounds) > 1 else 0.0
    return (max(rounds) - min(rounds)) / 2 / middle if middle > 0 else None


class Ratio(NamedTuple):
    """How one variant compares with another.

    Attributes:
        ratio: Time now by time then; below 1 is faster.
        low: Where its 95% interval begins; NaN where there are too few rounds for one.
        high: Where it ends.
    """

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What may be said of it.

        "faster" and "slower": all of the interval lies on one side of 1. "no difference": all of it lies within
        `SAME` of 1. "cannot tell": it holds 1, and differences that matter. "too few rounds": there is none.
        """
        if np.isnan(self.low):
            return "too few rounds"
        if self.high < 1:
            return "faster"
        if self.low > 1:
            return "slower"
        return "no difference" if 1 - SAME < self.low and self.high < 1 + SAME else "cannot tell"


def compare(new: Sequence[float], old: Sequence[float], seed: int = 0) -> Ratio:
    """Compare two measurements by their rounds.

    A round is drawn as a whole: inferences that follow each other share the clock, the temperature and the neighbours,
    so that two hundred of them are far fewer than two hundred independent ones, and an interval over them would be far
    too narrow. (Cluster bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.)

    Args:
        new: One time for each round, above 0.
        old: Likewise, of another measurement; as many or not.
        seed: Of the drawing.
    """
    a, b = np.asarray(new, np.float64), np.asarray(old, np.float64)
    ratio = float(np.median(a) / np.median(b))
    if min(len(a), len(b)) < FEWEST_ROUNDS:
        return Ratio(ratio, float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    drawn = np.median(random.choice(a, (RESAMPLES, len(a))), axis=1)
    drawn /= np.median(random.choice(b, (RESAMPLES, len(b))), axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Ratio(ratio, float(low), float(high))
