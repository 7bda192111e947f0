"""Width and height of a picture from its first bytes, as `cv2.imdecode` with `IMREAD_COLOR` would give them."""

from __future__ import annotations

import struct

from edge.errors import InputError
from edge.labelled.objects.files import Files
from edge.sources.images import decode_image

_HEAD_BYTES = 1 << 16
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ORIENTATION = 0x0112


def picture_wh(files: Files, name: str) -> tuple[int, int] | None:
    """Return a picture's width and height, turned upright as its EXIF orientation says; None if it is not readable.

    Raises:
        InputError: The file cannot be read.
    """
    head = files.read(name, _HEAD_BYTES)
    found = header_wh(head)
    if found is None and len(head) == _HEAD_BYTES:
        head = files.read(name)
        found = header_wh(head)
    if found is not None:
        return found
    try:
        height, width = decode_image(head, name).shape[:2]
    except InputError:
        return None
    return width, height


def header_wh(head: bytes) -> tuple[int, int] | None:
    """Return width and height as a JPEG, PNG, BMP or WebP header gives them.

    None where it does not say, says something odd, or where only the decoder knows how it treats the orientation.
    """
    try:
        if head.startswith(b"\xff\xd8"):
            found = _jpeg(head)
        elif head.startswith(b"\x89PNG\r\n\x1a\n"):
            found = _png(head)
        elif head.startswith(b"BM"):
            found = _bmp(head)
        elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            found = _webp(head)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return found if found and min(found) > 0 else None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Walk the segments up to the frame header (ITU-T T.81, B.1.1.4), noting an EXIF orientation on the way."""
    place, turned = 2, False
    while True:
        if head[place] != 0xFF:
            return None
        marker = head[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        (length,) = struct.unpack_from(">H", head, place + 2)
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", head, place + 5)
            return (height, width) if turned else (width, height)
        if marker == 0xE1 and head[place + 4 : place + 10] == b"Exif\0\0":
            orientation = _orientation(head[place + 10 : place + 2 + length])
            if orientation is None:
                return None
            turned = orientation >= 5
        place += 2 + length


def _orientation(tiff: bytes) -> int | None:
    """Return the orientation 1..8 of the first directory of EXIF data; 1 where it has none, None if it is odd."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for i in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * i)
        if tag == _ORIENTATION:
            return value if 1 <= value <= 8 else None
    return 1


def _png(head: bytes) -> tuple[int, int] | None:
    """Walk all chunks: EXIF data may also lie behind the pixels."""
    place = 8
    while head[place + 4 : place + 8] != b"IEND":
        (length,) = struct.unpack_from(">I", head, place)
        if head[place + 4 : place + 8] == b"eXIf":
            return None
        place += 12 + length
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _bmp(head: bytes) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", head, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", head, 18)
    return abs(width), abs(height)  # rows from top to bottom have a negative height


def _webp(head: bytes) -> tuple[int, int] | None:
    """Read the first chunk (developers.google.com/speed/webp/docs/riff_container)."""
    kind = head[12:16]
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and head[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8X" and not head[20] & 0x08:  # 8: has EXIF data
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    return None
