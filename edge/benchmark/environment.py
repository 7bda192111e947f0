"""What else goes on in the machine while it is measured: other programs, the clock, heat.

Sources: proc(5) for /proc/stat and /proc/self/stat, getrusage(2), Documentation/admin-guide/pm/cpufreq.rst of Linux.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edge.device import DeviceReadings

BUSY_CORES = 0.15
"""So much of a core may others take before times are called disturbed; a desktop at rest takes less."""

STOLEN_SHARE = 0.02
"""Of all CPU time, taken by the hypervisor of a virtual machine."""

INTERRUPTED_PER_S = 50.0
"""Times a second that our threads were made to wait though they had work; next to none where there is room."""

_OWN_POLICY = ("intel_pstate", "amd-pstate", "amd-pstate-epp")
"""Drivers whose "powersave" is no fixed lowest clock."""


class CpuTimes(NamedTuple):
    """CPU time since the machine, and this process, began, in seconds.

    Attributes:
        busy_s: Of all programs together, on all cores.
        stolen_s: That the hypervisor gave to other machines.
        own_s: Of this process and of its children that ended.
        at_s: When that was.
    """

    busy_s: float
    stolen_s: float
    own_s: float
    at_s: float


class Load(NamedTuple):
    """Who used the CPUs for a while.

    Attributes:
        others_cores: Cores' worth of time that other programs had.
        stolen_share: Share of one core that the hypervisor took, per core.
        seconds: How long it was looked at.
    """

    others_cores: float
    stolen_share: float
    seconds: float


@dataclass(frozen=True)
class Environment:
    """The machine around a measurement. None is what it does not tell.

    Attributes:
        cores: That this process may use.
        before: Load while we did nothing; None where that was not looked at.
        during: Load while we measured.
        interrupted_per_s: Involuntary context switches of our threads in a second of bare inference.
        governors: Policies of the CPU clock, with their drivers: "powersave (intel_pstate)".
        device_before: Heat and clock before.
        device_after: And after.
    """

    cores: int
    before: Load | None
    during: Load | None
    interrupted_per_s: float | None
    governors: tuple[str, ...]
    device_before: DeviceReadings
    device_after: DeviceReadings

    def as_json(self) -> dict[str, Any]:
        """Return it for the report."""
        return {
            "cores": self.cores,
            "before": None if self.before is None else self.before._asdict(),
            "during": None if self.during is None else self.during._asdict(),
            "interrupted_per_s": self.interrupted_per_s,
            "governors": list(self.governors),
            "device_before": asdict(self.device_before),
            "device_after": asdict(self.device_after),
        }


def read_times(root: Path = Path("/"), now: Callable[[], float] = time.monotonic) -> CpuTimes | None:
    """Return CPU times; None where the kernel does not show them."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    try:
        fields = (root / "proc/stat").read_text().split("\n", 1)[0].split()[1:]
        # The name in brackets may hold spaces and brackets.
        own = (root / "proc/self/stat").read_text().rpartition(")")[2].split()
        if len(fields) < 4 or len(own) < 15:
            return None
        user, nice, system, _, _, irq, softirq, steal = (int(field) for field in [*fields, *"0" * 8][:8])
        own_ticks = sum(int(field) for field in own[11:15])
    except (OSError, ValueError):
        return None
    return CpuTimes((user + nice + system + irq + softirq) * tick_s, steal * tick_s, own_ticks * tick_s, now())


def load_between(start: CpuTimes | None, end: CpuTimes | None, cores: int) -> Load | None:
    """Return the load between two readings; None where one is missing."""
    if start is None or end is None or end.at_s <= start.at_s:
        return None
    seconds = end.at_s - start.at_s
    others = (end.busy_s - start.busy_s) - (end.own_s - start.own_s)
    stolen = (end.stolen_s - start.stolen_s) / cores
    return Load(max(0.0, others) / seconds, max(0.0, stolen) / seconds, seconds)


def idle_load(
    seconds: float = 1.0,
    root: Path = Path("/"),
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Load | None:
    """Do nothing for a while and return what others did meanwhile."""
    start = read_times(root, now)
    sleep(seconds)
    return load_between(start, read_times(root, now), usable_cores())


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def involuntary_switches() -> int:
    """Return how often threads of this process had to make room for others."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def governors(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the policies of the CPU clock, each once, with their drivers."""
    found: dict[str, None] = {}
    try:
        policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    except OSError:
        return ()
    for policy in policies:
        name, driver = _text(policy / "scaling_governor"), _text(policy / "scaling_driver")
        if name:
            found[f"{name} ({driver})" if driver else name] = None
    return tuple(found)


def warnings(environment: Environment) -> list[str]:
    """Say what makes the times doubtful, one sentence each."""
    said = []
    worst = max(
        (load for load in (environment.before, environment.during) if load is not None),
        key=lambda load: load.others_cores,
        default=None,
    )
    if worst is not None and worst.others_cores > BUSY_CORES:
        when = "while nothing was measured" if worst is environment.before else "meanwhile"
        said.append(
            f"this machine is busy: other programs used {worst.others_cores:.1f} of {environment.cores} cores {when}; "
            "times are too long and say little until they end"
        )
    stolen = max((load.stolen_share for load in (environment.before, environment.during) if load), default=0.0)
    if stolen > STOLEN_SHARE:
        said.append(f"the host of this virtual machine kept {stolen:.0%} of its CPU time for others")
    if (environment.interrupted_per_s or 0.0) > INTERRUPTED_PER_S:
        said.append(
            f"threads had to wait for a core {environment.interrupted_per_s:.0f} times a second during bare inference: "
            "other programs, or more threads than cores"
        )
    for governor in environment.governors:
        name, _, driver = governor.partition(" (")
        if name == "powersave" and driver.rstrip(")") not in _OWN_POLICY:
            said.append(
                "the CPU's clock is held at its lowest (governor powersave); for full speed, as root: echo performance "
                "| tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
            )
    return said + _heat(environment.device_before, environment.device_after)


def _heat(before: DeviceReadings, after: DeviceReadings) -> list[str]:
    said = []
    for when, reading in (("before", before), ("after", after)):
        reasons = [name for name, active in reading.throttled.items() if active]
        if reasons:
            said.append(f"the device was slowed down {when} the measurement: {', '.join(reasons)}")
    return said


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """Return what the machine is: processor or board, cores, memory, kernel."""
    return {
        "model": _text(root / "proc/device-tree/model") or _cpu_name(root) or platform.machine(),
        "machine": platform.machine(),
        "cores": usable_cores(),
        "memory_mb": _memory_mb(root),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _cpu_name(root: Path) -> str | None:
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return None


def _memory_mb(root: Path) -> int | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text("utf-8", "replace").strip("\0\n ") or None
    except OSError:
        return None
