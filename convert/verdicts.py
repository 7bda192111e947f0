"""What an accelerator will make of a model: a verdict on each operator, and a report of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["maps", "cpu"]


@dataclass(frozen=True)
class Row:
    """The verdict on one operator.

    Attributes:
        index: Position in the order of execution.
        op: TFLite's name of it.
        verdict: Whether it maps to the accelerator or runs on the CPU.
        reason: Why it does not map; for one that maps, a doubt, or "".
    """

    index: int
    op: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Group:
    """Operators of one kind with one verdict and reason.

    Attributes:
        op: TFLite's name.
        count: How many.
        verdict: As in `Row`.
        reason: As in `Row`; a compiler's words where one was run.
    """

    op: str
    count: int
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Report:
    """What is predicted for a model.

    Attributes:
        target: The accelerator: "Edge TPU" or "GPU".
        rows: One for each operator, in the order of execution.
        doubts: What the prediction cannot be sure of; empty where nothing speaks against it.
        advice: What would make more of it map, in words; empty where there is nothing to do.
    """

    target: str
    rows: tuple[Row, ...]
    doubts: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def mapped(self) -> int:
        """Operators that map."""
        return sum(row.verdict == "maps" for row in self.rows)

    @property
    def on_cpu(self) -> int:
        """Operators that run on the CPU."""
        return len(self.rows) - self.mapped

    @property
    def first_unmapped(self) -> Row | None:
        """The first operator that does not map; None where all do."""
        return next((row for row in self.rows if row.verdict == "cpu"), None)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The rows, counted by operator, verdict and reason."""
        counts = Counter((row.op, row.verdict, row.reason) for row in self.rows)
        return tuple(Group(op, count, verdict, reason) for (op, verdict, reason), count in counts.items())

    def __str__(self) -> str:
        """Say in one line how much maps."""
        line = f"{self.mapped} of {len(self.rows)} operators map to the {self.target}"
        first = self.first_unmapped
        return line if first is None else f"{line}; the first on the CPU is {first.op} (operator {first.index})"
