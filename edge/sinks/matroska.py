"""Gives a Matroska file that was written as a stream its duration and its index, in place.

A stream cannot go back to its beginning, so FFmpeg leaves both out; without them players cannot jump, and do not tell
how long it is. The pictures stay where they are; there is room in a `Void` at the beginning:

::

              EBML Segment(SeekHead Void Info Tracks Tags Cluster*)
    becomes   EBML Segment(SeekHead Info Void Tracks Tags Cluster* Cues)

Elements: RFC 8794 (EBML) and RFC 9559 (Matroska).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.sinks.base import pwrite_all

_EBML, _SEGMENT, _SEEK_HEAD, _VOID, _CRC = 0x1A45DFA3, 0x18538067, 0x114D9B74, 0xEC, 0xBF
_INFO, _TRACKS, _TAGS, _CLUSTER, _CUES = 0x1549A966, 0x1654AE6B, 0x1254C367, 0x1F43B675, 0x1C53BB6B
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_CLUSTER_TIMESTAMP, _SIMPLE_BLOCK = 0xE7, 0xA3
_CUE_POINT, _CUE_TIME, _CUE_TRACK_POSITIONS, _CUE_TRACK, _CUE_CLUSTER_POSITION = 0xBB, 0xB3, 0xB7, 0xF7, 0xF1
_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
_KEY_FRAME = 0x80
_MILLISECOND = 1_000_000
"""The scale of time stamps, in nanoseconds, that FFmpeg writes."""


class _Element(NamedTuple):
    """An element: what it is, where it starts, and where its content starts and ends."""

    kind: int
    start: int
    content: int
    end: int


def finalize(path: Path, frame_ms: float) -> bool:
    """Give a complete Matroska file with one video track its duration and its index.

    Args:
        path: The file; nothing else writes to it.
        frame_ms: How long its last frame is shown.

    Returns:
        Whether it was done. A file of another structure is left as it is.

    Raises:
        OSError: It cannot be written; the file plays as it did.
    """
    with path.open("r+b") as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        try:
            cues, head_at, head = _index(descriptor, size, frame_ms)
        except (ValueError, IndexError, OverflowError, struct.error):
            return False
        try:
            pwrite_all(descriptor, cues, size)
        except OSError:
            os.truncate(descriptor, size)
            raise
        # All of it lies in the first block of the file.
        pwrite_all(descriptor, head, head_at)
    return True


def _index(descriptor: int, size: int, frame_ms: float) -> tuple[bytes, int, bytes]:
    """Return the index, and what replaces the beginning of the file, with its place."""
    ebml = _element(descriptor, 0, size)
    segment = _element(descriptor, ebml.end, size)
    base = segment.content
    if (ebml.kind, segment.kind) != (_EBML, _SEGMENT) or os.pread(descriptor, 8, base - 8) != _UNKNOWN_SIZE:
        raise ValueError("not what FFmpeg writes as a stream")
    elements = list(_elements(descriptor, base, size))
    first = [element for element in elements if element.kind != _CLUSTER]
    if [element.kind for element in first[:4]] != [_SEEK_HEAD, _VOID, _INFO, _TRACKS]:
        raise ValueError("not in the order that FFmpeg writes")
    found: list[tuple[int, int]] = []
    last_ms = -1
    for cluster in elements:
        if cluster.kind == _CLUSTER:
            for at_ms, key in _blocks(descriptor, cluster):
                last_ms = max(last_ms, at_ms)
                if key and (not found or found[-1][1] != cluster.start):
                    found.append((at_ms, cluster.start))
    cues = _made(
        _CUES,
        *(
            _made(
                _CUE_POINT,
                _number(_CUE_TIME, at_ms),
                _made(_CUE_TRACK_POSITIONS, _number(_CUE_TRACK, 1), _number(_CUE_CLUSTER_POSITION, start - base)),
            )
            for at_ms, start in found
        ),
    )
    _, void, info, _ = first[:4]
    places = {element.kind: element.start for element in first if element.kind in (_TRACKS, _TAGS)} | {_CUES: size}
    # Its own size does not depend on the numbers in it.
    seek_size = len(_seek_head(places | {_INFO: 0}, base))
    seek = _seek_head(places | {_INFO: base + seek_size}, base)
    about = _info(descriptor, info, last_ms + frame_ms)
    left = info.end - base - len(seek) - len(about)
    if void.end != info.start:
        raise ValueError("something lies between")
    total = size + len(cues) - base
    head = struct.pack(">Q", total | 1 << 56) + seek + about + _void(left)
    return cues, base - 8, head


def _info(descriptor: int, info: _Element, duration_ms: float) -> bytes:
    """Return the `Info` element with a duration."""
    parts = []
    for element in _elements(descriptor, info.content, info.end):
        data = os.pread(descriptor, element.end - element.start, element.start)
        if element.kind == _TIMESTAMP_SCALE and int.from_bytes(data[element.content - element.start :]) != _MILLISECOND:
            raise ValueError("another scale of time")
        if element.kind not in (_CRC, _DURATION):
            parts.append(data)
    return _made(_INFO, *parts, _made(_DURATION, struct.pack(">d", duration_ms)))


def _seek_head(places: dict[int, int], base: int) -> bytes:
    return _made(
        _SEEK_HEAD,
        *(
            _made(
                _SEEK,
                _made(_SEEK_ID, _bytes_of(kind)),
                _made(_SEEK_POSITION, struct.pack(">I", max(0, start - base))),
            )
            for kind, start in places.items()
        ),
    )


def _blocks(descriptor: int, cluster: _Element) -> Iterator[tuple[int, bool]]:
    """Yield time stamp in ms, and whether it is a key frame, of each frame of a cluster."""
    base_ms = 0
    for element in _elements(descriptor, cluster.content, cluster.end):
        if element.kind == _CLUSTER_TIMESTAMP:
            base_ms = int.from_bytes(os.pread(descriptor, element.end - element.content, element.content))
        elif element.kind == _SIMPLE_BLOCK:
            track, offset_ms, flags = struct.unpack(">BhB", os.pread(descriptor, 4, element.content))
            if track != 0x81:
                raise ValueError("expected one track")
            yield base_ms + offset_ms, bool(flags & _KEY_FRAME)


def _elements(descriptor: int, start: int, end: int) -> Iterator[_Element]:
    while start < end:
        element = _element(descriptor, start, end)
        yield element
        start = element.end


def _element(descriptor: int, start: int, end: int) -> _Element:
    """Return the element at a place; one of unknown size ends at `end`."""
    data = os.pread(descriptor, 12, start)
    id_width = 9 - data[0].bit_length()
    size_width = 9 - data[id_width].bit_length()
    if id_width > 4 or size_width > 8:
        raise ValueError("no element")
    size = int.from_bytes(data[id_width : id_width + size_width]) & ~(-1 << 7 * size_width)
    content = start + id_width + size_width
    last = end if size == (1 << 7 * size_width) - 1 else content + size
    if last > end:
        raise ValueError("cut off")
    return _Element(int.from_bytes(data[:id_width]), start, content, last)


def _bytes_of(kind: int) -> bytes:
    return kind.to_bytes((kind.bit_length() + 7) // 8)


def _made(kind: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    width = max(1, -(-(len(data) + 1).bit_length() // 7))
    return _bytes_of(kind) + (len(data) | 1 << 7 * width).to_bytes(width) + data


def _number(kind: int, value: int) -> bytes:
    return _made(kind, value.to_bytes(max(1, (value.bit_length() + 7) // 8)))


def _void(size: int) -> bytes:
    """Return an element of a size that says nothing."""
    if size == 0:
        return b""
    if size < 9:
        if size < 2:
            raise ValueError("no room")
        return bytes((_VOID, 0x80 | size - 2)) + bytes(size - 2)
    return bytes((_VOID,)) + struct.pack(">Q", size - 9 | 1 << 56) + bytes(size - 9)
