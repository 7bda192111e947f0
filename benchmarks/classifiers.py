"""Trained runs in every quantisation mode: accuracy, size and milliseconds per picture on the device runtime.

    python benchmarks/classifiers.py RUN... [--out FOLDER] [--split SPLIT] [--threads 1]

A RUN is a folder of `edge train`. Every number comes from the commands themselves: `edge convert`, calibrated on the
run's own pictures, and `edge evaluate` on the run's own data. Printed as Markdown; milliseconds are medians over all
pictures and vary from machine to machine: read the ratio to float32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MODES = ("float32", "float16", "dynamic", "weight-only", "int8")


def edge(*arguments: object) -> dict[str, Any]:
    """Run a command that prints JSON."""
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def rows(run: Path, out: Path, split: str | None, threads: int) -> list[list[str]]:
    """Convert and measure one run; return the cells of its rows."""
    data = json.loads((run / "config.json").read_text())["data"]
    found, floats = [], 0.0
    for mode in MODES:
        model = out / f"{run.name}_{mode}.tflite"
        edge("convert", run / "best.keras", "--to", mode, "--calibrate", run / "calibration", "--out", model, "--force",
             "--json")  # fmt: skip
        chosen = ["--split", split] if split else []
        report = edge("evaluate", "--model", model, "--data", data, *chosen, "--threads", threads, "--json", "-")
        ms = report["ms"]["total"]
        floats = floats or ms
        iou = f"{report['mean_iou']:.3f}" if "mean_iou" in report else ""
        found.append(
            [f"{run.name} ({report['images']} {report['split']})", mode, f"{report['top1'] * 100:.2f}", iou]
            + [f"{model.stat().st_size:,}", f"{ms:.3f}", f"{ms / floats:.2f}"]
        )
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of edge train")
    parser.add_argument("--out", type=Path, default=Path("out/classifiers"), help="where the files go")
    parser.add_argument("--split", help="test, else val, by default")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print("| run | mode | top-1 % | mean IoU | bytes | ms per picture | of float32's |\n|---|---|---|---|---|---|---|")
    for run in options.runs:
        for row in rows(run, options.out, options.split, options.threads):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
