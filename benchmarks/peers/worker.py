"""One engine in an environment of its own, working for peers.py: a line of JSON comes in, a line of JSON goes out.

Capture, preprocessing, decoding and NMS are edge's own for every engine, so that what differs is the engine alone:
``python worker.py ENGINE MODEL SPEC THREADS``, where MODEL is what the engine reads and SPEC the .tflite that says what
the network is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.detector import Detector
from edge.loader import LoadedModel
from edge.pipeline import Pipeline
from edge.preprocess import Preprocessor
from edge.sources import open_source
from edge.spec import ModelSpec
from edge.spec.archive import read_tail
from edge.tensor import TensorInfo

Run = Callable[[np.ndarray], list[np.ndarray]]
"""Picture, float32 (1, 3, H, W), -> raw heads, float32 (C, H, W) or (1, C, H, W)."""


def onnxruntime(path: str, threads: int) -> Run:
    """ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = sorted(output.name for output in session.get_outputs())
    return lambda picture: session.run(names, {"image": picture})


def ncnn(path: str, threads: int) -> Run:
    """Tencent's ncnn."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.load_param(f"{path}.param")
    net.load_model(f"{path}.bin")
    last = Path(f"{path}.param").read_text().splitlines()
    # The inputs of its own detection layer are the raw heads.
    heads = next(line.split()[4:6] for line in last if line.startswith("Yolov3DetectionOutput"))

    def run(picture: np.ndarray) -> list[np.ndarray]:
        with net.create_extractor() as extractor:
            extractor.input("data", ncnn.Mat(picture[0]))
            return [np.array(extractor.extract(head)[1]) for head in heads]

    return run


def opencv(path: str, threads: int) -> Run:
    """OpenCV's DNN module, from the Darknet files."""
    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromDarknet(f"{path}.cfg", f"{path}.weights")
    # The reader puts a permute in front of each head.
    heads = [name for name in net.getLayerNames() if name.startswith("permute")]

    def run(picture: np.ndarray) -> list[np.ndarray]:
        net.setInput(picture)
        return [head.transpose(0, 3, 1, 2) for head in net.forward(heads)]

    return run


class Foreign:
    """Another engine as a backend of edge."""

    failure = None

    def __init__(self, name: str, run: Run, spec: ModelSpec) -> None:
        """Wrap it; its input has the layout NCHW."""
        assert spec.input.size_wh is not None
        width, height = spec.input.size_wh
        self.description = name
        self.input = TensorInfo("image", (1, 3, height, width), np.dtype(np.float32), 0.0, 0)
        self._picture = np.zeros((1, 3, height, width), np.float32)
        self._run = run
        self._names = list(spec.decoder.outputs.values())
        heads = self._heads()
        self.outputs = tuple(
            TensorInfo(name, head.shape, np.dtype(np.float32), 0.0, 0)
            for name, head in zip(self._names, heads, strict=True)
        )

    def _heads(self) -> list[np.ndarray]:
        heads = [head.reshape(head.shape[-3:]).transpose(1, 2, 0)[None] for head in self._run(self._picture)]
        # Largest stride first, as in the cfg.
        return sorted(heads, key=lambda head: head.shape[1])

    def infer(self, fill: Callable[[Any], None]) -> dict[str, np.ndarray]:
        """Run the network once."""
        fill(self._picture)
        return dict(zip(self._names, self._heads(), strict=True))

    def close(self) -> None:
        """Free nothing."""


ENGINES = {"onnxruntime": onnxruntime, "ncnn": ncnn, "opencv": opencv}


def detector(engine: str, model: str, spec_file: str, threads: int) -> Detector:
    """Return a detector on an engine."""
    if engine == "edge":
        return Detector.load(spec_file, threads=threads)
    spec = ModelSpec.model_validate_json(read_tail(Path(spec_file))["metadata.json"])
    spec = spec.model_copy(update={"input": spec.input.model_copy(update={"layout": "NCHW"})})
    backend = Foreign(engine, ENGINES[engine](model, threads), spec)
    preprocessor = Preprocessor(spec.input, backend.input)
    outputs = {info.name: info for info in backend.outputs}
    loaded = LoadedModel(Path(model), spec, backend, preprocessor, outputs)  # type: ignore[arg-type]
    return Detector(loaded)


def invoke_ms(one: Detector, runs: int) -> list[float]:
    """Return the milliseconds of bare runs of the network."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        outputs = one.backend.infer(lambda tensor: None)
        times.append((time.perf_counter() - start) * 1e3)
        del outputs
    return times


def sequential(one: Detector, video: str) -> tuple[float, dict[str, list[float]], list[Any]]:
    """Detect on every frame of a clip, one after another; returns seconds, stage times and what was found."""
    stages: dict[str, list[float]] = {}
    found = []
    frames = iter(open_source(video))
    start = time.perf_counter()
    while True:
        began = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            break
        captured = (time.perf_counter() - began) * 1e3
        detections, ms = one.detect(frame.image)
        for stage, value in {"capture": captured, **ms}.items():
            stages.setdefault(stage, []).append(value)
        found.append([[int(c), round(float(s), 4), *map(float, xyxy)] for xyxy, s, c, _ in detections])
    return time.perf_counter() - start, stages, found


def main() -> None:
    """Answer until the input ends."""
    engine, model, spec, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    if engine != "opencv":
        cv2.setNumThreads(threads)
    many = engine == "edge-throughput"
    kind, each = ("edge", 1) if many else (engine, threads)
    detectors = [detector(kind, model, spec, each) for _ in range(threads if many else 1)]
    print(json.dumps({"ready": engine}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any]
        if asked["do"] == "invoke":
            answer = {"ms": invoke_ms(detectors[0], asked["runs"])}
        elif many:
            start = time.perf_counter()
            stats = Pipeline([one.detect for one in detectors]).run([open_source(asked["video"])])
            answer = {"seconds": time.perf_counter() - start, "frames": stats.frames}
        else:
            seconds, stages, found = sequential(detectors[0], asked["video"])
            answer = {"seconds": seconds, "frames": len(found), "stages": stages, "found": found}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
