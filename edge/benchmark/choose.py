"""Which of the measured ways to run a model suits a device: the rule, and the reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge.benchmark import words

SAME_ACCURACY = 0.005
"""Half a point of mAP: less is chance on a few hundred pictures."""

SAME_CPU = 0.1
"""A tenth more or less CPU time is no reason for more interpreters."""

_MODES = ("pipelined", "throughput")


@dataclass(frozen=True)
class Candidate:
    """A way to run a model.

    Attributes:
        row: Of the report.
        mode: "pipelined": one interpreter; "throughput": several with one thread each.
        interpreters: How many.
        threads: Of each.
        fps: Frames per second of its slowest round: what it is sure to keep.
        accuracy: 0..1; None where the file carries none.
        cpu_ms: CPU time of a frame.
        age_ms: 95th percentile of the age of results behind a camera; None where it was not measured.
        why_not: Why it was not chosen; None for the chosen one.
    """

    row: dict[str, Any]
    mode: str
    interpreters: int
    threads: int
    fps: float | None
    accuracy: float | None
    cpu_ms: float | None
    age_ms: float | None
    why_not: str | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return words.short(self.row)


def candidates(report: dict[str, Any]) -> list[Candidate]:
    """Return the ways that were measured, and those that failed."""
    found: list[Candidate] = []
    seen = set()
    for row in report["results"]:
        accuracy = words.accuracy(row)
        for mode in _MODES:
            measured = row["modes"].get(mode)
            if not measured:
                if mode == "pipelined":
                    problem = row["problem"] or "was not measured"
                    found.append(Candidate(row, mode, 1, row["num_threads"], None, accuracy, None, None, problem))
                continue
            several = measured.get("interpreters") or 1
            threads = 1 if mode == "throughput" else row["num_threads"]
            # Throughput does not depend on the threads that are swept: it stands in several rows.
            key = (row["model"], row["delegate"], tuple(row["swept_wh"] or ()), mode, threads)
            if key in seen:
                continue
            seen.add(key)
            age = (row["modes"].get("live") or {}).get("age") if mode == "pipelined" else None
            found.append(
                Candidate(
                    row,
                    mode,
                    several if mode == "throughput" else 1,
                    threads,
                    min(measured["fps_rounds"], default=None),
                    accuracy,
                    measured["cpu_ms_per_frame"],
                    None if age is None else age["p95_ms"],
                    row["problem"],
                )
            )
    return found


def choose(found: Sequence[Candidate], target_fps: float, min_accuracy: float | None) -> list[Candidate]:
    """Return the candidates, the chosen one first where there is one, each of the others with a reason.

    Of those that keep the rate in every round and are accurate enough, the most accurate is chosen; of several that
    are equally accurate, within `SAME_ACCURACY`, the one that needs the least CPU time for a frame, which leaves most
    room and makes least heat; of several that need about the same, within `SAME_CPU`, the one with the fewest
    interpreters and threads, which needs the least memory.

    Args:
        found: Of `candidates`.
        target_fps: Frames per second that are needed, of all cameras together.
        min_accuracy: 0..1; None where any will do.
    """
    fit: list[Candidate] = []
    out: list[Candidate] = []
    for candidate in found:
        reason = candidate.why_not or _refusal(candidate, target_fps, min_accuracy)
        if reason is None:
            fit.append(candidate)
        else:
            out.append(_because(candidate, reason))
    if not fit:
        return sorted(out, key=_nearness, reverse=True)
    best = max(candidate.accuracy or 0.0 for candidate in fit)
    equal = [candidate for candidate in fit if (candidate.accuracy or 0.0) >= best - SAME_ACCURACY]
    least = min(candidate.cpu_ms or 0.0 for candidate in equal)
    frugal = [candidate for candidate in equal if (candidate.cpu_ms or 0.0) <= least * (1 + SAME_CPU)]
    chosen = min(frugal, key=lambda one: (one.interpreters, one.threads, one.cpu_ms or 0.0))
    others = [_because(candidate, _worse(candidate, chosen, equal)) for candidate in fit if candidate is not chosen]
    others.sort(key=lambda candidate: (-(candidate.accuracy or 0.0), candidate.cpu_ms or 0.0))
    return [chosen, *others, *sorted(out, key=_nearness, reverse=True)]


def _refusal(candidate: Candidate, target_fps: float, min_accuracy: float | None) -> str | None:
    if min_accuracy is not None and candidate.accuracy is None:
        return "carries no accuracy"
    if min_accuracy is not None and (candidate.accuracy or 0.0) < min_accuracy:
        return f"accuracy {candidate.accuracy:.3f}, below {min_accuracy:g}"
    if candidate.fps is None or candidate.fps < target_fps:
        return f"{words.number(candidate.fps)} fps, below {target_fps:g}"
    return None


def _worse(candidate: Candidate, chosen: Candidate, equal: Sequence[Candidate]) -> str:
    if candidate not in equal:
        return "fits; less accurate"
    factor = candidate.cpu_ms / chosen.cpu_ms if candidate.cpu_ms and chosen.cpu_ms else 1.0
    if factor > 1 + SAME_CPU:
        return f"fits; {factor:.2f} x the CPU time"
    return "fits; no better, and more of it"


def _nearness(candidate: Candidate) -> tuple[float, float]:
    return candidate.fps or 0.0, candidate.accuracy or 0.0


def _because(candidate: Candidate, reason: str) -> Candidate:
    return replace(candidate, why_not=reason)
