"""The list of checks, and how they are run: none can stop another."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from edge.doctor import accelerators, cameras, machine, opencv, power, running, service, storage
from edge.doctor.finding import Finding, one_line, warning
from edge.doctor.host import Host


class Check(NamedTuple):
    """One check.

    Attributes:
        group: Its heading.
        name: Of the line that says that the check itself failed.
        run: Yields findings.
        alone: Whether nothing may compute beside it, because it measures.
    """

    group: str
    name: str
    run: Callable[[Host], Iterable[Finding]]
    alone: bool = False


CHECKS: tuple[Check, ...] = (
    Check("Machine", "system", machine.system),
    Check("Machine", "Python", machine.python),
    Check("Machine", "CPU", machine.cpu),
    Check("Machine", "memory", machine.memory),
    Check("Model", "runtime", running.runtime, alone=True),
    Check("Model", "self-test", running.selftest),
    Check("OpenCV", "OpenCV", opencv.opencv),
    Check("OpenCV", "video", opencv.video),
    Check("Cameras", "cameras", cameras.cameras),
    Check("Cameras", "CSI", cameras.connectors),
    Check("Accelerators", "GPU", accelerators.gpu),
    Check("Accelerators", "Edge TPU", accelerators.edgetpu),
    Check("Accelerators", "groups", accelerators.permissions),
    Check("Heat and power", "temperature", power.temperature),
    Check("Heat and power", "power", power.supply),
    Check("Heat and power", "CPU clock", power.clock_speed),
    Check("Disk and clock", "disk", storage.disks),
    Check("Disk and clock", "temporary", storage.temporary),
    Check("Disk and clock", "clock", storage.clock),
    Check("Service", "service", service.service),
    Check("Service", "extras", service.optional),
)
"""In the order of the screen."""

_GRACE_S = 3.0


def examine(host: Host, checks: Sequence[Check] = CHECKS) -> Iterator[tuple[Check, list[Finding]]]:
    """Run every check, and yield each with its findings, in order, as soon as those before it are done.

    A check that raises, or hangs, is a line like others. What measures runs first and alone, then all others at once.
    """
    order = [*filter(lambda check: check.alone, checks), *filter(lambda check: not check.alone, checks)]
    started = _start(host, order)
    for check in checks:
        yield check, started[check]()


def _start(host: Host, order: Sequence[Check]) -> dict[Check, Callable[[], list[Finding]]]:
    """Start the checks in the background; returns what waits for each one's findings."""
    answers: dict[Check, SimpleQueue[list[Finding]]] = {check: SimpleQueue() for check in order}
    kept: dict[Check, list[Finding]] = {}

    def run(check: Check) -> None:
        try:
            found = list(check.run(host))
        except Exception as error:  # the boundary of this thread: one broken check must not hide the others
            found = [warning(check.name, f"the check itself failed ({type(error).__name__}: {one_line(error)})")]
        answers[check].put(found)

    def wait(check: Check) -> list[Finding]:
        # A trial ends itself in time; a file or a command of the system may never answer.
        while check not in kept:
            trying = host.trying
            try:
                kept[check] = answers[check].get(timeout=host.timeout_s + _GRACE_S)
            except Empty:
                if not trying and not host.trying:
                    kept[check] = [warning(check.name, "the check hangs: a device or a network disk does not answer")]
        return kept[check]

    def conduct() -> None:
        for check in order:
            # Daemons: one that hangs must not keep the process.
            thread = threading.Thread(target=run, args=(check,), name=f"doctor {check.name}", daemon=True)
            thread.start()
            if check.alone:
                thread.join(host.timeout_s + _GRACE_S)

    threading.Thread(target=conduct, name="doctor", daemon=True).start()
    return {check: functools.partial(wait, check) for check in order}
