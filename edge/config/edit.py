"""Some keys of a table changed in a TOML text, line by line: comments, order and everything else stay as they are.

A library that writes TOML (tomlkit) would be another requirement on every device, for four keys. What is edited here is
read again and compared: a text in which the change would touch anything else is refused.
"""

from __future__ import annotations

import copy
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.config.lines import key_lines
from edge.errors import InputError, OutputError

Value = str | int | bool

_PAIR = re.compile(
    r"""(?P<head>\s*(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')\s*=\s*)"""
    r"""(?P<value>"(?:\\.|[^"\\])*"|'[^']*'|[^\s#"'\[{]+)(?P<tail>\s*(?:\#.*)?)"""
)
"""A key with a value on one line, and the comment behind it."""


def edited(text: str, table: tuple[str, str], values: Mapping[str, Value]) -> str:
    """Return a TOML text in which keys of a table have other values; a table that is missing is added at the end.

    Args:
        text: Valid TOML.
        table: Name of the table, as in `[models.default]`.
        values: Key -> value.

    Raises:
        ValueError: The text is no TOML, or it writes the table in a way that cannot be changed key by key (inside
            of braces, with dots, over several lines).
    """
    before = tomllib.loads(text)
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    found = key_lines(text)
    held = before.get(table[0])
    if held is not None and not isinstance(held, dict):
        raise ValueError(f"{table[0]} is no table")
    if held is not None and table[1] in held:
        at = found.get(table)
        if at is None or not lines[at - 1].lstrip().startswith("["):
            raise ValueError(f"{'.'.join(table)} is not written as a table of its own")
        missing = []
        for key, value in values.items():
            line = found.get((*table, key))
            if line is None:
                missing.append(f"{key} = {toml(value)}{newline}")
                continue
            content = lines[line - 1].rstrip("\r\n")
            match = _PAIR.fullmatch(content)
            if match is None:
                raise ValueError(f"{key} in line {line} is not a key and a value on one line")
            ending = lines[line - 1][len(content) :]
            lines[line - 1] = match["head"] + toml(value) + match["tail"] + ending
        if not lines[at - 1].endswith("\n"):
            lines[at - 1] += newline
        lines[at:at] = missing
    else:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += newline
        gap = [newline] if lines and lines[-1].strip() else []
        lines += [*gap, f"[{'.'.join(table)}]{newline}", *(f"{k} = {toml(v)}{newline}" for k, v in values.items())]
    result = "".join(lines)
    wanted: dict[str, Any] = copy.deepcopy(before)
    wanted.setdefault(table[0], {}).setdefault(table[1], {}).update(values)
    if tomllib.loads(result) != wanted:
        raise ValueError("more than these keys would change")
    return result


def edit_file(path: Path, text: str, table: tuple[str, str], values: Mapping[str, Value]) -> None:
    """Change keys of a file, all or nothing; its mode and owner stay, and a link stays a link.

    Args:
        path: The file; need not exist.
        text: What it holds, or what a new one begins with.
        table: As of `edited`.
        values: Likewise.

    Raises:
        InputError: The text cannot be changed key by key.
        OutputError: The file cannot be written.
    """
    try:
        content = edited(text, table, values)
    except (ValueError, RecursionError) as error:
        lines = ", ".join(f"{key} = {toml(value)}" for key, value in values.items())
        raise InputError(f"{path}: left as it is ({error}); set in [{'.'.join(table)}]: {lines}") from error
    real = Path(os.path.realpath(path))
    part = real.with_name(f".{real.name}.{os.getpid()}.part")
    try:
        status = real.stat() if real.exists() else None
        # It may hold a password: nobody else may read it meanwhile either.
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
        if status is not None:
            with suppress(PermissionError):
                os.chown(part, status.st_uid, status.st_gid)
        os.chmod(part, 0o644 if status is None else stat.S_IMODE(status.st_mode))
        os.replace(part, real)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            part.unlink()


def toml(value: Value) -> str:
    """Return a value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    out = []
    for character in value:
        code = ord(character)
        if character in '"\\':
            out.append("\\" + character)
        else:
            out.append(f"\\u{code:04x}" if code < 0x20 or code == 0x7F else character)
    return '"' + "".join(out) + '"'
