"""Two measurements of the same variants, and what may be said of the difference."""

from __future__ import annotations

from typing import Any

from edge.benchmark import stats

METRICS = {"invoke": "inference", "sequential": "one by one", "pipelined": "pipelined", "throughput": "throughput"}
"""Mode -> what it is called; all of them compare as milliseconds, of an inference or of a frame."""


def compare_reports(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Compare a report with an earlier one, variant by variant.

    Returns:
        "rows": key, metric, old_ms, new_ms, ratio (new by old: below 1 is faster), low, high (its 95% interval; None
        where there are too few rounds), verdict. "only_new", "only_old": keys without a partner. "notes": what else
        differs between the two.
    """
    before = {row["key"]: row for row in old["results"]}
    now = {row["key"]: row for row in new["results"]}
    rows = []
    for key, row in now.items():
        for metric in METRICS if key in before else ():
            a, b = rounds_ms(row, metric), rounds_ms(before[key], metric)
            if a and b:
                rows.append(_row(key, metric, a, b))
    return {
        "old": old.get("created"),
        "rows": rows,
        "only_new": [key for key in now if key not in before],
        "only_old": [key for key in before if key not in now],
        "notes": _differences(new, old),
    }


def rounds_ms(row: dict[str, Any], metric: str) -> list[float]:
    """Return one time for each round of a variant; empty where that was not measured."""
    if metric == "invoke":
        return [float(ms) for ms in (row.get("latency") or {}).get("rounds_ms") or () if ms > 0]
    mode = (row.get("modes") or {}).get(metric) or {}
    return [1e3 / float(fps) for fps in mode.get("fps_rounds") or () if fps > 0]


def _row(key: str, metric: str, new: list[float], old: list[float]) -> dict[str, Any]:
    found = stats.compare(new, old)
    known = found.low == found.low
    return {
        "key": key,
        "metric": metric,
        "old_ms": _median(old),
        "new_ms": _median(new),
        "ratio": found.ratio,
        "low": found.low if known else None,
        "high": found.high if known else None,
        "verdict": found.verdict,
    }


def _median(values: list[float]) -> float:
    return stats.percentiles(values)["p50_ms"]


def _differences(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    said = []
    for what, path in (
        ("machine", ("machine", "model")),
        ("cores", ("machine", "cores")),
        ("runtime", ("runtime",)),
        ("edge", ("edge_version",)),
        ("source", ("source", "name")),
        ("picture size", ("source", "size_wh")),
        ("sink", ("settings", "sink")),
    ):
        a, b = _get(new, path), _get(old, path)
        if a != b:
            said.append(f"{what}: {b} then, {a} now")
    said += [f"the earlier measurement warned: {text}" for text in old.get("warnings") or ()]
    return said


def _get(report: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = report
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
