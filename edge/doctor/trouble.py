"""What to do about a trial that crashed, hung or failed."""

from __future__ import annotations

import re

from edge.doctor.finding import Finding, missing
from edge.doctor.host import Host
from edge.doctor.isolate import Ending, Outcome
from edge.doctor.machine import cpu_features, is_x86, virtual

_MEND = re.compile(r"; (?:re)?install (?:it|one) with: (.+)$")
_PACKAGES = {"NumPy": "numpy", "OpenCV": "opencv-python", "pydantic": "pydantic pydantic-core", "picamera2": ""}


def split_mend(host: Host, problem: str) -> tuple[str, str]:
    """Return what is wrong and the command that an error of edge names, "" where it names none."""
    command = _MEND.search(problem)
    if command is None:
        return problem, ""
    prefix = "sudo " if command[1].startswith("apt") and not host.superuser else ""
    return _MEND.sub("", problem), prefix + command[1]


def unfinished(host: Host, name: str, outcome: Outcome, needed: bool = False) -> Finding:
    """Return the line of a trial that came to no end.

    Args:
        host: Where.
        name: Of the line.
        outcome: What came of it; not done.
        needed: Whether nothing runs without it.
    """
    found, mend = split_mend(host, outcome.problem)
    mend = mend or _mend(host, outcome)
    if outcome.ending is Ending.FAILED:
        found = f"fails while {outcome.stage}: {found}"
    if outcome.kind == "SIGILL":
        _, lacks = cpu_features(host)
        without = f" (it has no {', '.join(lacks)})" if lacks else ""
        found += f": this CPU lacks an instruction that the package was built for{without}"
    elif outcome.kind == "SIGBUS":
        found += ": a file of the package is damaged or cut short, or the disk is full"
    elif outcome.kind == "SIGKILL":
        found += ": killed from outside, most often because memory ran out"
    facts = {"ending": str(outcome.ending), "stage": outcome.stage, "kind": outcome.kind}
    return missing(name, found, mend, needed, **facts)


def _mend(host: Host, outcome: Outcome) -> str:
    if outcome.kind == "SIGILL":
        if is_x86(host):
            return "give the virtual machine the CPU of its host (QEMU: -cpu host)" if virtual(host) else ""
        # OpenBLAS takes some Arm cores (Jetson Nano) for others.
        return "export OPENBLAS_CORETYPE=ARMV8  # and try again" if "NumPy" in outcome.stage else ""
    if outcome.kind == "SIGKILL":
        return "end other programs, or add swap"
    package = next((package for word, package in _PACKAGES.items() if word in outcome.stage), "")
    if not package and "runtime" in outcome.stage:
        package = "ai-edge-litert" if host.machine != "armv7l" else "tflite-runtime"
    if outcome.ending is Ending.FAILED and outcome.kind == "ModuleNotFoundError" and package:
        return f"pip install {package}"
    if outcome.ending is Ending.HUNG:
        return f"edge doctor --timeout {min(120, 3 * host.timeout_s):g}  # if the machine is only slow"
    return f"pip install --force-reinstall --no-cache-dir {package}" if package else ""
