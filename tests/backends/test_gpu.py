"""The GPU where there is none; `tests/lab/test_gpu.py` runs it for real, in software."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from fixtures import described, paint, tiny_detector

from edge.backends import gpu
from edge.backends.factory import open_backend
from edge.errors import DelegateError, InputError, ModelFileError


def detect(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    model = tiny_detector().save(folder / "m.tflite")
    cv2.imwrite(str(folder / "p.png"), paint([("green", 2, 1)]))
    command = [sys.executable, "-m", "edge", "detect", "--model", model, "--source", folder / "p.png", "--json", "-"]
    nowhere = {"VK_ICD_FILENAMES": "/nowhere.json", "VK_DRIVER_FILES": "/nowhere.json"}
    return subprocess.run([*map(str, command), *words], capture_output=True, text=True, env={**os.environ, **nowhere})


def test_no_gpu_is_one_line(tmp_path: Path) -> None:
    done = detect(tmp_path, "--delegate", "gpu", "--no-fallback")
    assert done.returncode == 4 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge: delegate gpu: ")


def test_no_gpu_and_the_cpu_goes_on(tmp_path: Path) -> None:
    done = detect(tmp_path, "--delegate", "gpu", "--quiet")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)  # the runtime writes to stdout too, where results go
    assert row["fallback"] and row["detections"][0]["name"] == "green"
    (line,) = done.stderr.splitlines()
    assert "edge: WARNING: delegate gpu: " in line and line.endswith("continuing on the CPU with m.tflite")


def test_what_is_no_argument(tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    with pytest.raises(InputError, match="expected gpu or gpu:float32"):
        open_backend(path, delegate="gpu:float16")
    with pytest.raises(InputError, match="--threads 0"):
        open_backend(path, threads=0, delegate="gpu")
    with pytest.raises(ModelFileError, match="no such model file"):
        open_backend(tmp_path / "none.tflite", delegate="gpu")


@pytest.mark.parametrize(
    ("quantization", "target", "needed"),
    [("float32", "gpu", True), ("float16", "gpu", False), ("float32", None, False)],
)
def test_a_file_that_was_kept_in_32_bits(tmp_path: Path, quantization: str, target: str | None, needed: bool) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(described(tiny_detector(), quantization=quantization, conversion={"target": target}))
    assert gpu._needs_float32(path) == needed
    path.write_bytes(tiny_detector().model)
    assert not gpu._needs_float32(path)


REFUSES = "ERROR: Following operations are not supported by GPU delegate:"


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ([], "GPU (WebGPU)"),
        (["INFO: Created TensorFlow Lite XNNPACK delegate for CPU."], "GPU (WebGPU)"),
        (
            [
                REFUSES,
                "DEQUANTIZE: Max version supported: 3. Requested version 5.",
                "115 operations will run on the GPU, and the remaining 106 operations will run on the CPU.",
            ],
            "GPU (WebGPU) for 115 operators and CPU for 106",
        ),
    ],
)
def test_how_much_the_gpu_took(said: list[str], where: str) -> None:
    """What LiteRT 2.3.0 says; it answers `is_fully_accelerated()` with yes where it took nothing."""
    assert gpu._where(Path("m.tflite"), said) == where


def test_a_model_of_which_it_takes_nothing() -> None:
    said = [REFUSES, "L2_NORMALIZATION: Operation is not supported.", "CUSTOM Thing: Thing"]
    with pytest.raises(
        DelegateError, match=r"takes no operator of m\.tflite .it refuses L2_NORMALIZATION, CUSTOM Thing"
    ):
        gpu._where(Path("m.tflite"), said)


def test_an_old_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.compiled_model", None)
    with pytest.raises(DelegateError, match="needs LiteRT 2.3 or newer"):
        open_backend(tiny_detector().save(tmp_path / "m.tflite"), delegate="gpu")


def test_where_no_code_may_be_made_no_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver in software ends the process there; under systemd it is tried in tests/lab/test_systemd_lab.py."""

    class Forbidding(mmap.mmap):
        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            if options.get("prot", 0) & mmap.PROT_EXEC:
                raise PermissionError
            return super().__new__(cls, *arguments, **options)

    assert gpu._may_make_code()
    monkeypatch.setattr(mmap, "mmap", Forbidding)
    monkeypatch.setattr(gpu.GpuBackend, "_compile", lambda *_: pytest.fail("it was asked"))
    with pytest.raises(DelegateError, match=r"^delegate gpu: .*MemoryDenyWriteExecute"):
        gpu.GpuBackend(tiny_detector().save(tmp_path / "m.tflite"))
