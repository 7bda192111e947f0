"""The GPU for real: LiteRT's accelerator on a Vulkan device in software, the one that Chromium brings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tflite_builder import Builder

from convert.gpu import check_gpu
from edge.geometry import iou_matrix

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHAPE = (1, 8, 8, 4)


@pytest.fixture(scope="module")
def vulkan() -> dict[str, str]:
    """Return the environment of a process that has a Vulkan device."""
    if not DRIVER.exists() and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-q", "chromium-common", "libvulkan1"], capture_output=True)
    if not DRIVER.exists():
        pytest.skip("no Vulkan device in software: Debian's chromium-common and libvulkan1 cannot be installed")
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "VK_ICD_FILENAMES": str(DRIVER), "VK_DRIVER_FILES": str(DRIVER), "PYTHONPATH": path}


def detect(model: Path, pictures: Path, environment: dict[str, str], delegate: str) -> tuple[list[dict], str]:
    words = ["-m", "edge", "detect", "--model", model, "--source", pictures, "--delegate", delegate, "--json", "-"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "INFO:" not in done.stderr, "the runtime's own remarks"
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture(scope="module")
def convert(shared_data, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("models")

    def run(mode: str) -> Path:
        path = folder / f"{mode}.tflite"
        if not path.exists():
            cfg, names = shared_data("darknet/yolo-fastest-1.1.cfg"), shared_data("darknet/coco.names")
            words = ["-m", "edge", "convert", cfg, "--labels", names, "--to", mode, "--out", path]
            subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True)
        return path

    return run


@pytest.mark.parametrize(("mode", "delegate"), [("float32", "gpu"), ("float32", "gpu:float32"), ("float16", "gpu")])
def test_same_boxes_as_the_cpu(mode: str, delegate: str, convert, vulkan, tiny_coco: Path) -> None:
    model = convert(mode)
    assert check_gpu(model.read_bytes()).on_cpu == 0
    pictures = tiny_coco / "val2017"
    on_gpu, said = detect(model, pictures, vulkan, delegate)
    on_cpu, _ = detect(model, pictures, dict(os.environ), "cpu")
    assert "GPU (WebGPU)" in said and "CPU for" not in said and "WARNING" not in said
    compared = 0
    for mine, other in zip(on_gpu, on_cpu, strict=True):
        assert "fallback" not in mine and mine["source"] == other["source"]
        assert [d["class"] for d in mine["detections"]] == [d["class"] for d in other["detections"]]
        if mine["detections"]:
            left, right = (np.array([list(d["box"].values()) for d in row["detections"]]) for row in (mine, other))
            assert iou_matrix(left, right).diagonal().min() > 0.99
            compared += len(left)
    assert compared > 150


def test_a_part_on_the_cpu_is_said(convert, vulkan, tiny_coco: Path) -> None:
    model = convert("weight-only")
    report = check_gpu(model.read_bytes())
    assert ("DEQUANTIZE", "version 5: at most 3") in {(group.op, group.reason) for group in report.groups}
    assert "float16" in report.advice[0]
    _, said = detect(model, tiny_coco / "val2017" / "*1.jpg", vulkan, "gpu")
    assert f"GPU (WebGPU) for {report.mapped} operators and CPU for {report.on_cpu}" in said


def one(kind: str, constants: list[tuple] = (), shape: tuple[int, ...] = SHAPE, **options) -> bytes:
    """Return RELU, an operator, RELU."""
    graph = Builder()
    picture = graph.tensor("picture", SHAPE)
    inputs = [graph.op("RELU", [picture], SHAPE)]
    inputs += [graph.constant(np.array(values), kind) for values, kind in constants]
    dtype = options.pop("dtype", "float32")
    made = graph.op(kind, inputs, shape, dtype=dtype, **options)
    return graph.build([picture], [graph.op("RELU", [made], shape)] if dtype == "float32" else [made])


def axes(*values: int) -> list[tuple]:
    return [(values, "int32")]


SLICE = [((0, 0, 0, 0), "int32"), ((1, 8, 8, 4), "int32"), ((1, 1, 1, 1), "int32")]
MODELS = {
    **{name: lambda name=name: one(name) for name in ("LEAKY_RELU", "HARD_SWISH", "LOGISTIC", "GELU", "EXP", "RSQRT")},
    **{name: lambda name=name: one(name) for name in ("L2_NORMALIZATION", "LOG_SOFTMAX", "ZEROS_LIKE", "RELU_0_TO_1")},
    "SOFTMAX": lambda: one("SOFTMAX", beta=1.0),
    "SOFTMAX of beta 2": lambda: one("SOFTMAX", beta=2.0),
    "MEAN": lambda: one("MEAN", axes(1, 2), (1, 4)),
    "REDUCE_MAX": lambda: one("REDUCE_MAX", axes(3), (1, 8, 8)),
    "ARG_MAX": lambda: one("ARG_MAX", axes(3), (1, 8, 8), dtype="int32", outputType=2),
    "RESIZE_NEAREST_NEIGHBOR": lambda: one("RESIZE_NEAREST_NEIGHBOR", axes(16, 16), (1, 16, 16, 4)),
    "TRANSPOSE": lambda: one("TRANSPOSE", axes(0, 3, 1, 2), (1, 4, 8, 8)),
    "RESHAPE": lambda: one("RESHAPE", axes(1, 64, 4), (1, 64, 4)),
    "RESHAPE to five": lambda: one("RESHAPE", axes(1, 4, 2, 8, 4), (1, 4, 2, 8, 4)),
    "SQUEEZE": lambda: one("SQUEEZE", [], (8, 8, 4)),
    "DEPTH_TO_SPACE": lambda: one("DEPTH_TO_SPACE", [], (1, 16, 16, 1), blockSize=2),
    "STRIDED_SLICE": lambda: one("STRIDED_SLICE", SLICE, beginMask=0),
    "STRIDED_SLICE that drops": lambda: one("STRIDED_SLICE", SLICE, (8, 8, 4), shrinkAxisMask=1),
    "CONCATENATION": lambda: one("CONCATENATION", [(np.ones(SHAPE), "float32")], (1, 8, 8, 8), axis=3),
    "TILE": lambda: one("TILE", axes(1, 2, 1, 1), (1, 16, 8, 4)),
}


def test_the_prediction_is_what_the_accelerator_does(vulkan, tmp_path: Path) -> None:
    predicted: dict[str, int | None] = {}
    for name, build in MODELS.items():
        path = tmp_path / f"{name.replace(' ', '_')}.tflite"
        path.write_bytes(build())
        report = check_gpu(path.read_bytes())
        predicted[path.name] = report.mapped if report.on_cpu else None
    command = [sys.executable, HERE / "gpu_operators.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=vulkan)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == predicted
    assert 0 < sum(count is not None for count in predicted.values()) < len(predicted)
