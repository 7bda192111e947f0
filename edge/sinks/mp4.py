"""From a fragmented MP4 to an ordinary one, in place.

While a video is written, every fragment has its own index, so that the file plays wherever it is cut off. Once it is
complete, one index for all of it serves more players, and tells how long it is. The pictures stay where they are:

::

    ftyp moov (moof mdat)* mfra    becomes    ftyp free (free mdat)* moov

Box layouts: ISO/IEC 14496-12.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from itertools import groupby
from math import gcd
from pathlib import Path
from typing import IO, NamedTuple

from edge.sinks.base import pwrite_all

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf")
_REPLACED = (b"mvex", b"edts")
"""What an ordinary file has no use for: fragment defaults, and an edit list of unknown length."""


class _Box(NamedTuple):
    """A box: its type, where it starts, and where its content starts and ends."""

    kind: bytes
    start: int
    content: int
    end: int


class _Chunk(NamedTuple):
    """Samples that lie one behind the other: the place of the first; the duration, size and key mark of each."""

    offset: int
    samples: list[tuple[int, int, bool]]


def finalize(path: Path) -> bool:
    """Give a complete fragmented MP4 with one video track an ordinary index.

    Args:
        path: The file; nothing else writes to it.

    Returns:
        Whether it was done. A file of another structure is left as it is.

    Raises:
        OSError: It cannot be written; the file plays as it did.
    """
    with path.open("r+b") as file:
        boxes = list(_top_boxes(file, os.fstat(file.fileno()).st_size))
        try:
            index, end = _index(file, boxes)
        except (struct.error, ValueError, IndexError):
            return False
        # First as a box that players skip: a crash before the last step leaves a file that plays.
        descriptor = file.fileno()
        try:
            pwrite_all(descriptor, index[:4] + b"free" + index[8:], end)
        except OSError:
            os.truncate(descriptor, end)
            raise
        os.truncate(descriptor, end + len(index))
        for box in boxes:
            if box.kind in (b"moof", b"moov"):
                pwrite_all(descriptor, b"free", box.start + 4)
            elif box.kind == b"ftyp":
                pwrite_all(descriptor, _brands(box.end - box.content), box.content)
        pwrite_all(descriptor, b"moov", end + 4)
    return True


def _brands(length: int) -> bytes:
    """Return the content of an `ftyp` box: the main brand, its version, compatible brands."""
    brands = b"isom" + struct.pack(">I", 0x200) + b"isom" * (length // 4)
    return brands[:length]


def _top_boxes(file: IO[bytes], size: int) -> Iterator[_Box]:
    """Yield the boxes of a file; the last is left out when it is cut off."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            header = 16
        if length < header or position + length > size:
            return
        yield _Box(kind, position, position + header, position + length)
        position += length


