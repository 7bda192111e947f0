"""A small reader of FlatBuffers tables that trusts nothing: every offset is checked, every list is bounded.

Format: https://flatbuffers.dev/internals. Enough for what a model file says about itself; the runtime reads the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

from edge.errors import ModelFileError

Item = TypeVar("Item")
Buffer = bytes | memoryview

MAX_ITEMS = 1 << 20
_MAX_STRING = 1 << 16


class Table:
    """A table in a buffer; fields are asked for by their number in the schema."""

    def __init__(self, data: Buffer, position: int) -> None:
        """Find the table's field list.

        Args:
            data: The whole buffer.
            position: Where the table starts.

        Raises:
            ModelFileError: It lies outside of the buffer.
        """
        self._data = data
        self._position = position
        self._fields = position - int(_read(data, "i", position))
        self._fields_bytes = int(_read(data, "H", self._fields))

    @classmethod
    def root(cls, data: Buffer) -> Table:
        """Return the buffer's root table."""
        return cls(data, int(_read(data, "I", 0)))

    def number(self, field: int, kind: str, default: float = 0) -> float:
        """Return a scalar; `kind` is its `struct` character."""
        at = self._at(field)
        return default if at is None else _read(self._data, kind, at)

    def integer(self, field: int, kind: str, default: int = 0) -> int:
        """Return an integer scalar."""
        return int(self.number(field, kind, default))

    def string(self, field: int) -> str:
        """Return a string, "" where there is none; bytes that are not UTF-8 are replaced."""
        at = self._at(field)
        if at is None:
            return ""
        start, length = self._list(at, 1)
        if length > _MAX_STRING:
            raise ModelFileError(f"a name of {length} bytes in the model, expected at most {_MAX_STRING}")
        return bytes(self._data[start : start + length]).decode("utf-8", errors="replace")

    def table(self, field: int) -> Table | None:
        """Return a table, None where there is none."""
        at = self._at(field)
        return None if at is None else Table(self._data, at + int(_read(self._data, "I", at)))

    def numbers(self, field: int, kind: str) -> list[float]:
        """Return a list of scalars."""
        size = struct.calcsize("<" + kind)
        return self._items(field, size, lambda at: _read(self._data, kind, at))

    def integers(self, field: int, kind: str) -> list[int]:
        """Return a list of integer scalars."""
        return [int(value) for value in self.numbers(field, kind)]

    def tables(self, field: int) -> list[Table]:
        """Return a list of tables."""
        return self._items(field, 4, lambda at: Table(self._data, at + int(_read(self._data, "I", at))))

    def data(self, field: int) -> bytes:
        """Return a list of bytes."""
        start, length = self.extent(field)
        return bytes(self._data[start : start + length])

    def extent(self, field: int) -> tuple[int, int]:
        """Return where a list of bytes starts and how long it is, (0, 0) where there is none."""
        at = self._at(field)
        return (0, 0) if at is None else self._list(at, 1)

    def _at(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._fields_bytes:
            return None
        offset = int(_read(self._data, "H", self._fields + slot))
        return self._position + offset if offset else None

    def _list(self, at: int, item_bytes: int) -> tuple[int, int]:
        start = at + int(_read(self._data, "I", at))
        length = int(_read(self._data, "I", start))
        if start + 4 + length * item_bytes > len(self._data):
            raise ModelFileError("the model's flatbuffer is broken: a list reaches beyond its end")
        return start + 4, length

    def _items(self, field: int, item_bytes: int, read: Callable[[int], Item]) -> list[Item]:
        at = self._at(field)
        if at is None:
            return []
        start, length = self._list(at, item_bytes)
        if length > MAX_ITEMS:
            raise ModelFileError(f"the model's flatbuffer has a list of {length} items, expected at most {MAX_ITEMS}")
        return [read(start + i * item_bytes) for i in range(length)]


def _read(data: Buffer, kind: str, position: int) -> float:
    # struct counts a negative offset from the end: it must not reach it.
    if position < 0 or position + struct.calcsize("<" + kind) > len(data):
        raise ModelFileError("the model's flatbuffer is broken: an offset points outside of it")
    value: float = struct.unpack_from("<" + kind, data, position)[0]
    return value
