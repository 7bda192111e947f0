"""In which order variants are measured: in turn, over and over; whatever else happens then meets all of them alike."""

from __future__ import annotations

from collections.abc import Iterator


def interleaved(count: int, rounds: int) -> Iterator[tuple[int, int]]:
    """Yield (round, variant): each variant once a round, another one first each time.

    Whoever follows a large model finds the caches cold; with a fixed order that would always be the same one.
    """
    for number in range(rounds):
        for turn in range(count):
            yield number, (turn + number) % count


def share(total: int, rounds: int) -> int:
    """Return how many of `total` runs one round gets, so that all together have at least so many."""
    return -(-total // rounds)
