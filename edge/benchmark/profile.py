"""Which operators of a model take the time.

LiteRT's Python classes have no profiler; its shared library, which is in the same wheel, has one, and a C interface to
it (litert/c/litert_profiler.h and litert_compiled_model.h). XNNPACK times its own operators for it, after they were
fused: a convolution with its activation is one. A call through an interface that may change from version to version can
crash, so that it is made in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.benchmark.variant import Variant

_CHILD = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from edge.benchmark.profile_child import main; main()"
)
_TIMEOUT_S = 120.0
RUNS = 30
TOP = 15


def profile(variant: Variant, runs: int = RUNS) -> dict[str, Any]:
    """Return the median time of each operator.

    Returns:
        "problem": why there is no profile, or None; "operators": name, node and median milliseconds of each, the
        slowest first; "total_ms": their sum; "invoke_ms": the whole inference, with the profiler's own cost.
    """
    if variant.delegate != "cpu" or variant.size_wh is not None:
        return _none("operators are timed on the CPU alone, at the size that the file has")
    job = {"path": str(variant.path), "threads": variant.threads, "runs": runs}
    command = [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path), json.dumps(job)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _none(f"the process that times operators failed ({error})")
    lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith('{"events"')]
    if not lines:
        if done.returncode < 0:
            return _none(f"this runtime's profiler crashed ({signal.Signals(-done.returncode).name})")
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return _none(said[-1].removeprefix("edge: ") if said else "this runtime has no profiler")
    found: dict[str, Any] = json.loads(lines[-1])
    return summarised(found["events"], found["invoke_ms"])


def summarised(runs: Sequence[Sequence[tuple[str, int, float]]], invoke_ms: Sequence[float]) -> dict[str, Any]:
    """Return medians over runs.

    Args:
        runs: For each run the events: name, node, milliseconds.
        invoke_ms: What each run took as a whole.
    """
    times: dict[tuple[str, int], list[float]] = {}
    for events in runs:
        for name, node, ms in events:
            times.setdefault((name, node), []).append(ms)
    operators: list[dict[str, Any]] = [
        {"name": name, "node": node, "median_ms": float(np.median(values))} for (name, node), values in times.items()
    ]
    operators.sort(key=lambda row: -float(row["median_ms"]))
    total = sum(row["median_ms"] for row in operators)
    for row in operators:
        row["share"] = row["median_ms"] / total if total > 0 else 0.0
    return {
        "problem": None if operators else "this runtime's profiler saw no operators",
        "operators": operators,
        "total_ms": total,
        "invoke_ms": float(np.median(invoke_ms)) if len(invoke_ms) else None,
        "runs": len(runs),
    }


def by_kind(operators: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return operators of one name together: name, count, milliseconds, share; the slowest first."""
    kinds: dict[str, dict[str, Any]] = {}
    for row in operators:
        kind = kinds.setdefault(row["name"], {"name": row["name"], "count": 0, "median_ms": 0.0, "share": 0.0})
        kind["count"] += 1
        kind["median_ms"] += row["median_ms"]
        kind["share"] += row["share"]
    return sorted(kinds.values(), key=lambda row: -float(row["median_ms"]))


def _none(problem: str) -> dict[str, Any]:
    return {"problem": problem, "operators": [], "total_ms": None, "invoke_ms": None, "runs": 0}


def library_path() -> str | None:
    """Return LiteRT's shared library; None where this runtime has none."""
    from importlib.util import find_spec

    spec = find_spec("ai_edge_litert")
    if spec is None or spec.origin is None:
        return None
    path = os.path.join(os.path.dirname(spec.origin), "libLiteRt.so")
    return path if os.path.isfile(path) else None
