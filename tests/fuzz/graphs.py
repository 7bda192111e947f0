"""Models that are whole as flatbuffers and say nonsense: numbers of their graphs are replaced."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies as st

Edit = tuple[int, int]
"""Which number, counted over all of them and then around again, and its new value."""

_VALUES = (-1, 0, 1, 2, 3, 5, 127, 128, 255, -128, 1 << 15, 1 << 16, 1 << 20, 1 << 30, (1 << 31) - 1, -(1 << 31))


def edits(most: int = 3) -> st.SearchStrategy[tuple[Edit, ...]]:
    """Return a strategy of replaced numbers."""
    which = st.integers(0, 1 << 16).map(lambda number: number * 40_503 + 7919)
    return st.lists(
        st.tuples(which, st.one_of(st.sampled_from(_VALUES), st.integers(0, 255))), min_size=1, max_size=most
    ).map(tuple)


def edited(flatbuffer: bytes, changes: tuple[Edit, ...]) -> bytes:
    """Replace numbers; a value that does not fit its field is brought into range."""
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    slots = list(_slots(model))
    for bits in (64, 32, 16, 8, 1):  # the library says too late what does not fit its field
        for which, value in changes:
            _set(*slots[which % len(slots)], value if bits == 64 else value & ((1 << (bits - 1)) - 1))
        builder = flatbuffers.Builder(len(flatbuffer) + 4096)
        try:
            builder.Finish(model.Pack(builder), b"TFL3")
        except (TypeError, ValueError, OverflowError, struct.error):
            continue
        return bytes(builder.Output())
    return flatbuffer


def _slots(value: Any, depth: int = 0) -> Iterator[tuple[Any, str, int | None]]:
    """Yield the numbers of an object and of what is in it: (object, attribute, index in a list)."""
    for name, inner in vars(value).items():
        if isinstance(value, schema.BufferT) and name == "data":
            continue
        if isinstance(inner, np.ndarray):
            inner = inner.tolist()
            setattr(value, name, inner)
        if isinstance(inner, bool | int | float):
            yield value, name, None
        elif isinstance(inner, list):
            for index, item in enumerate(inner):
                if isinstance(item, bool | int | float):
                    yield value, name, index
                elif hasattr(item, "__dict__"):
                    yield from _slots(item, depth + 1)
        elif hasattr(inner, "__dict__"):
            yield from _slots(inner, depth + 1)


def _set(owner: Any, name: str, index: int | None, value: int) -> None:
    if index is None:
        old = getattr(owner, name)
        setattr(owner, name, type(old)(value) if isinstance(old, bool | float) else value)
    else:
        items = getattr(owner, name)
        items[index] = float(value) if isinstance(items[index], float) else value


@cache
def slots(flatbuffer: bytes) -> int:
    """Return how many numbers there are."""
    return sum(1 for _ in _slots(schema.ModelT.InitFromPackedBuf(flatbuffer, 0)))
