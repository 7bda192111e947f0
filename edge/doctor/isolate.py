"""Something that may crash or hang, tried in a process of its own."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge.doctor.finding import one_line

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from edge.doctor.probes import main; main()"
_KILL_S = 1.0


class Ending(StrEnum):
    """How a trial ended."""

    DONE = "done"
    FAILED = "failed"
    CRASHED = "crashed"
    HUNG = "hung"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        ending: How it ended.
        value: What the probe returned; empty unless it is done.
        stage: What it was doing last, like "loading OpenCV".
        problem: Why it is not done, for humans; one line.
        kind: Name of the exception, or of the signal, that ended it.
        stderr: The end of what was written there.
    """

    ending: Ending
    value: Mapping[str, Any]
    stage: str = ""
    problem: str = ""
    kind: str = ""
    stderr: str = ""


def isolate(probe: str, arguments: Mapping[str, Any], timeout_s: float) -> Outcome:
    """Run a probe in a process of its own.

    Args:
        probe: A key of `edge.doctor.probes.PROBES`.
        arguments: What it is called with, as JSON takes it.
        timeout_s: It is killed after so many seconds.
    """
    try:
        return _isolate(probe, arguments, timeout_s)
    except OSError as error:  # no process, no temporary file
        return Outcome(Ending.FAILED, {}, "starting a process", one_line(error), type(error).__name__)


def _isolate(probe: str, arguments: Mapping[str, Any], timeout_s: float) -> Outcome:
    # A pipe could fill up, or be held open by what the probe leaves behind; a file does neither.
    with _nameless() as told, _nameless() as said:
        command = [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path), probe, json.dumps(dict(arguments))]
        child = subprocess.Popen(
            [*command, str(told), str(timeout_s)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=(told,),
        )
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Also when this process is interrupted meanwhile.
            child.kill()
            killed = _wait(child)
        lines = [json.loads(line) for line in _contents(told).splitlines() if line.endswith("}")]
        stderr = _contents(said)[-4000:]
    stage = next((line["stage"] for line in reversed(lines) if "stage" in line), "starting Python")
    last = lines[-1] if lines else {}
    if code is None:
        stuck = "" if killed else ", and cannot be killed: it waits in the kernel for a device"
        return Outcome(
            Ending.HUNG, {}, stage, f"hangs while {stage}: no answer within {timeout_s:g} s{stuck}", "", stderr
        )
    if "value" in last:  # a crash behind it, when the process ends, harms nobody
        return Outcome(Ending.DONE, last["value"], stage, stderr=stderr)
    if "error" in last:
        return Outcome(Ending.FAILED, {}, stage, last["error"], last["kind"], stderr)
    if code < 0:
        name = _signal_name(-code)
        return Outcome(Ending.CRASHED, {}, stage, f"crashed with {name} while {stage}", name, stderr)
    reason = one_line(stderr.strip().splitlines()[-1]) if stderr.strip() else f"exit code {code}"
    return Outcome(Ending.FAILED, {}, stage, f"ended while {stage} ({reason})", "", stderr)


class _nameless:
    """A file without a name, in memory: it works where no disk can be written."""

    def __enter__(self) -> int:
        if hasattr(os, "memfd_create"):
            self._number = os.memfd_create("edge-doctor")
        else:
            file, name = tempfile.mkstemp()
            os.unlink(name)
            self._number = file
        return self._number

    def __exit__(self, *error: object) -> None:
        os.close(self._number)


def _contents(number: int) -> str:
    os.lseek(number, 0, os.SEEK_SET)
    with open(number, "rb", closefd=False) as file:
        return file.read().decode(errors="replace")


def _wait(child: subprocess.Popen[bytes]) -> bool:
    """Return whether a killed child is gone."""
    try:
        child.wait(_KILL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def guard_child(timeout_s: float) -> None:
    """Prepare this process, the child: no core file, and it ends even if its parent is gone or it ignores Ctrl-C."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.alarm(math.ceil(timeout_s) + 2)
