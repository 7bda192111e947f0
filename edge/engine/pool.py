"""Pool: the interpreters of one model, that lanes share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Generic, TypeVar

R = TypeVar("R")


class Pool(Generic[R]):
    """What runs one model, several times over. Each member works for one thread at a time.

    An `Engine` takes members and brings them back; all of it under the engine's lock.

    Attributes:
        size: How many members there are.
    """

    def __init__(self, members: Sequence[R]) -> None:
        """Own some members.

        Args:
            members: Detectors or classifiers over the same model file, at least one.
        """
        self.size = len(members)
        self._members = list(members)
        self._free = list(members)
        self._started: dict[int, float] = {}

    @property
    def free(self) -> bool:
        """Whether a member waits for work."""
        return bool(self._free)

    @property
    def idle(self) -> bool:
        """Whether no member works."""
        return not self._started

    def take(self) -> R:
        """Take a member out."""
        # The one that worked last: its memory is warm.
        member = self._free.pop()
        self._started[id(member)] = time.monotonic()
        return member

    def give(self, member: R) -> None:
        """Bring it back; one that was replaced in the meantime is let go."""
        self._started.pop(id(member), None)
        if any(member is one for one in self._members):
            self._free.append(member)

    def replace(self, members: Sequence[R]) -> None:
        """Let others do the work from now on; those that work now finish what they have."""
        self.size = len(members)
        self._members = list(members)
        self._free = list(members)

    def longest_s(self) -> float:
        """Return for how long the longest work of this moment has been going on; 0 where there is none."""
        now = time.monotonic()
        # A copy: this is asked from other threads, without the lock, so that a thread that hangs cannot hide it.
        return max((now - start for start in list(self._started.values())), default=0.0)
