"""How checks are run, how trials end, and what Video4Linux is asked."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doctor.machines import failed, fake

from edge.doctor import probes, v4l2
from edge.doctor.checks import CHECKS, Check, examine
from edge.doctor.finding import Finding, State, ok
from edge.doctor.host import Host, clock_synchronised, run_command
from edge.doctor.isolate import Ending, Outcome, isolate
from edge.doctor.trouble import unfinished


def test_a_check_that_raises_or_hangs_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.doctor.checks._GRACE_S", 0.0)
    release = threading.Event()

    def raises(host: Host) -> Iterator[Finding]:
        yield ok("never seen", "")
        raise RuntimeError("sensor\nbroke")

    def hangs(host: Host) -> list[Finding]:
        release.wait(60)
        return []

    checks = [
        Check("A", "raises", raises),
        Check("A", "hangs", hangs),
        Check("B", "works", lambda host: [ok("works", "yes")]),
    ]
    found = {check.name: findings for check, findings in examine(fake(tmp_path, timeout_s=0.3), checks)}
    release.set()
    assert list(found) == ["raises", "hangs", "works"]
    (line,) = found["raises"]
    assert line.state is State.WARNING and line.found == "the check itself failed (RuntimeError: sensor broke)"
    (line,) = found["hangs"]
    assert line.state is State.WARNING and "hangs" in line.found
    assert found["works"][0].found == "yes"


def test_a_slow_trial_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.doctor.checks._GRACE_S", 0.0)

    def slow(probe: str, arguments: Any, timeout_s: float) -> Outcome:
        time.sleep(0.5)  # longer than a check may take that tries nothing
        return Outcome(Ending.DONE, {"x": 1})

    host = fake(tmp_path, timeout_s=0.1)
    object.__setattr__(host, "isolated", slow)
    check = Check("A", "slow", lambda host: [ok("slow", str(host.attempt("p").value["x"]))])
    ((_, (line,)),) = examine(host, [check])
    assert line.found == "1"


def test_what_measures_runs_first_and_alone(tmp_path: Path) -> None:
    order: list[str] = []

    def log(name: str, seconds: float = 0.0) -> Any:
        def run(host: Host) -> list[Finding]:
            order.append(name)
            time.sleep(seconds)
            order.append(f"{name} done")
            return []

        return run

    checks = [Check("A", "other", log("other")), Check("B", "measures", log("measures", 0.2), alone=True)]
    assert [check.name for check, _ in examine(fake(tmp_path), checks)] == ["other", "measures"]
    assert order == ["measures", "measures done", "other", "other done"]


def test_the_same_trial_is_made_once(tmp_path: Path) -> None:
    calls: list[str] = []

    def count(probe: str, arguments: Any, timeout_s: float) -> Outcome:
        calls.append(probe)
        time.sleep(0.1)
        return Outcome(Ending.DONE, {})

    host = fake(tmp_path)
    object.__setattr__(host, "isolated", count)
    threads = [threading.Thread(target=host.attempt, args=("p",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    host.attempt("p", device="x")
    assert calls == ["p", "p"] and not host.trying


def test_every_check_and_every_probe_exists() -> None:
    import importlib

    assert len({(check.group, check.name) for check in CHECKS}) == len(CHECKS)
    groups = [check.group for check in CHECKS]
    assert groups == sorted(groups, key=groups.index)  # a heading appears once
    for target in probes.PROBES.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


# Trials.


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run code as a probe."""

    def run(code: str, timeout_s: float = 30) -> Outcome:
        (tmp_path / "trial.py").write_text(f"import edge.doctor.probes as p\n{code}\n")
        (tmp_path / "cv2.py").write_text("import trial\n")  # the probe "opencv" loads it
        monkeypatch.syspath_prepend(str(tmp_path))
        return isolate("opencv", {}, timeout_s)

    return run


def test_a_trial_that_says_much(probe: Any) -> None:
    outcome = probe("import os\nos.write(1, b'x' * 10**6)\nos.write(2, b'y' * 10**6)\nos.abort()")
    assert (outcome.ending, outcome.kind) == (Ending.CRASHED, "SIGABRT")
    assert len(outcome.stderr) == 4000


