"""edge against other engines: the same networks, clip, threads, preprocessing and decoding, in interleaved rounds.

``python benchmarks/peers/peers.py --data FOLDER --video CLIP`` (``make bench-peers``). Each engine runs in a virtual
environment of its own under out/peers, made on first use, and waits while another has its turn. Detections of all
engines are compared with each other's. FOLDER holds Yolo-Fastest's Darknet files (darknet/yolo-fastest-1.1.cfg and
.weights, -xl likewise) and ncnn's own conversion of them (ncnn/*.param and *.bin); an engine whose files are not there
is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OUT = ROOT / "out/peers"
NETWORKS = {"S": "yolo-fastest-1.1", "XL": "yolo-fastest-1.1-xl"}

PACKAGES = {
    "edge": ["opencv-python-headless", "ai-edge-litert"],
    "onnxruntime": ["opencv-python-headless", "ai-edge-litert", "onnxruntime"],
    "ncnn": ["opencv-python-headless", "ai-edge-litert", "ncnn"],
    "opencv": ["opencv-python-headless==4.12.0.88", "ai-edge-litert"],
    "ultralytics": ["ultralytics", "torch", "ai-edge-litert>=2.1.4"],
}
"""Engine -> what its environment needs besides edge; edge's own code needs a runtime to read the description."""


class Worker:
    """An engine in a process of its own."""

    def __init__(self, python: Path, engine: str, script: str, *arguments: object) -> None:
        """Start a script beside this one, and wait until it is ready."""
        self.engine = engine
        self._process = subprocess.Popen(
            [str(python), str(HERE / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._read()

    def ask(self, **what: Any) -> dict[str, Any]:
        """Have it do something, and wait for the answer."""
        self.begin(**what)
        return self.answer()

    def begin(self, **what: Any) -> None:
        """Have it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for what it has to say of that."""
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.engine}: the worker ended with {self._process.wait()}")
        return dict(json.loads(line))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def environment(engine: str) -> Path:
    """Return the Python of an engine's environment."""
    folder = OUT / f"venv-{engine}"
    python = folder / "bin/python"
    done = folder / "done"
    if not done.exists():
        print(f"making the environment of {engine} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        common = ["numpy>=2", "pydantic", "typer", "rich"]
        subprocess.run([*pip, *common, *PACKAGES[engine]], check=True)
        done.touch()
    return python


def prepare(network: str, data: Path) -> Path:
    """Return the converted .tflite of a network."""
    path = OUT / f"{network}.tflite"
    if not path.exists():
        cfg, weights = data / "darknet" / f"{network}.cfg", data / "darknet" / f"{network}.weights"
        command = [
            sys.executable,
            "-m",
            "edge",
            "convert",
            str(cfg),
            str(weights),
            "--to",
            "float32",
            "--out",
            str(path),
        ]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return path


def model_of(engine: str, network: str, data: Path, tflite: Path) -> str | None:
    """Return what an engine reads; None, with the reason printed, where it is not there."""
    if engine.startswith("edge"):
        return str(tflite)
    if engine == "opencv":
        return str(data / "darknet" / network)
    if engine == "ncnn":
        path = data / "ncnn" / network
        if not path.with_name(f"{network}.param").is_file():
            print(f"ncnn: left out, there is no {path}.param")
            return None
        return str(path)
    path = OUT / f"{network}.onnx"
    if not path.exists():
        files = [str(data / "darknet" / f"{network}.cfg"), str(data / "darknet" / f"{network}.weights"), str(path)]
        with_onnx = OUT / "venv-convert"
        # The reader of Darknet files is edge's, in this environment; onnx is added beside it.
        if not with_onnx.exists():
            pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--target", str(with_onnx), "onnx", "ml_dtypes", "protobuf"], check=True)
        environment_of = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(with_onnx)])}
        subprocess.run([sys.executable, str(HERE / "darknet_onnx.py"), *files], check=True, env=environment_of)
    return str(path)


def same(one: list[Any], other: list[Any]) -> tuple[int, int, float, float]:
    """Return frames, frames with another number of boxes, and the largest differences of scores and of corners."""
    counts = score = corner = 0.0
    for a, b in zip(one, other, strict=True):
        if [box[0] for box in a] != [box[0] for box in b]:
            counts += 1
            continue
        for x, y in zip(a, b, strict=True):
            score = max(score, abs(x[1] - y[1]))
            corner = max(corner, *(abs(p - q) for p, q in zip(x[2:], y[2:], strict=True)))
    return len(one), int(counts), score, corner


