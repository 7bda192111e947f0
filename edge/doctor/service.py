"""Whether edge runs as a service, and which optional packages work."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any

from edge.doctor.finding import Finding, count, missing, ok, warning
from edge.doctor.host import Host
from edge.doctor.isolate import Ending
from edge.doctor.trouble import unfinished

_SYSTEM, _USER = "/etc/systemd/system", "/.config/systemd/user"
_STARTS = re.compile(r"^ExecStart=.*\bedge run\b", re.MULTILINE)
_WORKSTATION = ("convert", "dev", "train")
"""Extras that are of no use on a device and take seconds to load."""


def units(host: Host) -> list[tuple[str, bool]]:
    """Return the units that start `edge run`, and whether each is this user's own."""
    found = []
    for folder, own in ((_SYSTEM, False), (host.environ.get("HOME", "") + _USER, True)):
        for path in host.find(f"{folder}/*.service"):
            if _STARTS.search(host.text(path) or ""):
                found.append((path.rpartition("/")[2], own))
    return found


def service(host: Host) -> Iterator[Finding]:
    """State of the systemd units that start `edge run`."""
    if not host.exists("/run/systemd/system"):
        yield missing("service", "systemd does not run here (a container?); edge run works without")
        return
    installed = units(host)
    if not installed:
        mend = "edge service install --config edge.toml  # as root"
        yield missing("service", "none is installed; edge run works without", mend)
    for name, own in installed:
        yield _unit(host, name, ["--user"] if own else [])


def _unit(host: Host, name: str, scope: list[str]) -> Finding:
    said = (
        host.ask("systemctl", *scope, "show", name, "-p", "ActiveState,SubState,Result,NRestarts,UnitFileState") or ""
    )
    shown = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    active, restarts = shown.get("ActiveState", "unknown"), int(shown.get("NRestarts") or 0)
    found = f"{name}: {active} ({shown.get('SubState', '?')})"
    found += f", restarted {count(restarts, 'time')}" if restarts else ""
    facts: dict[str, Any] = {"unit": name, "user": bool(scope), "active": active, "restarts": restarts}
    facts["enabled"] = shown.get("UnitFileState")
    systemctl = "systemctl --user" if scope else "sudo systemctl"
    if active == "failed":
        log = f"journalctl {'--user ' if scope else ''}-u {name} -n 50"
        return warning("service", f"{found}: {shown.get('Result', '')}", log, **facts)
    if active not in ("active", "reloading", "activating"):
        return warning("service", found, f"{systemctl} enable --now {name}", **facts)
    if shown.get("UnitFileState") == "disabled":
        found += "; does not start with the machine"
        return warning("service", found, f"{systemctl} enable {name}", **facts)
    return ok("service", found, **facts)


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
        more = f"pip install 'edge-pipeline[{','.join(absent)}]'"
        yield ok("extras", f"{', '.join(whole)} installed; not installed: {', '.join(absent)} ({more})", **facts)
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