@pytest.mark.parametrize("name", ["SIGILL", "SIGBUS", "SIGFPE", "SIGKILL"])
def test_a_trial_that_is_killed(probe: Any, name: str) -> None:
    outcome = probe(f"import os, signal\nos.kill(os.getpid(), signal.{name})")
    assert outcome.problem == f"crashed with {name} while loading OpenCV"


def test_a_trial_that_leaves(probe: Any) -> None:
    assert "exit code 3" in probe("raise SystemExit(3)").problem


def test_a_trial_that_hangs_is_gone(probe: Any, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    outcome = probe(f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)", 3)
    assert outcome.ending is Ending.HUNG and outcome.stage == "loading OpenCV"
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_a_trial_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """Its own alarm ends it, two seconds behind its time."""
    mark = tmp_path / "pid"
    (tmp_path / "cv2.py").write_text(
        f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()) + '\\n')\ntime.sleep(600)"
    )
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "from edge.doctor.isolate import isolate\nisolate('opencv', {}, 2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2])
    while not mark.exists() or not mark.read_text().endswith("\n"):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    child = int(mark.read_text())
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}/stat").exists() and ") Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    outcome = isolate("opencv", {}, 5)
    assert outcome.ending is Ending.FAILED and outcome.stage == "starting a process"


@pytest.mark.parametrize(
    ("machine", "kind", "stage", "mend"),
    [
        ("x86_64", "SIGILL", "loading OpenCV", "give the virtual machine the CPU of its host (QEMU: -cpu host)"),
        ("aarch64", "SIGILL", "loading NumPy", "export OPENBLAS_CORETYPE=ARMV8  # and try again"),
        ("aarch64", "SIGKILL", "loading OpenCV", "end other programs, or add swap"),
        (
            "aarch64",
            "SIGBUS",
            "loading pydantic",
            "pip install --force-reinstall --no-cache-dir pydantic pydantic-core",
        ),
        ("armv7l", "SIGSEGV", "loading the runtime", "pip install --force-reinstall --no-cache-dir tflite-runtime"),
    ],
)
def test_what_mends_a_crash(tmp_path: Path, machine: str, kind: str, stage: str, mend: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor : 0\nflags : sse2 hypervisor\nFeatures : asimd\n")
    outcome = Outcome(Ending.CRASHED, {}, stage, f"crashed with {kind} while {stage}", kind)
    found = unfinished(fake(tmp_path, machine), "x", outcome, needed=True)
    assert found.fatal and found.mend == mend
    assert ("it has no" in found.found) == (kind == "SIGILL")


def test_the_command_of_an_error_is_taken(tmp_path: Path) -> None:
    outcome = failed("OpenCV needs libxcb.so.1; install it with: apt install libxcb1", "loading OpenCV")
    found = unfinished(fake(tmp_path), "frame", outcome)
    assert found.found == "fails while loading OpenCV: OpenCV needs libxcb.so.1"
    assert found.mend == "sudo apt install libxcb1"
    assert unfinished(fake(tmp_path, superuser=True), "frame", outcome).mend == "apt install libxcb1"


def test_commands_that_fail_or_hang() -> None:
    assert run_command(["/nonexistent"], 1) is None
    assert run_command([sys.executable, "-c", "raise SystemExit(1)"], 30) is None
    assert run_command([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) is None
    assert run_command([sys.executable, "-c", "print('x')"], 30) == "x\n"


def test_the_kernel_is_asked_for_its_clock() -> None:
    """As the kernel's own structure has it: adjtimex(2) with modes of 0 changes nothing."""
    import ctypes

    raw = (ctypes.c_long * 64)()
    if ctypes.CDLL(None).adjtimex(raw) < 0:
        pytest.skip("adjtimex is not allowed here")
    assert clock_synchronised() == (raw[3] < 16_000_000)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    host = fake(tmp_path)
    (tmp_path / "n").write_bytes(b"\xff\xfe 12\0\n")
    assert host.text("/n") is not None and host.number("/n") is None
    assert (host.text("/none"), host.lines("/none"), host.find("/none/*")) == (None, [], [])
    (tmp_path / "folder").mkdir()
    assert host.text("/folder") is None


# Video4Linux.


class Device:
    """Answers as a driver does, field by field as in videodev2.h."""

    def __init__(self, capabilities: int, own: int, busy: bool = False) -> None:
        self.capabilities, self.own, self.busy = capabilities, own, busy
        self.asked: list[int] = []

    def __call__(self, number: int, request: int, data: bytearray) -> None:
        self.asked.append(request)
        assert len(data) == request >> 16 & 0x3FFF
        index = struct.unpack_from("=I", data)[0]
        if request == 0x80685600:  # VIDIOC_QUERYCAP
            struct.pack_into(
                "=16s32s32sIII", data, 0, b"uvcvideo", b"HD Webcam", b"usb-1", 6, self.capabilities, self.own
            )
        elif request == 0xC0405602 and index < 2:  # VIDIOC_ENUM_FMT
            assert struct.unpack_from("=I", data, 4)[0] == 1
            struct.pack_into("=I32sI", data, 8, 0, b"Motion-JPEG", int.from_bytes([b"MJPG", b"YUYV"][index], "little"))
        elif request == 0xC02C564A:  # VIDIOC_ENUM_FRAMESIZES
            code = struct.pack("=I", struct.unpack_from("=I", data, 4)[0])
            if code == b"YUYV" and index == 0:
                struct.pack_into("=IIIIIII", data, 8, 3, 32, 2592, 2, 32, 1944, 2)
            elif code == b"MJPG" and index < 2:
                struct.pack_into("=III", data, 8, 1, *[(640, 480), (1920, 1080)][index])
            else:
                raise OSError(errno.EINVAL, "end")
        elif request == 0xC034564B and index < 2:  # VIDIOC_ENUM_FRAMEINTERVALS
            code, width, height = struct.unpack_from("=4sII", data, 4)
            if code == b"YUYV":
                raise OSError(errno.ENOTTY, "not said")
            assert (width, height) == (1920, 1080)
            struct.pack_into("=III", data, 16, 1, 1, [15, 30][index])
        elif request == 0xC0145608:  # VIDIOC_REQBUFS
            assert struct.unpack_from("=III", data) == (0, 1, 1)  # none: this must not take the camera
            if self.busy:
                raise OSError(errno.EBUSY, "busy")
        else:
            raise OSError(errno.EINVAL, "end")


@pytest.fixture
def node(tmp_path: Path) -> str:
    (tmp_path / "video0").touch()
    return str(tmp_path / "video0")


def test_a_camera_is_asked(node: str) -> None:
    answer = v4l2.query(node, Device(0x84A00001, 0x04200001))
    assert (answer["driver"], answer["card"], answer["kind"], answer["busy"]) == (
        "uvcvideo",
        "HD Webcam",
        "capture",
        False,
    )
    assert answer["formats"] == [
        {"fourcc": "MJPG", "width": 1920, "height": 1080, "fps": 30.0},
        {"fourcc": "YUYV", "width": 2592, "height": 1944, "fps": None},
    ]
    json.dumps(answer)


@pytest.mark.parametrize(
    ("own", "kind"),
    [(0x04A00000, "metadata"), (0x04208000, "codec"), (0x04204000, "codec"), (0x2, "output"), (0x0, "other")],
)
def test_what_is_no_camera(node: str, own: int, kind: str) -> None:
    device = Device(0x84A00001, own)  # the whole device captures; this node of it does not
    answer = v4l2.query(node, device)
    assert (answer["kind"], answer["formats"], len(device.asked)) == (kind, [], 1)


def test_a_busy_camera(node: str) -> None:
    assert v4l2.query(node, Device(0x1, 0, busy=True))["busy"]


def test_a_file_is_no_video_device(node: str) -> None:
    with pytest.raises(OSError):
        v4l2.query(node)
    outcome = isolate("cameras", {"devices": [node, node + "9"]}, 30)
    first, second = outcome.value["devices"]
    assert (first["errno"], second["errno"]) == ("ENOTTY", "ENOENT")


def test_who_holds_a_file_open(node: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", f"f = open({node!r}); print(flush=True); input()"], stdin=-1, stdout=-1
    )
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        assert any(f"(process {holder.pid})" in user for user in v4l2.users(node))
    finally:
        holder.communicate(b"\n")
    assert v4l2.users(node) == []
