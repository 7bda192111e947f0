"""Machines made of files, reports made of numbers, a model of free size: what tests of the benchmark share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fixtures import CLASSES, Tiny
from tflite_builder import Builder

from edge.benchmark import stats
from edge.device import DeviceReadings
from edge.spec import DecoderSpec, InputSpec, ModelSpec

QUIET = DeviceReadings({}, {}, {}, {})


class Clock:
    """A clock that goes on by a step at each look."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


def write_proc(root: Path, busy: int, own: int, steal: int = 0, name: str = "edge (b) x") -> None:
    """Write /proc/stat and /proc/self/stat with ticks of 10 ms."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/stat").write_text(f"cpu  {busy} 0 0 99999 12 0 0 {steal} 0 0\ncpu0 1 2 3 4\nintr 5\n")
    rest = " ".join(["0"] * 10)
    (root / "proc/self/stat").write_text(f"77 ({name}) R {rest} {own} 0 0 0 20 0 1 0 5 6 7\n")


def free_size_detector() -> Tiny:
    """Return a detector of coloured cells that takes a picture of any size."""
    graph = Builder()
    picture = graph.tensor("picture", (1, 1, 1, 3), signature=(1, -1, -1, 3))
    pool = {"strideW": 32, "strideH": 32, "filterWidth": 32, "filterHeight": 32, "padding": 1}
    cells = graph.op("AVERAGE_POOL_2D", [picture], (1, 1, 1, 3), signature=(1, -1, -1, 3), **pool)
    weights = np.zeros((8, 1, 1, 3), np.float32)
    weights[5:, 0, 0] = np.where(np.eye(3), 16.0, -16.0)
    bias = np.array([0, 0, 0, 0, 8, -8, -8, -8], np.float32)
    head = graph.op(
        "CONV_2D",
        [cells, graph.constant(weights), graph.constant(bias)],
        (1, 1, 1, 8),
        "head",
        signature=(1, -1, -1, 8),
        strideW=1,
        strideH=1,
        padding=1,
    )
    spec = ModelSpec(
        name="free",
        task="detect",
        input=InputSpec(size_wh=(128, 96)),
        decoder=DecoderSpec(
            name="yolo_anchors",
            outputs={"head_0": "head"},
            params={"anchors": [[[32, 32]]], "strides": [32], "classes": 3},
        ),
        labels=CLASSES,
    )
    return Tiny(graph.build([picture], [head]), spec)


def result_row(name: str = "a.tflite", ms: float = 4.0, **changes: Any) -> dict[str, Any]:
    """Return a row of a report as a measurement writes it, with four rounds around a time."""
    rounds = [ms * factor for factor in (0.99, 1.0, 1.0, 1.01)]
    mode = {
        "frames": 40,
        "fps": 1e3 / ms,
        "fps_rounds": [1e3 / value for value in rounds],
        "spread": 0.01,
        "cpu_ms_per_frame": ms,
        "found_per_frame": 1.5,
        "dropped": 0,
        "frame": stats.percentiles(rounds),
        "age": stats.percentiles(rounds),
        "stages": {"invoke": stats.percentiles(rounds), "nms": stats.percentiles([0.1])},
    }
    row = {
        "key": f"{name} cpu 1",
        "label": name,
        "model": f"/models/{name}",
        "num_threads": 1,
        "delegate": "cpu",
        "swept_wh": None,
        "problem": None,
        "latency": {"init_ms": 9.0, **stats.latency(rounds), "rounds_ms": rounds, "spread": 0.01},
        "modes": {"sequential": dict(mode), "live": dict(mode)},
        "cold": {"total_ms": 500.0, "load_ms": 30.0, "first_inference_ms": 9.0, "peak_rss_mb": 90.0},
        "profile": None,
        "sustained": None,
        "name": "a",
        "format": "int8",
        "model_size_mb": 1.25,
        "input_wh": [320, 320],
        "runtime": "LiteRT 9, CPU, 1 thread",
        "accuracy": {"metric": "mAP50-95", "value": 0.31, "dataset": "street, 50 pictures"},
        "operators": 10,
        "delegated": 9,
        "partitions": 2,
        "arena_bytes": 1_500_000,
    }
    return {**row, **changes}


def whole_report(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a report of some rows."""
    device = {"temperatures_c": {"cpu": 51.2}, "throttled": {}, "cpu_hz": {}, "cpu_max_hz": {}}
    report = {
        "schema": "edge-benchmark",
        "schema_version": 1,
        "created": "2030-01-02T03:04:05+00:00",
        "edge_version": "9.9",
        "runtime": "LiteRT 9",
        "complete": True,
        "machine": {"model": "Board <4>", "cores": 4, "memory_mb": 4096},
        "environment": {"device_before": device, "device_after": device},
        "source": {"name": "street.mp4", "synthetic": False, "fps": 25.0, "size_wh": [768, 432]},
        "settings": {"sink": "jpeg", "rounds": 4, "runs": 40, "seconds": 5.0},
        "warnings": [],
        "results": list(rows),
    }
    return {**report, **changes}
