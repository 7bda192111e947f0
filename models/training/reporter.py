"""Who is told how a training run goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Reporter(Protocol):
    """Who is told how a run goes."""

    def loading(self, chunks: Sequence[range]) -> Iterable[range]:
        """Wrap the chunks of pictures that are decoded."""
        ...

    def epoch_began(self, phase: str, number: int, epochs: int, steps: int) -> None:
        """An epoch begins, the first of `epochs` in this phase being 1."""
        ...

    def step(self, logs: dict[str, float]) -> None:
        """A step is done; running means of this epoch."""
        ...

    def epoch_ended(self, metrics: dict[str, Any]) -> None:
        """An epoch is done, and everything about it is on disk."""
        ...
