"""What turns say together, and what makes them doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.benchmark import stats
from edge.benchmark.measure import Turn

DOUBTFUL_SPREAD = 0.1
"""Rounds that lie further apart than this, to either side, are worth a warning."""


def mode_row(turns: Sequence[Turn]) -> dict[str, Any]:
    """Return what the turns of one mode say together, at least one of them."""
    counted = [turn for turn in turns if turn.frames and turn.elapsed_s > 0] or list(turns)
    rates = [turn.frames / turn.elapsed_s for turn in counted if turn.elapsed_s > 0]
    frames = sum(turn.frames for turn in counted)
    stages: dict[str, list[float]] = {}
    for turn in counted:
        for stage, values in turn.stage_ms.items():
            stages.setdefault(stage, []).extend(values)
    samples = [ms for turn in counted for ms in turn.samples_ms]
    ages = [ms for turn in counted for ms in turn.age_ms]
    dropped = sum(turn.dropped for turn in counted)
    return {
        "frames": frames,
        "fps": float(np.median(rates)) if rates else None,
        "fps_rounds": rates,
        "spread": stats.spread(rates),
        "cpu_ms_per_frame": 1e3 * sum(turn.cpu_s for turn in counted) / frames if frames else None,
        "found_per_frame": sum(turn.found for turn in counted) / frames if frames else None,
        "dropped": dropped,
        "frame": stats.percentiles(samples) if samples else None,
        "age": stats.percentiles(ages) if ages else None,
        "stages": {stage: stats.percentiles(values) for stage, values in stages.items()},
    }


def doubts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say what makes a comparison of these variants doubtful."""
    said = []
    shaky = {row["key"]: (row["latency"] or {}).get("spread") or 0.0 for row in rows}
    worst = max(shaky, key=lambda key: shaky[key], default=None)
    if worst is not None and shaky[worst] > DOUBTFUL_SPREAD:
        said.append(
            f"rounds differ by up to {shaky[worst]:.0%} to either side ({worst}): smaller differences between variants "
            "mean nothing"
        )
    data = {row["accuracy"]["dataset"] for row in rows if row.get("accuracy")}
    if len(data) > 1:
        said.append(f"accuracies were measured on different data and do not compare: {'; '.join(sorted(data))}")
    return said
