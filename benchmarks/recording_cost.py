"""What recording costs a frame, in CPU time, memory and writes to the disk.

    python benchmarks/recording_cost.py --video V.mp4 [--size 768x432] [--fps 15] [--pre 5] [--rounds 5]

Frames of the video, held in memory, are given to each output as a camera would, one minute of them, without waiting
between them; each round in a fresh process, the rounds of the rows interleaved; medians with the range. CPU time is
that of all threads, the encoder's included. Memory is what the process grew by, "waiting" the pictures in it from
before an event.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from edge.detections import Detections
from edge.frame import Frame
from edge.result import Result
from edge.sinks import Overlay
from edge.sinks.base import RecoverableSink
from edge.sinks.recording import ClipSink, Events, Folder, RowsSink, SegmentSink, SnapshotSink, View
from edge.sinks.recording.segments import _FILES
from edge.sinks.text import json_line

LABELS = ("person",)
MINUTE_S = 60.0
ROWS = {
    "record, drawn on": "every",
    "record, clean": "every",
    "record, half as wide": "every",
    "record, .mp4": "every",
    "clips, nothing to see": "never",
    "clips, an event all the time": "every",
    "clips, an event of 5 s": "once",
    "snapshots, an event all the time": "every",
    "json, every 2 s": "every",
}
"""What is measured -> when there is something to see."""


def sink(row: str, root: Path, pre_s: float) -> RecoverableSink:
    """Return the output of a row."""
    folder, clean, events = Folder(root, "camera", min_free_gb=0), View(None), Events(LABELS)
    match row.split(", "):
        case ["record", "drawn on"]:
            return SegmentSink(folder, View(Overlay(LABELS)))
        case ["record", "half as wide"]:
            return SegmentSink(folder, View(None, 384))
        case ["record", how]:
            return SegmentSink(folder, clean, suffix=".mp4" if how == ".mp4" else ".mkv")
        case ["clips", _]:
            return ClipSink(folder, clean, events, "camera", pre_s)
        case ["snapshots", _]:
            return SnapshotSink(folder, clean, events)
        case _:
            return RowsSink(root / "rows.jsonl", lambda result: json_line(result, LABELS, "camera"))


def resident_mb() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(row: str, options: argparse.Namespace) -> dict[str, float]:
    """Give an output a minute of frames."""
    capture = cv2.VideoCapture(str(options.video))
    images = []
    while len(images) < 10 * options.fps and (read := capture.read())[0]:
        images.append(cv2.resize(read[1], options.size))
    count = round(MINUTE_S * options.fps)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        output = sink(row, Path(folder), options.pre)
        before_mb = resident_mb()
        took_ms, most_mb, kept_mb = [], 0.0, 0.0
        cpu_s = time.process_time()
        for index in range(count):
            at = index / options.fps
            seen = {"every": 1, "never": 0, "once": int(20 <= at < 25)}[ROWS[row]]
            xyxy = np.array([[200, 100, 400, 300]] * seen, np.float32).reshape(-1, 4)
            found = Detections(xyxy, np.full(seen, 0.6 + 0.3 * (index % 97) / 97, np.float32), np.zeros(seen, np.int32))
            # Forth and back: a jump would cost what no camera does.
            step = index % (2 * len(images) - 2)
            image = images[min(step, 2 * len(images) - 2 - step)]
            frame = Frame(image, index, "rtsp://camera", at, at, 1.78e9 + at, options.fps, live=True)
            start = time.perf_counter()
            output.write(Result(frame, found, {}))
            took_ms.append((time.perf_counter() - start) * 1e3)
            if isinstance(output, ClipSink):
                kept_mb = max(kept_mb, output._bytes / 1e6)
            if index % 50 == 0:
                most_mb = max(most_mb, resident_mb())
        output.close()
        cpu_s = time.process_time() - cpu_s
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        return {
            "CPU ms": cpu_s / count * 1e3,
            "median ms": statistics.median(took_ms),
            "longest ms": max(took_ms),
            "memory MB": max(most_mb, resident_mb()) - before_mb,
            "waiting MB": kept_mb,
            "disk MB": size / 1e6,
        }


def sweep_ms(files: int) -> tuple[float, float]:
    """Return how long the first look at a folder takes, and the next."""
    with tempfile.TemporaryDirectory() as root:
        for number in range(files):
            day, minute = divmod(number, 1440)
            path = Path(root, "camera", f"2026-{1 + day // 28:02}-{1 + day % 28:02}")
            path.mkdir(parents=True, exist_ok=True)
            (path / f"{minute // 60:02}-{minute % 60:02}-00.mkv").touch()
        folder = Folder(Path(root), "camera", max_days=3650, max_gb=1000, min_free_gb=0)
        folder.claim(_FILES)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            folder.trim()
            times.append((time.perf_counter() - start) * 1e3)
        return times[0], statistics.median(times[1:])


def size_of(text: str) -> tuple[int, int]:
    """Return width and height of "768x432"."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--size", type=size_of, default=(768, 432))
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--pre", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to record; a temporary folder by default")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(run(options.row, options)))
        return
    measured: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    for _ in range(options.rounds):
        for row, results in measured.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--row", row]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout))
    width, height = options.size
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; {width}x{height}, {options.fps:g} frames a second, one minute\n"
    )
    columns = list(measured["record, clean"][0])
    print("| | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for row, results in measured.items():
        cells = []
        for column in columns:
            values = [result[column] for result in results]
            digits = 0 if column == "longest ms" else 2 if "ms" in column else 1
            middle, low, high = (f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
            cells.append(middle if low == high else f"{middle} ({low}-{high})")
        print(f"| {row} | " + " | ".join(cells) + " |")
    first, again = sweep_ms(40_000)
    print(f"\nA look at 40,000 segments of one camera: {first:.0f} ms the first time, {again:.0f} ms from then on")


if __name__ == "__main__":
    main()
