"""The self-test inside a model file: pictures, and what the model and its float original made of them.

Members of the archive: `selftest/0.png` and so on, and `selftest/values.bin`, little-endian, without gaps:

- for `SelfTestSpec.input`, and for each of its `heads`: uint32 (samples,) flat indices; uint16 (pictures, samples) of
  this model; uint16 (pictures, samples) of the float model. `real = low + (high - low) * stored / 65535`;
- for each picture: float32 (boxes, 6) of this model: x1, y1, x2, y2 in input pixels, score, class;
- for each picture: the same of the float model.

The input is what preprocessing makes of the picture. The outputs and boxes are those of `enlarge(picture)`, which has
the input's size: no resizing, which differs by a level between builds of OpenCV, stands before these.

All of it is untrusted: every size follows from the description, which bounds it, and is compared before reading.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import ModelFileError
from edge.spec.archive import read_tail
from edge.spec.model import SelfTestSpec, TensorTest
from edge.spec.resolve import METADATA_NAME
from edge.spec.validate import validated

FOLDER = "selftest/"
MAX_SIDE = 512
"""Pixels along a side of a stored picture."""

_LEVELS = 65535
_VALUES = FOLDER + "values.bin"
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"

Float32 = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Stored:
    """What is stored of the input or of one output.

    Attributes:
        test: Name, size and tolerances.
        index: int64 (samples,), flat indices.
        expected: float32 (pictures, samples), real values of this model on the machine that made it.
        original: float32 (pictures, samples), of the float model.
    """

    test: TensorTest
    index: npt.NDArray[np.int64]
    expected: Float32
    original: Float32


@dataclass(frozen=True, eq=False)
class SelfTest:
    """A file's self-test.

    Attributes:
        spec: Tolerances and counts.
        pictures: uint8 (H, W, 3) BGR each.
        input: The input.
        heads: In the order of `spec.heads`.
        boxes: For each picture float32 (n, 6): x1, y1, x2, y2 in input pixels, score, class; of this model.
        float_boxes: Of the float model.
    """

    spec: SelfTestSpec
    pictures: tuple[Image, ...]
    input: Stored
    heads: tuple[Stored, ...]
    boxes: tuple[Float32, ...]
    float_boxes: tuple[Float32, ...]


def pack(test: SelfTest) -> dict[str, bytes]:
    """Return the members of the archive that hold a self-test; its `spec` belongs into the description."""
    parts: list[npt.NDArray[Any]] = []
    for head in (test.input, *test.heads):
        parts.append(head.index.astype("<u4"))
        parts += [_levels(head.test, values) for values in (head.expected, head.original)]
    parts += [rows.astype("<f4") for rows in (*test.boxes, *test.float_boxes)]
    members = {_picture_name(i): _png(picture) for i, picture in enumerate(test.pictures)}
    return {**members, _VALUES: b"".join(part.tobytes() for part in parts)}


def read_selftest(path: Path) -> SelfTest:
    """Read the self-test of a model file, from the description inside it (not a sidecar's).

    Raises:
        ModelFileError: There is none, or it is broken.
    """
    members = read_tail(path)
    where = f"{path}, self-test"
    try:
        value: Any = json.loads(members.get(METADATA_NAME, b"null"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}, {METADATA_NAME}: expected JSON ({error})") from error
    value = value.get("selftest") if isinstance(value, dict) else None
    if value is None:
        raise ModelFileError(f"{path}: holds no self-test; edge convert writes one into every file that it accepts")
    spec = validated(SelfTestSpec, value, where)
    pictures = tuple(_picture(members, _picture_name(i), where) for i in range(spec.pictures))
    tensors, boxes, float_boxes = _values(spec, members.get(_VALUES), where)
    return SelfTest(spec, pictures, tensors[0], tensors[1:], boxes, float_boxes)


def enlarge(picture: Image, size_wh: tuple[int, int]) -> Image:
    """Resize bilinearly in integer arithmetic: the same on every machine.

    Args:
        picture: uint8 (H, W, 3).
        size_wh: Wanted width and height.

    Returns:
        uint8 of that size.
    """
    (y0, y1, wy), (x0, x1, wx) = (_taps(n, wanted) for n, wanted in zip(picture.shape, size_wh[::-1], strict=False))
    pixels = picture.astype(np.int64)
    wy, wx = wy[:, None, None], wx[None, :, None]
    rows: npt.NDArray[np.int64] = pixels[y0] * (256 - wy) + pixels[y1] * wy
    mixed: npt.NDArray[np.int64] = rows[:, x0] * (256 - wx) + rows[:, x1] * wx
    return (mixed + (1 << 15) >> 16).astype(np.uint8)


def _taps(size: int, wanted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return for each new pixel its two old ones, and the weight of the second, of 256."""
    centre = (2 * np.arange(wanted, dtype=np.int64) + 1) * size * 128 // wanted - 128
    centre = np.clip(centre, 0, (size - 1) * 256)
    lower = centre >> 8
    return lower, np.minimum(lower + 1, size - 1), centre & 255


def _picture_name(number: int) -> str:
    return f"{FOLDER}{number}.png"


def _png(picture: Image) -> bytes:
    done, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return bytes(data)


def _picture(members: dict[str, bytes], name: str, where: str) -> Image:
    data = members.get(name, b"")
    # The header says the size, which is checked before a decoder makes room for it.
    sides = [int.from_bytes(data[at : at + 4], "big") for at in (16, 20)]
    if not data.startswith(_PNG) or not all(0 < side <= MAX_SIDE for side in sides):
        raise ModelFileError(f"{where}: expected {name}, a PNG of at most {MAX_SIDE} pixels a side")
    try:
        image: Image | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ModelFileError(f"{where}: OpenCV refuses {name} ({error.err})") from error
    if image is None:
        raise ModelFileError(f"{where}: {name} is damaged")
    return image


def _values(
    spec: SelfTestSpec, data: bytes | None, where: str
) -> tuple[tuple[Stored, ...], tuple[Float32, ...], tuple[Float32, ...]]:
    rows = (*spec.boxes, *spec.float_boxes)
    tests = (spec.input, *spec.heads)
    expected = sum(test.samples * (4 + 4 * spec.pictures) for test in tests) + 24 * sum(rows)
    if data is None or len(data) != expected:
        found = "none" if data is None else f"{len(data)} bytes"
        raise ModelFileError(f"{where}: expected {_VALUES} of {expected} bytes, found {found}")
    at = 0

    def take(dtype: str, *shape: int) -> npt.NDArray[Any]:
        nonlocal at
        count = int(np.prod(shape, dtype=np.int64))
        taken = np.frombuffer(data, dtype, count, at).reshape(shape) if count else np.zeros(shape, dtype)
        at += taken.nbytes
        return taken

    tensors = []
    for test in tests:
        index = take("<u4", test.samples).astype(np.int64)
        if index.max() >= test.size:
            raise ModelFileError(f"{where}: {test.name!r} has an index of {index.max()} for {test.size} values")
        values = [_real(test, take("<u2", spec.pictures, test.samples)) for _ in range(2)]
        tensors.append(Stored(test, index, *values))
    boxes = tuple(take("<f4", count, 6).astype(np.float32) for count in rows)
    if not all(np.isfinite(each).all() for each in boxes):
        raise ModelFileError(f"{where}: a box is not finite")
    return tuple(tensors), boxes[: spec.pictures], boxes[spec.pictures :]


def _levels(test: TensorTest, values: Float32) -> npt.NDArray[np.uint16]:
    span = test.high - test.low
    share = (values.astype(np.float64) - test.low) / span if span > 0 else np.zeros(values.shape)
    return np.rint(np.clip(share, 0, 1) * _LEVELS).astype("<u2")


def _real(test: TensorTest, stored: npt.NDArray[Any]) -> Float32:
    return (test.low + (test.high - test.low) * (stored / _LEVELS)).astype(np.float32)
