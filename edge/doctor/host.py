"""The machine that is examined: its files below a root, its commands, and who asks."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.doctor.isolate import Outcome, isolate

_MOST_BYTES = 1 << 20
_UNSYNCHRONISED_US = 16_000_000
"""Error from which on Linux takes the clock for not synchronised (NTP_PHASE_LIMIT), as timedatectl does."""


class _Timex(ctypes.Structure):
    """The head of struct timex (sys/timex.h); room behind it for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 64),
    )


def clock_synchronised() -> bool | None:
    """Return whether something keeps this machine's clock right; None where the kernel does not say."""
    answer = _Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(answer))
    except (OSError, AttributeError):
        return None
    return answer.maxerror < _UNSYNCHRONISED_US if state >= 0 else None


def run_command(command: Sequence[str], timeout_s: float) -> str | None:
    """Return what a command prints on stdout; None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Host:
    """What checks ask. Another root, with other answers, is another machine: a test makes one of files.

    Attributes:
        root: What "/" is.
        machine: The kernel's name of the architecture.
        bits: Of this Python: 32 or 64.
        affinity: Cores that this process may use.
        groups: Numbers of the groups that this process is in.
        superuser: Whether it is root.
        environ: Environment variables.
        timeout_s: Most seconds for one trial.
        read_frames: Whether cameras are to be opened and read.
        command: Runs a command, see `run_command`.
        isolated: Runs a probe, see `isolate`.
        time: Seconds since 1970.
        synchronised: Whether something keeps the clock right; None where that is not known.
    """

    root: Path = Path("/")
    machine: str = field(default_factory=platform.machine)
    bits: int = struct.calcsize("P") * 8
    affinity: int = field(default_factory=_affinity)
    groups: frozenset[int] = field(default_factory=lambda: frozenset({*os.getgroups(), os.getegid()}))
    superuser: bool = field(default_factory=lambda: os.geteuid() == 0)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    timeout_s: float = 10.0
    read_frames: bool = False
    command: Callable[[Sequence[str], float], str | None] = run_command
    isolated: Callable[[str, Mapping[str, Any], float], Outcome] = isolate
    time: Callable[[], float] = time.time
    synchronised: Callable[[], bool | None] = clock_synchronised
    _tried: dict[str, Future[Outcome]] = field(default_factory=dict)
    _running: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    # As many at once as there are cores: a slow machine that tries all at once takes each for hanging.
    _cores: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(max(2, _affinity())))

    def path(self, name: str) -> Path:
        """Return where an absolute path lies below the root."""
        return self.root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        try:
            return self.path(name).exists()
        except OSError:
            return False

    def text(self, name: str) -> str | None:
        """Return a small file without the space and NULs around it; None where it cannot be read."""
        try:
            with open(self.path(name), "rb") as file:
                return file.read(_MOST_BYTES).decode(errors="replace").strip("\0 \t\r\n")
        except OSError:  # also what a driver answers for a sensor that is asleep
            return None

    def lines(self, name: str) -> list[str]:
        """Return the lines of a small file; none where it cannot be read."""
        return (self.text(name) or "").splitlines()

    def number(self, name: str) -> int | None:
        """Return the whole number, decimal or 0x..., that a file holds; None where it holds none."""
        try:
            return int(self.text(name) or "", 0)
        except ValueError:
            return None

    def find(self, pattern: str) -> list[str]:
        """Return the absolute names that match a pattern, in natural order."""
        try:
            found = [f"/{path.relative_to(self.root)}" for path in self.root.glob(pattern.lstrip("/"))]
        except OSError:
            return []
        return sorted(found, key=lambda name: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", name)])

    def ask(self, *command: str, timeout_s: float = 3.0) -> str | None:
        """Return what a command prints; None where it is missing, fails or hangs."""
        said = self.command(command, min(timeout_s, self.timeout_s))
        return None if said is None else said.strip()

    def attempt(self, probe: str, **arguments: Any) -> Outcome:
        """Run a probe in a process of its own; the same again is not run twice."""
        key = f"{probe} {arguments}"
        with self._lock:
            first = key not in self._tried
            pending = self._tried.setdefault(key, Future())
        if first:
            with self._lock:
                self._running.append(probe)
            try:
                with self._cores:
                    pending.set_result(self.isolated(probe, arguments, self.timeout_s))
            except BaseException as error:  # who waits for it must not wait for ever
                pending.set_exception(error)
                raise
            finally:
                with self._lock:
                    self._running.remove(probe)
        return pending.result()

    @property
    def trying(self) -> bool:
        """Whether probes run or wait for a core; each ends in time."""
        with self._lock:
            return bool(self._running)

    def known(self, probe: str) -> Outcome | None:
        """Return what came of a probe without arguments, if it ran already."""
        with self._lock:
            pending = self._tried.get(f"{probe} {{}}")
        return pending.result() if pending is not None and pending.done() else None

    def may_use(self, name: str) -> bool:
        """Whether this process may read and write a device."""
        return os.access(self.path(name), os.R_OK | os.W_OK)

    def group_of(self, name: str) -> str | None:
        """Return the group of a device; None where that is nobody's or root's."""
        try:
            number = self.path(name).stat().st_gid
        except OSError:
            return None
        return next((group for group, gid, _ in self.named_groups() if gid == number and gid != 0), None)

    def named_groups(self) -> list[tuple[str, int, list[str]]]:
        """Return name, number and listed members of every group."""
        rows = [line.split(":") for line in self.lines("/etc/group")]
        return [(row[0], int(row[2]), row[3].split(",")) for row in rows if len(row) >= 4 and row[2].isdecimal()]

    @property
    def emulated(self) -> bool:
        """Whether the root is not that of this machine."""
        return self.root != Path("/")
