"""Options of custom operators, read without trust in them.

A FlexBuffers map of names to numbers, read from its end. Format: https://flatbuffers.dev/flatbuffers_internals.
"""

from __future__ import annotations

import struct

from edge.errors import ModelFileError

_MAP = 9
_NUMBERS = {0, 1, 2, 3, 26}
"""Null, int, unsigned, float and bool; all others point to somewhere else."""

_INTEGERS = {1, 2}
_FLOAT = 3
_FLOATS = {4: "<f", 8: "<d"}

_MAX_ENTRIES = 256
_MAX_INTEGER = 1 << 20
"""They count boxes and classes, and memory is taken for as many; a negative one is larger than this when read so."""


def read_map(data: bytes) -> dict[str, float]:
    """Read a map of names to numbers.

    Args:
        data: The bytes.

    Returns:
        Name -> value; a null is 0.

    Raises:
        ModelFileError: They are none, or lie elsewhere than they say.
    """
    if not data:
        raise ModelFileError("a custom operator lacks its options")
    kind, bits = divmod(_number(data, len(data) - 2, 1), 4)
    if kind != _MAP:
        raise ModelFileError("the options of a custom operator are no map")
    root_bytes = _width(_number(data, len(data) - 1, 1))
    root = len(data) - 2 - root_bytes
    width = 1 << bits
    start = root - _number(data, root, root_bytes)
    count = _number(data, start - width, width)
    keys_bytes = _width(_number(data, start - 2 * width, width))
    keys = start - 3 * width - _number(data, start - 3 * width, width)
    if count > _MAX_ENTRIES or _number(data, keys - keys_bytes, keys_bytes) != count:
        raise ModelFileError("the options of a custom operator are broken")
    found = {}
    for i in range(count):
        name = keys + i * keys_bytes
        at = name - _number(data, name, keys_bytes)
        end = data.find(b"\0", at) if at >= 0 else -1
        if end < 0:
            raise ModelFileError("the options of a custom operator have a name outside of them")
        value = _number(data, start + i * width, width)
        kind = _number(data, start + count * width + i, 1) // 4
        if kind not in _NUMBERS:
            raise ModelFileError("the options of a custom operator hold something else than numbers")
        if kind in _INTEGERS and value > _MAX_INTEGER:
            raise ModelFileError(f"an option of a custom operator is {value}, expected 0 to {_MAX_INTEGER}")
        number: float = value
        if kind == _FLOAT:
            if width not in _FLOATS:
                raise ModelFileError("the options of a custom operator are broken")
            (number,) = struct.unpack_from(_FLOATS[width], data, start + i * width)
        found[data[at:end].decode(errors="replace")] = number
    return found


def _width(size: int) -> int:
    if size not in (1, 2, 4, 8):
        raise ModelFileError("the options of a custom operator are broken")
    return size


def _number(data: bytes, at: int, size: int) -> int:
    if at < 0 or at + size > len(data):
        raise ModelFileError("the options of a custom operator point outside of them")
    return int.from_bytes(data[at : at + size], "little")
