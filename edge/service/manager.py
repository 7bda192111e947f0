"""systemd itself: the commands of it that install, remove and ask."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge.errors import InputError, MissingDependencyError, OutputError, ServiceError
from edge.service.units import MARK, Scope, Unit, render

_COMMAND_S = 240
"""A start waits for the first pass of each model: TimeoutStartSec and a little."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What systemd knows of a service.

    Attributes:
        name: Of the unit, "edge.service".
        load: "loaded", "not-found", ...
        active: "active", "failed", "inactive", "activating", "reloading", ...
        sub: More of the same: "running", "auto-restart".
        enabled: "enabled" or "disabled".
        since: When it came into this state; empty where it never was in one.
        result: Why it ended: "success", "watchdog", "signal", "start-limit-hit", "oom-kill", ...
        restarts: How often systemd started it again.
        pid: Of the process; 0 where none runs.
        memory_bytes: What it uses now; None where nobody counts.
        memory_max_bytes: What it may use; None for no limit.
        says: Its own sentence on how it goes.
        log: Last lines of its log.
    """

    name: str
    load: str
    active: str
    sub: str
    enabled: str
    since: str
    result: str
    restarts: int
    pid: int
    memory_bytes: int | None
    memory_max_bytes: int | None
    says: str
    log: tuple[str, ...]


def require_systemd() -> None:
    """Check that this machine was started by systemd.

    Raises:
        MissingDependencyError: It was not.
    """
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        raise MissingDependencyError(
            "this machine was not started by systemd (there is no /run/systemd/system); run it under what started it: "
            "edge run CONFIG stays in the foreground and ends at SIGTERM"
        )


def systemd_version() -> int:
    """Return the version of systemd; 252, the oldest that is known to work, where it cannot be told."""
    if shutil.which("systemctl") is None:
        return 252
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=20)
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found[1]) if found else 252


class Manager:
    """The service manager of the system or of a user."""

    def __init__(self, scope: Scope, name: str) -> None:
        """Choose a service.

        Args:
            scope: Whose manager.
            name: Of the service, without ".service".
        """
        self.scope = scope
        self.name = name
        self.unit = f"{name}.service"
        self._flags = ["--user"] if scope == "user" else []

    @property
    def folder(self) -> Path:
        """Where the unit lies."""
        if self.scope == "system":
            return Path("/etc/systemd/system")
        given = os.environ.get("XDG_CONFIG_HOME", "")
        return Path(given if os.path.isabs(given) else os.path.expanduser("~/.config"), "systemd/user")

    @property
    def path(self) -> Path:
        """The unit file."""
        return self.folder / self.unit

    def require_ours(self) -> bool:
        """Return whether the unit is installed.

        Raises:
            InputError: There is one of this name that edge did not write.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: cannot be read ({error})") from error
        if not text.startswith(MARK):
            raise InputError(f"{self.path}: was not written by edge, and is left alone; choose another --name")
        return True

    def install(self, unit: Unit) -> bool:
        """Write the unit and have it started with the machine; returns whether an older one was there.

        Raises:
            OutputError: It cannot be written.
            ServiceError: systemd refuses.
        """
        there = self.require_ours()
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(render(unit), encoding="utf-8")
            part.chmod(0o644)
            part.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._call("daemon-reload")
        self._call("enable", self.unit)
        return there

    def start(self) -> None:
        """Start it, or start it again, and wait until it works.

        Raises:
            ServiceError: It does not; with the last line of its log.
        """
        self._call("reset-failed", self.unit, check=False)
        if self._call("restart", self.unit, check=False) is None:
            return
        state = self.state(200)
        lines = [line.partition("]: ")[2] for line in state.log if "]: " in line and " systemd[" not in line]
        # After a crash the last lines are the ends of stacks.
        said = next((line for line in reversed(lines) if line.startswith("Fatal ")), lines[-1] if lines else "")
        why = [said.removeprefix("edge: ")] if said else []
        if state.result not in ("", "success", "exit-code") or not why:
            why.append(f"result {state.result}")
        raise ServiceError(
            f"{self.unit} is installed and does not start: {', '.join(why)}; see: {self.journal_command()}"
        )

    def uninstall(self, purge: bool) -> list[Path]:
        """Stop it and remove all that `install` and `systemctl edit` made; returns the folders of data that stay.

        Args:
            purge: Remove these, too.

        Raises:
            ServiceError: systemd refuses.
            OutputError: A file cannot be removed.
        """
        self._call("disable", "--now", self.unit)
        kept: list[Path] = []
        if self.scope == "system":
            runtime = Path("/run", self.name)
            if runtime.exists():  # it outlives a restart, for what a crash left in it
                self._call("clean", "--what=runtime", self.unit)
            if runtime.is_symlink():  # of a dynamic user's folder the link stays
                runtime.unlink()
            for what, root in (("state", "/var/lib"), ("cache", "/var/cache")):
                folder = Path(root, self.name)
                if not folder.exists():
                    continue
                if purge or not any(folder.iterdir()):
                    self._call("clean", f"--what={what}", self.unit)
                    # Of a dynamic user's folder the link stays.
                    if folder.is_symlink():
                        folder.unlink()
                else:
                    kept.append(folder)
        try:
            self.path.unlink(missing_ok=True)
            drop_ins = self.folder / f"{self.unit}.d"
            if drop_ins.is_dir():
                shutil.rmtree(drop_ins)
        except OSError as error:
            raise OutputError(f"{error.filename}: cannot be removed ({error.strerror})") from error
        self._call("daemon-reload")
        self._call("reset-failed", self.unit, check=False)
        return kept

    def state(self, lines: int = 8) -> ServiceState:
        """Return what systemd knows of it.

        Args:
            lines: Of its log.

        Raises:
            ServiceError: systemd does not answer.
        """
        names = (
            "LoadState ActiveState SubState UnitFileState StateChangeTimestamp Result NRestarts MainPID MemoryCurrent "
            "MemoryMax StatusText"
        )
        text = self._ask("show", self.unit, f"--property={','.join(names.split())}")
        known = dict(line.partition("=")[::2] for line in text.splitlines())
        return ServiceState(
            self.unit,
            known.get("LoadState", ""),
            known.get("ActiveState", ""),
            known.get("SubState", ""),
            known.get("UnitFileState", ""),
            known.get("StateChangeTimestamp", ""),
            known.get("Result", ""),
            _number(known.get("NRestarts")) or 0,
            _number(known.get("MainPID")) or 0,
            _number(known.get("MemoryCurrent")),
            _number(known.get("MemoryMax")),
            known.get("StatusText", ""),
            tuple(self._log(lines)) if lines else (),
        )

    def journal_command(self) -> str:
        """Return the command that shows the log."""
        return f"journalctl --user -u {self.name} -e" if self.scope == "user" else f"journalctl -u {self.name} -e"

    def _log(self, lines: int) -> list[str]:
        which = "--user-unit" if self.scope == "user" else "--unit"
        command = [
            "journalctl",
            f"{which}={self.unit}",
            f"--lines={lines}",
            "--no-pager",
            "--output=short-iso",
            "--quiet",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return []
        return done.stdout.splitlines()[-lines:]

    def _ask(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode:
            raise ServiceError(f"systemctl {' '.join(arguments[:2])}: {_reason(done)}")
        return done.stdout

    def _call(self, *arguments: str, check: bool = True) -> str | None:
        """Run a command; returns why it failed, or None.

        Raises:
            ServiceError: It failed, and `check` is set.
        """
        done = self._run(*arguments)
        if done.returncode == 0:
            return None
        if check:
            raise ServiceError(f"systemctl {' '.join(arguments)}: {_reason(done)}")
        return _reason(done)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["systemctl", *self._flags, "--no-pager", "--no-ask-password", *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_COMMAND_S)
        except subprocess.TimeoutExpired as error:
            raise ServiceError(f"systemctl {arguments[0]}: no answer in {_COMMAND_S} s") from error


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[0].rstrip(".") if lines else f"exit code {done.returncode}"


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and int(text) < 1 << 63 else None