def spread(values: list[float]) -> str:
    """Return the median, and the least and the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def compare(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one network on all engines, and print the table."""
    network, threads = NETWORKS[name], arguments.threads
    tflite = prepare(network, arguments.data)
    workers = []
    for engine in ("edge", "edge-throughput", "edge-1", "onnxruntime", "ncnn", "opencv"):
        model = model_of(engine, network, arguments.data, tflite)
        if model is not None:
            python = environment("edge" if engine.startswith("edge") else engine)
            kind = "edge" if engine == "edge-1" else engine
            each = 1 if engine == "edge-1" else threads
            workers.append((engine, Worker(python, engine, "worker.py", kind, model, tflite, each)))
    # What two cores give at best: as many processes of one thread, that share nothing.
    alone = [Worker(environment("edge"), "alone", "worker.py", "edge", tflite, tflite, 1) for _ in range(threads)]
    side_by_side = []
    video = str(arguments.video.resolve())
    end: dict[str, list[float]] = {engine: [] for engine, _ in workers}
    bare: dict[str, list[float]] = {engine: [] for engine, _ in workers}
    stages: dict[str, dict[str, list[float]]] = {engine: {} for engine, _ in workers}
    found: dict[str, list[Any]] = {}
    for turn in range(arguments.rounds + 1):
        for engine, worker in workers:
            # Threads of the one before may still spin, in wait of more work.
            time.sleep(1.0)
            if engine != "edge-throughput":
                ms = worker.ask(do="invoke", runs=arguments.runs)["ms"]
            answer = worker.ask(do="clip", video=video)
            if not turn:
                continue  # to warm up
            end[engine].append(answer["seconds"] / answer["frames"] * 1e3)
            if engine != "edge-throughput":
                bare[engine].append(statistics.median(ms))
                found[engine] = answer["found"]
                for stage, values in answer["stages"].items():
                    stages[engine].setdefault(stage, []).append(statistics.median(values))
        time.sleep(1.0)
        start = time.perf_counter()
        for worker in alone:
            worker.begin(do="clip", video=video)
        frames = sum(worker.answer()["frames"] for worker in alone)
        if turn:
            side_by_side.append((time.perf_counter() - start) / frames * 1e3)
    for worker in [*(worker for _, worker in workers), *alone]:
        worker.close()
    best = statistics.median(end["edge-throughput"])
    print(f"\n{name} ({network}), {threads} threads, {arguments.rounds} rounds, median (least-most) of ms per frame\n")
    print("| | bare invoke | end to end | x edge's throughput mode | boxes that differ from edge's |")
    print("|---|---|---|---|---|")
    for engine, _ in workers:
        ratio = statistics.median(end[engine]) / best
        differs = "-"
        if engine in found and not engine.startswith("edge"):
            frames, counts, score, corner = same(found["edge"], found[engine])
            differs = f"{counts} of {frames} frames; else score {score:.4f}, corner {corner:.2f} px"
        invoke = spread(bare[engine]) if bare[engine] else "-"
        print(f"| {engine} | {invoke} | {spread(end[engine])} | {ratio:.2f} | {differs} |")
    single = {stage: statistics.median(values) for stage, values in stages["edge-1"].items()}
    two = {stage: statistics.median(values) for stage, values in stages["edge"].items()}
    figures = {
        "sequential end to end / bare invoke": statistics.median(end["edge"]) / statistics.median(bare["edge"]),
        "throughput / sum of the sequential single-thread stages": best / sum(single.values()),
        "throughput / processes of one thread side by side": best / statistics.median(side_by_side),
        "onnxruntime / edge throughput": statistics.median(end.get("onnxruntime", [0])) / best,
        "ncnn / edge throughput": statistics.median(end.get("ncnn", [0])) / best,
        "opencv / edge throughput": statistics.median(end.get("opencv", [0])) / best,
    }
    print("\n" + "\n".join(f"- {what}: {value:.2f}" for what, value in figures.items()))
    print("- stages, 1 thread: " + ", ".join(f"{stage} {ms:.2f}" for stage, ms in single.items()))
    print(f"- stages, {threads} threads: " + ", ".join(f"{stage} {ms:.2f}" for stage, ms in two.items()))
    return {"network": network, "end_to_end_ms": end, "invoke_ms": bare, "stages_ms": stages, "figures": figures}


def overhead(model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare with Ultralytics' predictor what a frame costs beside the network, and print it."""
    video, threads = str(arguments.video.resolve()), arguments.threads
    ours = Worker(environment("edge"), "edge", "worker.py", "edge", model, model, threads)
    theirs = Worker(environment("ultralytics"), "ultralytics", "predictor.py", model, threads)
    beside: dict[str, list[float]] = {"edge": [], "ultralytics": []}
    network: dict[str, list[float]] = {"edge": [], "ultralytics": []}
    for turn in range(arguments.rounds + 1):
        time.sleep(1.0)
        mine = ours.ask(do="clip", video=video)
        time.sleep(1.0)
        other = theirs.ask(video=video)
        inside = {"edge": sum(mine["stages"]["invoke"]) / 1e3, "ultralytics": other["inside"]}
        for engine, answer in (("edge", mine), ("ultralytics", other)) if turn else ():
            beside[engine].append((answer["seconds"] - inside[engine]) / answer["frames"] * 1e3)
            network[engine].append(inside[engine] / answer["frames"] * 1e3)
    ours.close()
    theirs.close()
    ratio = statistics.median(beside["edge"]) / statistics.median(beside["ultralytics"])
    print(f"\n{model.name}, {threads} threads, {arguments.rounds} rounds, median (least-most) of ms per frame\n")
    print("| | in the network | beside it |\n|---|---|---|")
    for engine in beside:
        print(f"| {engine} | {spread(network[engine])} | {spread(beside[engine])} |")
    print(f"\n- beside the network, edge / Ultralytics: {ratio:.2f}")
    return {"network": model.name, "beside_ms": beside, "in_network_ms": network, "ratio": ratio}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("EDGE_TEST_DATA", ROOT.parent / "shared/data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=60, help="bare invocations in a round")
    parser.add_argument("--networks", default="S,XL", help="of Yolo-Fastest; empty for none")
    parser.add_argument("--predictor", type=Path, help="a YOLOv8 .tflite on which Ultralytics' predictor is compared")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    arguments.data = arguments.data.resolve()
    results = [compare(name, arguments) for name in arguments.networks.split(",") if name]
    if arguments.predictor is not None and not arguments.predictor.is_file():
        parser.error(f"--predictor {arguments.predictor}: no such file")
    model = arguments.predictor or next((arguments.data / "tflite").glob("yolov8n*.tflite"), None)
    if model is not None:
        results.append(overhead(model.resolve(), arguments))
    else:
        print(f"ultralytics: left out, there is no YOLOv8 model at {arguments.data}/tflite; give one with --predictor")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
