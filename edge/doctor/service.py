"""Whether edge runs as a service, and which optional packages work."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any

from edge.doctor.finding import Finding, missing, ok, warning
from edge.doctor.host import Host
from edge.doctor.isolate import Ending
from edge.doctor.trouble import unfinished

_WORKSTATION = ("convert", "dev", "train")
"""Extras that are of no use on a device and take seconds to load."""


def service(host: Host) -> Iterator[Finding]:
    """State of the systemd units called edge."""
    if not host.exists("/run/systemd/system"):
        yield missing("service", "systemd does not run here (a container?); edge can run in the foreground")
        return
    units = [path.rpartition("/")[2] for path in host.find("/etc/systemd/system/edge*.service")]
    names = [name for name in units if re.fullmatch(r"edge([@-].*)?\.service", name)]
    if not names:
        yield missing("service", "no unit called edge is installed; edge can run in the foreground")
    for name in names:
        if name.endswith("@.service"):
            continue
        said = host.ask("systemctl", "show", name, "-p", "ActiveState,SubState,Result,NRestarts,UnitFileState") or ""
        shown = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        active = shown.get("ActiveState", "unknown")
        restarts = int(shown.get("NRestarts") or 0)
        found = f"{name}: {active} ({shown.get('SubState', '?')})"
        found += f", restarted {restarts} times" if restarts else ""
        facts: dict[str, Any] = {
            "unit": name,
            "active": active,
            "restarts": restarts,
            "enabled": shown.get("UnitFileState"),
        }
        if active == "failed":
            yield warning("service", f"{found}: {shown.get('Result', '')}", f"journalctl -u {name} -n 50", **facts)
        elif active != "active":
            yield warning("service", found, f"sudo systemctl enable --now {name}", **facts)
        elif shown.get("UnitFileState") == "disabled":
            found += "; does not start with the machine"
            yield warning("service", found, f"sudo systemctl enable {name}", **facts)
        else:
            yield ok("service", found, **facts)


def extras() -> dict[str, list[str]]:
    """Return the optional parts of this installation that serve on a device, and the packages that each needs."""
    try:
        lines = importlib.metadata.requires("edge-pipeline") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        parsed = re.match(r"([\w.-]+)[^;]*;.*extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if parsed and parsed[2] not in _WORKSTATION and parsed[1] != "edge-pipeline":
            found.setdefault(parsed[2], []).append(parsed[1])
    return found


def optional(host: Host) -> Iterator[Finding]:
    """Which optional parts are installed, and whether they load."""
    wanted = extras()
    there = {name: [p for p in packages if _installed(p)] for name, packages in wanted.items()}
    outcome = host.attempt("imports", distributions=sorted({p for packages in there.values() for p in packages}))
    if outcome.ending is not Ending.DONE:
        yield unfinished(host, "extras", outcome)
        return
    broken = {name: said for name, said in outcome.value.items() if said is not None}
    whole = [name for name, packages in wanted.items() if len(there[name]) == len(packages)]
    absent = [name for name in wanted if name not in whole]
    facts: dict[str, Any] = {"installed": whole, "not_installed": absent, "broken": broken}
    for name, said in broken.items():
        yield warning("extras", f"{name} is installed and does not load ({said})", f"pip install -U {name}", **facts)
    if broken:
        return
    if whole and absent:
        yield ok("extras", f"{', '.join(whole)} installed; not installed: {', '.join(absent)}", **facts)
    elif whole:
        yield ok("extras", f"{', '.join(whole)} installed", **facts)
    elif absent:
        mend = f"pip install 'edge-pipeline[{','.join(absent)}]'"
        yield missing("extras", f"not installed: {', '.join(absent)}", mend, **facts)


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
