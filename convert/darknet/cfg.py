"""The `.cfg` file: sections and options, each with its line number.

The rules are those of Darknet's own reader: white space means nothing, `#` and `;` begin a comment, the first
section is `[net]`, layers are numbered from 0 after it. A section or a key that could change the result and is
not supported is an error, never skipped: a wrong network that runs is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from convert.darknet.keys import ALIASES, SECTIONS
from edge.errors import InputError

_MAX_BYTES = 4 << 20


class Option(NamedTuple):
    """A `key=value` line: the text of the value and the number of the line."""

    text: str
    line: int


@dataclass(frozen=True)
class Section:
    """A section of the file.

    Attributes:
        kind: Canonical name without brackets ("convolutional", not "conv").
        path: The file, for messages.
        line: Line of the `[kind]` header.
        index: Layer number; -1 for `[net]`.
        options: Key -> value and line.
    """

    kind: str
    path: Path
    line: int
    index: int
    options: dict[str, Option] = field(default_factory=dict)

    def error(self, message: str, key: str | None = None) -> InputError:
        """Return an error that names the file, the line of `key` (else of the section) and the section."""
        line = self.options[key].line if key in self.options else self.line
        layer = f" (layer {self.index})" if self.index >= 0 else ""
        return InputError(f"{self.path}:{line}: [{self.kind}]{layer}: {message}")

    def text(self, key: str, default: str) -> str:
        """Return an option's text."""
        return self.options[key].text if key in self.options else default

    def integer(self, key: str, default: int, minimum: int | None = None) -> int:
        """Return an integer option.

        Raises:
            InputError: Not an integer, or below `minimum`.
        """
        (value,) = self.integers(key, (default,), count=1)
        if minimum is not None and value < minimum:
            raise self.error(f"{key}={value}, expected at least {minimum}", key)
        return value

    def number(self, key: str, default: float) -> float:
        """Return a numeric option.

        Raises:
            InputError: Not a number.
        """
        (value,) = self.numbers(key, (default,), count=1)
        return value

    def integers(self, key: str, default: tuple[int, ...], count: int | None = None) -> tuple[int, ...]:
        """Return a list of integers.

        Raises:
            InputError: Not integers, or not `count` of them.
        """
        values = self.numbers(key, default, count)
        if any(value != int(value) for value in values):
            raise self.error(f"{key}={self.text(key, '')}, expected whole numbers", key)
        return tuple(int(value) for value in values)

    def numbers(self, key: str, default: tuple[float, ...], count: int | None = None) -> tuple[float, ...]:
        """Return a list of numbers.

        Raises:
            InputError: Not numbers, or not `count` of them.
        """
        if key not in self.options:
            return default
        text = self.options[key].text
        try:
            # Darknet's own files end some lists with a comma.
            values = tuple(float(part) for part in text.rstrip(",").split(","))
        except ValueError:
            raise self.error(f"{key}={text}, expected numbers separated by commas", key) from None
        if any(value != value or abs(value) == float("inf") for value in values):
            raise self.error(f"{key}={text}, expected finite numbers", key)
        if count is not None and len(values) != count:
            raise self.error(f"{key}={text}, expected {count} value{'s' * (count != 1)}, found {len(values)}", key)
        return values


def read_cfg(path: Path) -> tuple[Section, list[Section]]:
    """Read a Darknet network description.

    Args:
        path: The `.cfg` file.

    Returns:
        The `[net]` section, and the layers in order.

    Raises:
        InputError: The file cannot be read, is no Darknet cfg, or has a section or a key that changes the
            result and is not supported; the message names file, line and section.
    """
    sections = _parse(path, _read_text(path))
    if not sections:
        raise InputError(f"{path}: no sections found; expected a Darknet .cfg that starts with [net]")
    if sections[0].kind != "net":
        raise sections[0].error("expected [net] as the first section")
    if len(sections) == 1:
        raise sections[0].error("no layers after [net]")
    for section in sections:
        _check_keys(section)
    return sections[0], sections[1:]


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_BYTES or b"\0" in data:
        raise InputError(f"{path}: expected a Darknet .cfg text file, found {len(data)} bytes of something else")
    return data.decode("utf-8-sig", errors="replace")


def _parse(path: Path, text: str) -> list[Section]:
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = "".join(raw.split("#")[0].split(";")[0].split())
        if not line:
            continue
        if line.startswith("["):
            name = line.strip("[]")
            kind = ALIASES.get(name, name)
            section = Section(kind, path, number, len(sections) - 1)
            if kind not in SECTIONS:
                raise section.error(f"this section is not supported; supported: {', '.join(SECTIONS)}")
            if kind == "net" and sections:
                raise section.error("a second [net]; expected one, at the top")
            sections.append(section)
            continue
        key, equals, value = line.partition("=")
        if not equals or not key or not sections:
            raise InputError(f"{path}:{number}: expected [section] or key=value, found {raw.strip()[:60]!r}")
        options = sections[-1].options
        training = key in SECTIONS[sections[-1].kind].training
        if key in options and options[key].text != value and not training:
            message = f"{key} is given twice, {options[key].text} (line {options[key].line}) and {value}"
            raise sections[-1].error(message, key)
        options[key] = Option(value, number)
    return sections


def _check_keys(section: Section) -> None:
    keys = SECTIONS[section.kind]
    for key, option in section.options.items():
        if key in keys.read or key in keys.training:
            continue
        if key not in keys.neutral:
            raise section.error(f"unknown key {key}={option.text}; remove it if it does not change inference", key)
        if not _same(option.text, keys.neutral[key]):
            only = f" (only {key}={keys.neutral[key]})" if keys.neutral[key] else ""
            raise section.error(f"{key}={option.text} changes the result and is not supported{only}", key)


def _same(text: str, neutral: str) -> bool:
    try:
        return float(text) == float(neutral)
    except ValueError:
        return text == neutral