def _boxes(data: bytes, start: int, end: int) -> Iterator[_Box]:
    """Yield the boxes inside a box."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        if length < 8 or start + length > end:
            raise ValueError(f"box {kind!r} of {length} bytes")
        yield _Box(kind, start, start + 8, start + length)
        start += length


def _index(file: IO[bytes], boxes: list[_Box]) -> tuple[bytes, int]:
    """Return the `moov` box for all fragments, and the place behind the last picture."""
    moovs = [box for box in boxes if box.kind == b"moov"]
    if not moovs:
        raise ValueError("no moov box")
    moov = _read(file, moovs[0])
    if sum(box.kind == b"trak" for box in _boxes(moov, 8, len(moov))) != 1:
        raise ValueError("expected one track")
    defaults = _defaults(moov)
    fragments = [box for box in boxes if box.kind == b"moof"]
    chunks = [chunk for box in fragments for chunk in _chunks(_read(file, box), box.start, defaults)]
    end = max(box.end for box in boxes if box.kind == b"mdat")
    if not chunks or chunks[-1].offset + sum(size for _, size, _ in chunks[-1].samples) > end:
        raise ValueError("the last fragment is not complete")
    return _rebuild(moov, 0, len(moov), _Tables(chunks, _timescales(moov))), end


def _read(file: IO[bytes], box: _Box) -> bytes:
    file.seek(box.start)
    return file.read(box.end - box.start)


def _defaults(moov: bytes) -> tuple[int, int, int]:
    """Return the default duration, size and flags of samples."""
    for box in _boxes(moov, 8, len(moov)):
        if box.kind == b"mvex":
            for inner in _boxes(moov, box.content, box.end):
                if inner.kind == b"trex":
                    duration, size, flags = struct.unpack_from(">III", moov, inner.content + 12)
                    return duration, size, flags
    raise ValueError("no trex box")


def _chunks(moof: bytes, start: int, defaults: tuple[int, int, int]) -> Iterator[_Chunk]:
    """Yield the runs of samples of one fragment."""
    for traf in _boxes(moof, 8, len(moof)):
        if traf.kind != b"traf":
            continue
        base, position = start, start
        duration, size, flags = defaults
        for box in _boxes(moof, traf.content, traf.end):
            at = box.content + 4
            (set_fields,) = struct.unpack_from(">I", moof, box.content)
            if box.kind == b"tfhd":
                at += 4  # the track's number
                if set_fields & 0x1:
                    (base,) = struct.unpack_from(">Q", moof, at)
                    at += 8
                at += 4 if set_fields & 0x2 else 0
                values = [duration, size, flags]
                for i, bit in enumerate((0x8, 0x10, 0x20)):
                    if set_fields & bit:
                        (values[i],) = struct.unpack_from(">I", moof, at)
                        at += 4
                duration, size, flags = values
            elif box.kind == b"trun":
                (count,) = struct.unpack_from(">I", moof, at)
                at += 4
                if set_fields & 0x1:
                    position = base + struct.unpack_from(">i", moof, at)[0]
                    at += 4
                first_flags = None
                if set_fields & 0x4:
                    (first_flags,) = struct.unpack_from(">I", moof, at)
                    at += 4
                samples = []
                for number in range(count):
                    values = [duration, size, flags if number or first_flags is None else first_flags, 0]
                    for i, bit in enumerate((0x100, 0x200, 0x400, 0x800)):
                        if set_fields & bit:
                            (values[i],) = struct.unpack_from(">I", moof, at)
                            at += 4
                    if values[3]:
                        raise ValueError("pictures are not stored in the order in which they are shown")
                    samples.append((values[0], values[1], not values[2] & 0x10000))
                yield _Chunk(position, samples)
                position += sum(sample[1] for sample in samples)


def _timescales(moov: bytes) -> tuple[int, int]:
    """Return the ticks per second of the movie and of its track."""
    movie = track = 0
    for box in _walk(moov, 0, len(moov)):
        if box.kind in (b"mvhd", b"mdhd"):
            offset = 20 if moov[box.content] else 12
            (ticks,) = struct.unpack_from(">I", moov, box.content + offset)
            movie, track = (ticks, track) if box.kind == b"mvhd" else (movie, ticks)
    if not movie or not track:
        raise ValueError("no time scale")
    return movie, track


def _walk(data: bytes, start: int, end: int) -> Iterator[_Box]:
    """Yield the boxes inside a box, and those inside them."""
    for box in _boxes(data, start, end):
        yield box
        if box.kind in _CONTAINERS:
            yield from _walk(data, box.content, box.end)


class _Tables:
    """The sample tables of the whole film."""

    def __init__(self, chunks: list[_Chunk], timescales: tuple[int, int]) -> None:
        samples = [sample for chunk in chunks for sample in chunk.samples]
        movie, track = timescales
        # A track that counts in 100 ns overflows 32 bits after minutes; frames rarely need such small ticks.
        unit = gcd(track, *{sample[0] for sample in samples}) or 1
        self.track_ticks = track // unit
        durations = [sample[0] // unit for sample in samples]
        self.track_duration = sum(durations)
        self.movie_duration = round(self.track_duration * movie / self.track_ticks)
        runs = [(len(list(group)), value) for value, group in groupby(durations)]
        sizes = [sample[1] for sample in samples]
        keys = [number for number, sample in enumerate(samples, start=1) if sample[2]]
        firsts: list[tuple[int, int, int]] = []
        for number, chunk in enumerate(chunks, start=1):
            if not firsts or firsts[-1][1] != len(chunk.samples):
                firsts.append((number, len(chunk.samples), 1))
        offsets = [chunk.offset for chunk in chunks]
        wide = offsets[-1] >= 2**32
        self.boxes = (
            _full_box(b"stts", struct.pack(">I", len(runs)) + _pack("II", runs))
            + _full_box(b"stss", struct.pack(">I", len(keys)) + _pack("I", ((key,) for key in keys)))
            + _full_box(b"stsc", struct.pack(">I", len(firsts)) + _pack("III", firsts))
            + _full_box(b"stsz", struct.pack(">II", 0, len(sizes)) + _pack("I", ((size,) for size in sizes)))
            + _full_box(
                b"co64" if wide else b"stco",
                struct.pack(">I", len(offsets)) + _pack("Q" if wide else "I", ((offset,) for offset in offsets)),
            )
        )


def _pack(form: str, rows: Iterable[tuple[int, ...]]) -> bytes:
    return b"".join(struct.pack(f">{form}", *row) for row in rows)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full_box(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24) + content)


def _rebuild(data: bytes, start: int, end: int, tables: _Tables) -> bytes:
    """Return boxes with new sample tables and durations."""
    out = b""
    for box in _boxes(data, start, end):
        content = data[box.content : box.end]
        if box.kind in _CONTAINERS:
            out += _box(box.kind, _rebuild(data, box.content, box.end, tables))
        elif box.kind == b"stbl":
            kept = [data[b.start : b.end] for b in _boxes(data, box.content, box.end) if b.kind == b"stsd"]
            out += _box(b"stbl", b"".join(kept) + tables.boxes)
        elif box.kind == b"mvhd":
            out += _box(box.kind, _timed(content, None, tables.movie_duration))
        elif box.kind == b"mdhd":
            out += _box(box.kind, _timed(content, tables.track_ticks, tables.track_duration))
        elif box.kind == b"tkhd":
            # Creation time, modification time, track number, reserved; then the duration.
            head, rest = (content[:24], content[32:]) if content[0] else (content[:20], content[24:])
            out += _box(box.kind, head + struct.pack(">Q" if content[0] else ">I", tables.movie_duration) + rest)
        elif box.kind not in _REPLACED:
            out += data[box.start : box.end]
    return out


def _timed(content: bytes, ticks: int | None, duration: int) -> bytes:
    """Return the content of `mvhd` or `mdhd` with another duration, and other ticks per second unless None."""
    at = 20 if content[0] else 12
    width = 8 if content[0] else 4
    (old,) = struct.unpack_from(">I", content, at)
    new = struct.pack(">I", old if ticks is None else ticks) + struct.pack(">Q" if width == 8 else ">I", duration)
    return content[:at] + new + content[at + 4 + width :]
