"""One line of the examination."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes:
        name: The thing, at most 12 characters.
        state: How it is.
        found: What was found, for humans; one line.
        mend: The command that mends it, or what to do; "" where nothing has to be done.
        needed: Whether nothing runs while it is missing.
        facts: The same for programs, as JSON takes it; units are in the names.
    """

    name: str
    state: State
    found: str
    mend: str = ""
    needed: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def fatal(self) -> bool:
        """Whether the pipeline cannot run because of it."""
        return self.needed and self.state is State.MISSING


def ok(name: str, found: str, **facts: Any) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(name, State.OK, found, facts=facts)


def warning(name: str, found: str, mend: str = "", **facts: Any) -> Finding:
    """Return a finding that one should know about."""
    return Finding(name, State.WARNING, found, mend, facts=facts)


def missing(name: str, found: str, mend: str = "", needed: bool = False, **facts: Any) -> Finding:
    """Return a finding of something that is not there or does not work."""
    return Finding(name, State.MISSING, found, mend, needed, facts)


def one_line(text: object, most: int = 300) -> str:
    """Return a message without line breaks, at most so many characters of it."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def count(number: int, noun: str) -> str:
    """Return "1 core" or "4 cores"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def size(number: float) -> str:
    """Return bytes as "512 MB" or "3.7 GB", in units of 1024."""
    mb = number / 2**20
    return f"{mb:.0f} MB" if mb < 1000 else f"{mb / 1024:.1f} GB"
