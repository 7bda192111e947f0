"""What a video device says of itself: Video4Linux' questions, without a library.

The numbers and structures are those of Linux' `include/uapi/linux/videodev2.h`; every structure here is the same on 32
and 64 bits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Ioctl = Callable[[int, int, bytearray], Any]

_READ, _BOTH = 2, 3


def _request(direction: int, number: int, form: str) -> int:
    return direction << 30 | struct.calcsize(form) << 16 | ord("V") << 8 | number


_CAPABILITY = "=16s32s32sIII12x"
_FORMAT = "=III32sII12x"
_SIZE = "=III6I8x"
_INTERVAL = "=IIIII6I8x"
_BUFFERS = "=IIIIB3x"

QUERYCAP = _request(_READ, 0, _CAPABILITY)
ENUM_FMT = _request(_BOTH, 2, _FORMAT)
REQBUFS = _request(_BOTH, 8, _BUFFERS)
ENUM_FRAMESIZES = _request(_BOTH, 74, _SIZE)
ENUM_FRAMEINTERVALS = _request(_BOTH, 75, _INTERVAL)

_CAPTURE, _OUTPUT, _CAPTURE_PLANES, _OUTPUT_PLANES = 0x1, 0x2, 0x1000, 0x2000
_M2M_PLANES, _M2M, _META_CAPTURE, _META_OUTPUT = 0x4000, 0x8000, 0x800000, 0x8000000
_DEVICE_CAPS = 0x80000000
_TYPE_CAPTURE, _TYPE_CAPTURE_PLANES = 1, 9
_MEMORY_MMAP = 1
_DISCRETE = 1
_MOST = 64


def query(path: str, ioctl: Ioctl = fcntl.ioctl) -> dict[str, Any]:
    """Ask a device; it may be in use by another program meanwhile, which is not disturbed.

    Args:
        path: "/dev/video0".
        ioctl: Asks; a test gives another.

    Returns:
        `driver`, `card`, `bus`; `kind`: "capture", "codec", "metadata", "output" or "other"; `busy`: whether another
        program streams from it; `formats`: rows of `fourcc`, and `width`, `height`, `fps` of the largest size (None
        where the device does not say).

    Raises:
        OSError: It cannot be opened, or is no video device.
    """
    device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        data = bytearray(struct.calcsize(_CAPABILITY))
        ioctl(device, QUERYCAP, data)
        driver, card, bus, _, capabilities, own = struct.unpack(_CAPABILITY, data)
        kind = _kind(own if capabilities & _DEVICE_CAPS else capabilities)
        buffers = _TYPE_CAPTURE if (own if capabilities & _DEVICE_CAPS else capabilities) & _CAPTURE else 0
        buffers = buffers or _TYPE_CAPTURE_PLANES
        capture = kind == "capture"
        return {
            "path": path,
            "driver": _text(driver),
            "card": _text(card),
            "bus": _text(bus),
            "kind": kind,
            "busy": capture and _busy(device, buffers, ioctl),
            "formats": [_format(device, code, ioctl) for code in _codes(device, buffers, ioctl)] if capture else [],
        }
    finally:
        os.close(device)


def _kind(capabilities: int) -> str:
    if capabilities & (_M2M | _M2M_PLANES):
        return "codec"
    if capabilities & (_CAPTURE | _CAPTURE_PLANES):
        return "capture"
    if capabilities & (_META_CAPTURE | _META_OUTPUT):
        return "metadata"
    return "output" if capabilities & (_OUTPUT | _OUTPUT_PLANES) else "other"


def _busy(device: int, buffers: int, ioctl: Ioctl) -> bool:
    """Ask for no buffers: refused while another program has some, and without effect otherwise."""
    try:
        ioctl(device, REQBUFS, bytearray(struct.pack(_BUFFERS, 0, buffers, _MEMORY_MMAP, 0, 0)))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _rows(device: int, request: int, form: str, head: tuple[int, ...], ioctl: Ioctl) -> Iterator[tuple[Any, ...]]:
    """Yield the answers to a question that counts up until the device refuses."""
    for index in range(_MOST):
        data = bytearray(struct.calcsize(form))
        struct.pack_into(f"={1 + len(head)}I", data, 0, index, *head)
        try:
            ioctl(device, request, data)
        except OSError:  # EINVAL is the end of the list; ENOTTY a driver that does not say
            return
        yield struct.unpack(form, data)


def _codes(device: int, buffers: int, ioctl: Ioctl) -> list[int]:
    return list(dict.fromkeys(row[4] for row in _rows(device, ENUM_FMT, _FORMAT, (buffers,), ioctl)))


def _format(device: int, code: int, ioctl: Ioctl) -> dict[str, Any]:
    sizes: list[tuple[int, int]] = []
    for _, _, kind, *numbers in _rows(device, ENUM_FRAMESIZES, _SIZE, (code,), ioctl):
        # Discrete: width, height. A range: least, most and step of the width, then of the height.
        sizes.append((numbers[0], numbers[1]) if kind == _DISCRETE else (numbers[1], numbers[4]))
        if kind != _DISCRETE:
            break
    width = height = fps = None
    if sizes:
        width, height = max(sizes, key=lambda wh: wh[0] * wh[1])
        rates = []
        for row in _rows(device, ENUM_FRAMEINTERVALS, _INTERVAL, (code, width, height), ioctl):
            # Seconds as a fraction; of a range the first is the least.
            seconds, parts = row[5], row[6]
            rates.append(parts / seconds if seconds else 0.0)
            if row[4] != _DISCRETE:
                break
        fps = round(max(rates), 2) if rates else None
    fourcc = "".join(chr(code >> shift & 0x7F) for shift in (0, 8, 16, 24)).strip()
    return {"fourcc": fourcc, "width": width, "height": height, "fps": fps}


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace").strip()


def users(path: str) -> list[str]:
    """Return the programs that hold a device open, like "motion (process 812)", as far as one may know."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = {os.readlink(link) for link in (process / "fd").iterdir()}
            name = (process / "comm").read_text().strip()
        except OSError:  # another user's, or gone meanwhile
            continue
        if path in links and int(process.name) not in (os.getpid(), os.getppid()):
            found.append(f"{name} (process {process.name})")
    return found
