"""How long a start takes and how much memory a model needs, each time in a process of its own.

This file is both sides: `cold_starts` asks, and `main` is what runs in the fresh process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import BackendError

_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from edge.benchmark.cold import main; main()"
_TIMEOUT_S = 300.0
KEYS = ("total_ms", "python_ms", "import_ms", "load_ms", "first_inference_ms", "peak_rss_mb", "model_rss_mb")


def cold_starts(job: dict[str, Any], count: int) -> dict[str, Any]:
    """Start a model several times, each in a new process, and return medians.

    Files are in the page cache after the first: what a cold disk adds is not measured.

    Args:
        job: path, threads, delegate, size_wh, overrides: as JSON takes them.
        count: Starts.

    Returns:
        The keys of `KEYS`: from starting Python to the first result, and its parts; the largest resident memory, and
        how much of it came with the model. Memory is None where the kernel does not tell.

    Raises:
        BackendError: The process failed.
    """
    rows = [_once(job) for _ in range(count)]
    known: dict[str, Any] = {"starts": count}
    for key in KEYS:
        values = [value for row in rows if (value := row[key]) is not None]
        known[key] = float(np.median(values)) if values else None
    return known


def _once(job: dict[str, Any]) -> dict[str, float | None]:
    # CLOCK_MONOTONIC is the same in all processes of a machine.
    began = time.monotonic()
    command = [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path), json.dumps(job)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(f"{job['path']}: a fresh process for it failed ({error})") from error
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.returncode or not lines:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BackendError(f"{job['path']}: a fresh process for it failed ({said[-1] if said else done.returncode})")
    row: dict[str, Any] = json.loads(lines[-1])
    started, finished = row.pop("started_s"), row.pop("finished_s")
    return {**row, "python_ms": (started - began) * 1e3, "total_ms": (finished - began) * 1e3}


def main() -> None:
    """Load a model and look at one picture; the parent reads the last line of stdout."""
    started = time.monotonic()
    job: dict[str, Any] = json.loads(sys.argv[2])
    from edge.backends.runtime import runtime
    from edge.benchmark.subject import open_variant
    from edge.benchmark.variant import Variant
    from edge.classifier import Classifier
    from edge.detector import Detector
    from edge.spec.resolve import Overrides

    runtime()
    imported, before = time.monotonic(), memory_mb("VmRSS")
    given = job["overrides"]
    labels = Path(given["labels"]) if given.get("labels") else None
    size = tuple(job["size_wh"]) if job["size_wh"] else None
    loaded = open_variant(
        Variant(Path(job["path"]), job["threads"], job["delegate"], size), Overrides(**{**given, "labels": labels})
    )
    whole = Detector(loaded).detect if loaded.spec.task == "detect" else Classifier(loaded).classify
    ready = time.monotonic()
    whole(np.full((job["frame_wh"][1], job["frame_wh"][0], 3), 114, np.uint8))
    finished = time.monotonic()
    peak = memory_mb("VmHWM") or memory_mb("VmRSS")
    row = {
        "started_s": started,
        "finished_s": finished,
        "import_ms": (imported - started) * 1e3,
        "load_ms": (ready - imported) * 1e3,
        "first_inference_ms": (finished - ready) * 1e3,
        "peak_rss_mb": peak,
        "model_rss_mb": None if peak is None or before is None else max(0.0, peak - before),
    }
    print(json.dumps(row), flush=True)
    # The result is out: a runtime that stumbles over its own end harms nothing.
    os._exit(0)


def memory_mb(name: str, file: Path = Path("/proc/self/status")) -> float | None:
    """Return a memory figure of this process in MB: "VmRSS" now, "VmHWM" at most since it began; None where unknown.

    (`ru_maxrss` would count what the parent had before this program was started.)
    """
    try:
        for line in file.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
