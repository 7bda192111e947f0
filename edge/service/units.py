"""Unit files: what a service needs of systemd, and the text that says so.

The templates lie in `edge/service/templates/` (`systemd/` of a checkout is a link to it). In them `@KEY@` stands for a
value; a line is left out where its value is empty, and repeated for each of several values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import InputError

Scope = Literal["system", "user"]

MARK = "# Written by: edge service install"
"""How each of our units begins: no other one is overwritten or removed."""

_NOTIFY_RELOAD = 253
_RESTART_STEPS = 254
"""Versions of systemd that brought what is used where it is there."""

_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit says.

    Attributes:
        name: Of the service, and of its folders below /var/lib, /var/cache and /run.
        scope: Whose manager runs it: the system's or a user's.
        python: The interpreter of this installation.
        config: The configuration, absolute.
        systemd: Version of systemd that will read it.
        user: Who runs it; None: a user that exists while it runs (DynamicUser). Of no use in the user scope.
        groups: Groups that may use cameras and accelerators.
        memory_max: Most memory, as systemd writes it: "512M", "75%".
        credentials: Name -> file with a secret, readable by root alone.
        read_paths: Folders and files below a home that it reads.
        home_write_paths: Folders below a home that it writes to.
        write_paths: Other folders beside its own that it writes to.
        compiles: Whether a driver may make code while it runs.
    """

    name: str
    scope: Scope
    python: str
    config: Path
    systemd: int
    user: str | None = None
    groups: tuple[str, ...] = ()
    memory_max: str = "75%"
    credentials: tuple[tuple[str, Path], ...] = ()
    read_paths: tuple[Path, ...] = ()
    home_write_paths: tuple[Path, ...] = ()
    write_paths: tuple[Path, ...] = ()
    compiles: bool = False

    @property
    def file_name(self) -> str:
        """Of the unit: "edge.service"."""
        return f"{self.name}.service"

    @property
    def environment_file(self) -> Path:
        """Variables for the configuration, one NAME=VALUE a line; need not exist."""
        return self.config.with_name(f"{self.name}.env")


def template(scope: Scope) -> str:
    """Return the text of a template."""
    name = "edge.service.in" if scope == "system" else "edge-user.service.in"
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


def render(unit: Unit) -> str:
    """Return the unit file.

    Raises:
        InputError: A path cannot be written into a unit file.
    """
    for path in (unit.python, unit.config, *unit.read_paths, *unit.home_write_paths, *unit.write_paths):
        if any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in str(path)):
            raise InputError(f"{str(path)!r}: expected a path without control characters")
    for path in (*unit.read_paths, *unit.home_write_paths):
        if ":" in str(path):
            raise InputError(f"{path}: lies in a home and has a ':' in it, which systemd cannot show to a service")
    values = _values(unit)
    lines = []
    for line in template(unit.scope).splitlines():
        keys = _PLACEHOLDER.findall(line)
        several = [values[key] for key in keys if not isinstance(values[key], str)]
        if several:
            lines += [_PLACEHOLDER.sub(value, line) for value in map(_constant, several[0])]
        elif all(values[key] for key in keys):
            lines.append(_PLACEHOLDER.sub(lambda match: str(values[match[1]]), line))
    return "\n".join(lines) + "\n"


def _constant(value: str) -> str:
    return value.replace("\\", "\\\\")


def _values(unit: Unit) -> dict[str, str | list[str]]:
    steps = unit.systemd >= _RESTART_STEPS
    return {
        "NAME": unit.name,
        "CONFIG_SHOWN": _percent(str(unit.config)),
        "CONFIG": _argument(str(unit.config)),
        "PYTHON": _word(unit.python),
        "TYPE": "notify-reload" if unit.systemd >= _NOTIFY_RELOAD else "notify",
        "RELOAD": "" if unit.systemd >= _NOTIFY_RELOAD else "/bin/kill -HUP $MAINPID",
        "RESTART_STEPS": "4" if steps else "",
        "RESTART_MAX": "20" if steps else "",
        "STATE": f"%S/{unit.name}",
        "CACHE_HOME": "%C",
        "CACHE": f"%C/{unit.name}",
        "ENVIRONMENT_FILE": _percent(str(unit.environment_file)),
        "CREDENTIALS": [f"{name}:{_percent(str(path))}" for name, path in unit.credentials],
        "MEMORY_MAX": unit.memory_max,
        "DYNAMIC_USER": "" if unit.user else "yes",
        "USER": unit.user or "",
        "GROUPS": " ".join(unit.groups),
        # root would be nobody to the devices' owner there.
        "PRIVATE_USERS": "no" if unit.user == "root" else "yes",
        "READ_PATHS": _words(unit.read_paths),
        "HOME_WRITE_PATHS": _words(unit.home_write_paths),
        "WRITE_PATHS": [f"-{word}" if word[0] != '"' else f'"-{word[1:]}' for word in _words(unit.write_paths)],
        "DENY_EXECUTE": "no" if unit.compiles else "yes",
    }


def _words(paths: Iterable[Path]) -> list[str]:
    return [_word(str(path)) for path in paths]


def _word(text: str) -> str:
    """Return a word of a list: quoted where it must be, with systemd's specifiers made harmless."""
    text = _percent(text)
    if not re.search(r"[\s\"'\\;]", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _argument(text: str) -> str:
    """Return an argument of a command: it may hold variables, too."""
    return _word(text.replace("$", "$$"))


def _percent(text: str) -> str:
    return text.replace("%", "%%")
