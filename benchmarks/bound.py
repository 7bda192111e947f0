"""How far a network's inference is from what this machine could do: each kind of operator beside a bound.

    python benchmarks/bound.py MODEL.tflite ... --threads 1,2 --rounds 5 --json out/bound.json

Two bounds, both from OpenBLAS (NumPy's) and both measured between the runtime's rounds. "peak": all multiplications at
the rate of one large sgemm, which no real network reaches. "same shapes": one sgemm for each dense convolution, in
the order of the network. Depthwise convolutions have no BLAS routine; they, sums, activations and copies are held
against reading their input and writing their output once (np.copyto, shared out among the threads). What is read and
written lies in two buffers by turns, as in a runtime's arena. Medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

PEAK = "a million MAC at peak"
KINDS = ("dense 1 x 1", "dense k x k", "depthwise", "everything else")


def layers(path: str) -> list[tuple[str, tuple[int, int, int], int]]:
    """Return kind, (rows, columns, depth) of a product of matrices, and floats read and written, of each operator."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(path, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    shapes = {tensor["index"]: [int(n) for n in tensor["shape"]] for tensor in interpreter.get_tensor_details()}
    found = []
    for op in interpreter._get_ops_details():
        inputs, outputs = [list(shapes[i]) for i in op["inputs"] if i >= 0], [shapes[i] for i in op["outputs"]]
        moved = int(np.prod(inputs[0])) + int(np.prod(outputs[0]))
        pixels = int(np.prod(outputs[0][:-1]))
        if op["op_name"] == "CONV_2D":
            out, high, wide, depth = inputs[1]
            kind = KINDS[0] if high * wide == 1 else KINDS[1]
            found.append((kind, (pixels, out, high * wide * depth), moved))
        elif op["op_name"] == "DEPTHWISE_CONV_2D":
            _, high, wide, channels = inputs[1]
            found.append((KINDS[2], (pixels, channels, high * wide), moved))
        elif op["op_name"] != "RESHAPE":
            found.append((KINDS[3], (0, 0, 0), moved))
    return found


def bounds(path: str, threads: int, runs: int) -> dict[str, list[float]]:
    """Return the milliseconds of each kind's bound, run by run, and the milliseconds of a million MAC at peak.

    The work of a process with so many BLAS threads.
    """
    ops = layers(path)
    largest = max(max(rows * depth, rows * columns, moved) for _, (rows, columns, depth), moved in ops)
    arena = [np.ones(largest, np.float32), np.ones(largest, np.float32)]
    work: list[tuple[str, Any, Any, Any]] = []
    for i, (kind, (rows, columns, depth), moved) in enumerate(ops):
        source, target = arena[i % 2], arena[1 - i % 2]
        if kind in KINDS[:2]:
            weights = np.full((depth, columns), 1e-3, np.float32)
            into = target[: rows * columns].reshape(rows, columns)
            work.append((kind, source[: rows * depth].reshape(rows, depth), weights, into))
        else:
            half = moved // 2 // threads
            work.append((kind, source[:half], None, target[:half]))
    side = 1024
    square = [np.ones((side, side), np.float32) for _ in range(3)]
    times: dict[str, list[float]] = {kind: [] for kind in (*KINDS, PEAK)}
    for _ in range(runs):
        sums = dict.fromkeys(KINDS, 0.0)
        for kind, left, right, out in work:
            start = time.perf_counter()
            if right is None:
                np.copyto(out, left)
            else:
                np.matmul(left, right, out=out)
            sums[kind] += (time.perf_counter() - start) * 1e3
        for kind, value in sums.items():
            times[kind].append(value)
        start = time.perf_counter()
        np.matmul(square[0], square[1], out=square[2])
        times[PEAK].append((time.perf_counter() - start) * 1e3 / (side**3 / 1e6))
    return times


def runtime(path: str, threads: int, runs: int) -> tuple[dict[str, float], float]:
    """Return the milliseconds of each kind of operator in the runtime, and of a bare inference without its profiler."""
    from ai_edge_litert.interpreter import Interpreter

    from edge.benchmark.profile import profile
    from edge.benchmark.variant import Variant

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    times = []
    for _ in range(runs + 10):
        start = time.perf_counter()
        interpreter.invoke()
        times.append((time.perf_counter() - start) * 1e3)
    del interpreter
    found = profile(Variant(Path(path), threads), runs)
    if found["problem"]:
        sys.exit(found["problem"])
    kinds = dict.fromkeys(KINDS, 0.0)
    for row in found["operators"]:
        name = row["name"]
        kind = 2 if "DWConv" in name else 1 if "IGEMM" in name else 0 if "GEMM" in name else 3
        kinds[KINDS[kind]] += row["median_ms"]
    return kinds, statistics.median(times[10:])


def measure(path: str, threads: int, rounds: int, runs: int) -> dict[str, Any]:
    """Return runtime and bound of each kind, medians over rounds."""
    ours: dict[str, list[float]] = {kind: [] for kind in KINDS}
    theirs: dict[str, list[float]] = {kind: [] for kind in (*KINDS, PEAK)}
    invokes = []
    for _ in range(rounds):
        command = [sys.executable, __file__, path, "--child", str(threads), "--runs", str(runs)]
        done = subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
        )
        for kind, times in json.loads(done.stdout).items():
            theirs[kind].append(statistics.median(times))
        kinds, invoke = runtime(path, threads, runs)
        invokes.append(invoke)
        for kind, ms in kinds.items():
            ours[kind].append(ms)
    mults = dict.fromkeys(KINDS, 0)
    for kind, (rows, columns, depth), _ in layers(path):
        mults[kind] += rows * columns * depth
    peak = statistics.median(theirs[PEAK])
    rows_of = {
        kind: {
            "mmac": round(mults[kind] / 1e6, 1),
            "runtime_ms": statistics.median(ours[kind]),
            "peak_ms": mults[kind] / 1e6 * peak,
            "same_shapes_ms": statistics.median(theirs[kind]),
        }
        for kind in KINDS
    }
    return {"model": Path(path).name, "threads": threads, "invoke_ms": statistics.median(invokes), "kinds": rows_of}


def show(found: dict[str, Any]) -> None:
    """Print a measurement as a table."""
    print(f"\n{found['model']}, {found['threads']} threads: bare inference {found['invoke_ms']:.2f} ms")
    print("| kind | million MAC | runtime, ms | peak, ms | same shapes, ms |\n|---|---|---|---|---|")
    rows = {**found["kinds"]}
    keys = ("mmac", "runtime_ms", "peak_ms", "same_shapes_ms")
    rows["together"] = {key: sum(row[key] for row in found["kinds"].values()) for key in keys}
    for kind, row in rows.items():
        print(f"| {kind} | {row['mmac']:.0f} | " + " | ".join(f"{row[key]:.2f}" for key in keys[1:]) + " |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every model with every number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", help="float32 .tflite files")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", help="where to write the numbers")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        print(json.dumps(bounds(args.models[0], args.child, args.runs)))
        return
    found = []
    for path in args.models:
        for threads in map(int, args.threads.split(",")):
            found.append(measure(path, threads, args.rounds, args.runs))
            show(found[-1])
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
