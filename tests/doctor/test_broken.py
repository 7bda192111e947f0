"""Environments that are really broken: wheels that crash, hang or raise, in front of the real ones on the path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge.doctor.isolate import Ending, isolate

ROOT = Path(__file__).resolve().parents[2]
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")


EDGE = (sys.executable, "-m", "edge", "doctor")
BARE = (sys.executable, "-m", "edge.cli.doctor")  # needs no pydantic, as typer does to read a command line


def doctor(
    folder: Path, *arguments: str, command: Sequence[str] = EDGE, **environment: str
) -> tuple[int, dict[str, Any], str]:
    """Run `edge doctor --json` with a folder of modules in front; returns exit code, answer and stderr."""
    done = subprocess.run(
        [*command, "--json", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def by_name(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in answer["checks"]}


def module(folder: Path, name: str, code: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    return folder


SEGFAULT = "import ctypes\nctypes.string_at(0)\n"
ILLEGAL = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
HANG = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)\n"


def test_all_is_well_here(tmp_path: Path) -> None:
    code, answer, stderr = doctor(tmp_path)
    lines = by_name(answer)
    assert (code, answer["ok"], stderr) == (0, True, "")
    for name in ("NumPy", "runtime", "model", "self-test", "OpenCV", "video", "temporary"):
        assert lines[name]["state"] == "ok", lines[name]
    facts = lines["model"]["facts"]
    assert facts["inference_ms"] > 0 and facts["partitions"] == 1 and facts["delegated"] == facts["operators"]
    assert not list(tmp_path.iterdir())  # it leaves nothing


def test_opencv_that_crashes(tmp_path: Path) -> None:
    code, answer, stderr = doctor(module(tmp_path, "cv2", SEGFAULT))
    lines = by_name(answer)
    assert (code, answer["ok"], stderr) == (4, False, "")
    assert lines["OpenCV"]["state"] == "missing" and lines["OpenCV"]["needed"]
    assert lines["OpenCV"]["found"] == "crashed with SIGSEGV while loading OpenCV"
    assert lines["OpenCV"]["mend"] == "pip install --force-reinstall --no-cache-dir opencv-python"
    assert lines["runtime"]["state"] == "ok"
    assert lines["self-test"]["found"] == "not run: it needs OpenCV"


def test_opencv_of_another_cpu(tmp_path: Path) -> None:
    code, answer, _ = doctor(module(tmp_path, "cv2", ILLEGAL))
    found = by_name(answer)["OpenCV"]["found"]
    assert code == 4 and found.startswith("crashed with SIGILL while loading OpenCV: this CPU lacks an instruction")


def test_opencv_that_hangs(tmp_path: Path) -> None:
    code, answer, _ = doctor(module(tmp_path, "cv2", HANG), "--timeout", "3")
    lines = by_name(answer)
    assert code == 4
    assert lines["OpenCV"]["found"] == "hangs while loading OpenCV: no answer within 3 s"
    assert lines["runtime"]["state"] == "ok"


def test_opencv_whose_library_is_missing(tmp_path: Path) -> None:
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    code, answer, _ = doctor(module(tmp_path, "cv2", f"raise ImportError({text!r})"))
    line = by_name(answer)["OpenCV"]
    assert code == 4 and line["found"] == "OpenCV needs the system library libGL.so.1, which is not installed"
    assert line["mend"].endswith("apt install libgl1")


def test_numpy_that_raises(tmp_path: Path) -> None:
    code, answer, _ = doctor(module(tmp_path, "numpy", "raise ImportError('libopenblas.so.0: no such file')"))
    lines = by_name(answer)
    assert code == 4
    assert lines["NumPy"]["found"] == "fails while loading NumPy: libopenblas.so.0: no such file"
    assert lines["NumPy"]["mend"] == "pip install --force-reinstall --no-cache-dir numpy"
    assert lines["OpenCV"]["found"] == "not tried: it needs NumPy"


def test_no_runtime(tmp_path: Path) -> None:
    for name in ("ai_edge_litert", "tflite_runtime"):
        absent = f"raise ModuleNotFoundError('No module named {name!r}', name={name!r})"
        module(tmp_path, name, absent.replace("'No module", '"No module').replace("', name", '", name'))
    code, answer, _ = doctor(tmp_path)
    lines = by_name(answer)
    assert code == 4 and lines["runtime"]["state"] == "missing"
    assert "ai-edge-litert is not installed; tflite-runtime is not installed" in lines["runtime"]["found"]
    assert lines["runtime"]["mend"] == "pip install ai-edge-litert"
    assert lines["GPU"]["found"] == "not tried: it needs a runtime"


def test_a_runtime_that_crashes_when_an_interpreter_is_built(tmp_path: Path) -> None:
    module(tmp_path, "ai_edge_litert", "")
    crash = "import ctypes\ndef Interpreter(**given):\n    ctypes.string_at(0)\n"
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text(crash)
    code, answer, _ = doctor(tmp_path)
    assert code == 4 and by_name(answer)["runtime"]["found"] == (
        "crashed with SIGSEGV while loading the runtime and building an interpreter"
    )


def test_pydantic_of_another_architecture(tmp_path: Path) -> None:
    code, answer, _ = doctor(module(tmp_path, "pydantic", ILLEGAL), command=BARE)
    assert code == 4 and "SIGILL while loading pydantic" in by_name(answer)["pydantic"]["found"]


def test_everything_is_broken_and_the_screen_still_stands(tmp_path: Path) -> None:
    for name in ("numpy", "cv2", "pydantic", "ai_edge_litert"):
        module(tmp_path, name, SEGFAULT)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "COLUMNS": "80"}
    done = subprocess.run(BARE, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (4, "")
    assert "edge cannot run here: NumPy, self-test, OpenCV" in done.stdout
    lines = done.stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert all(len(line) <= 80 for line in lines if "-> " not in line)


@pytest.fixture
def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler to build a library with")
    return found


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sleep(600); return 0;", "hangs while starting the Edge TPU: no answer within 3 s"),
        ("*(volatile int*)0 = 1; return 0;", "crashed with SIGSEGV while starting the Edge TPU"),
        ("return 0;", "refused to start"),
    ],
)
def test_a_libedgetpu_that_fails(tmp_path: Path, compiler: str, body: str, said: str) -> None:
    (tmp_path / "d.c").write_text(
        "#include <stddef.h>\n#include <unistd.h>\n"
        f"void* tflite_plugin_create_delegate(char** k, char** v, size_t n, void (*r)(const char*)) {{ {body} }}\n"
        "void tflite_plugin_destroy_delegate(void* d) {}\n"
    )
    library = tmp_path / "libedgetpu.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "d.c")], check=True)
    code = (
        "import json\nfrom edge.doctor.isolate import isolate\n"
        "o = isolate('edgetpu', {'device': True}, 3)\nprint(json.dumps([o.problem, dict(o.value)]))\n"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    problem, value = json.loads(done.stdout)
    assert said in (problem or value["reason"])


def test_no_libedgetpu() -> None:
    outcome = isolate("edgetpu", {"device": True}, 20)
    if outcome.value.get("library"):
        pytest.skip("this machine has libedgetpu")
    assert outcome.ending is Ending.DONE and "libedgetpu.so.1" in outcome.value["reason"]


@pytest.fixture
def software_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not SWIFTSHADER.exists():
        pytest.skip("no Vulkan device in software: apt install chromium-common libvulkan1")
    monkeypatch.setenv("VK_ICD_FILENAMES", str(SWIFTSHADER))
    yield


def test_a_gpu_in_software(tmp_path: Path, software_gpu: None) -> None:
    code, answer, _ = doctor(tmp_path, "--timeout", "60")
    line = by_name(answer)["GPU"]
    assert (
        code == 0 and line["state"] == "warning" and "SwiftShader" in line["found"] and "in software" in line["found"]
    )
    assert line["facts"]["vulkan_drivers"] == {str(SWIFTSHADER): "./libvk_swiftshader.so"}


def test_a_vulkan_driver_that_crashes(tmp_path: Path, compiler: str) -> None:
    """The loader is in the wheel or the system; the driver is ours, and dies as broken ones do."""
    (tmp_path / "d.c").write_text("__attribute__((constructor)) static void die(void) { *(volatile int*)0 = 1; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "libdie.so", "d.c"], cwd=tmp_path, check=True)
    icd = tmp_path / "die.json"
    library = {"library_path": str(tmp_path / "libdie.so"), "api_version": "1.3.0"}
    icd.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": library}))
    code, answer, _ = doctor(tmp_path, VK_ICD_FILENAMES=str(icd))
    line = by_name(answer)["GPU"]
    if "no GPU" in line["found"] or "none here" in line["found"]:
        pytest.skip("no Vulkan loader: apt install libvulkan1")
    assert code == 0 and line["state"] == "missing" and not line["needed"]
    assert line["found"] == "crashed with SIGSEGV while starting the GPU"
