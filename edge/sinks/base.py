"""What every sink is, and what sinks share."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from edge.draw import Color, Painter, class_color
from edge.errors import OutputError
from edge.frame import Image
from edge.result import Result

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, an exhausted quota, a file size limit."""


class Sink(Protocol):
    """Where results go. All calls come from one thread, results in the order of their frames.

    Attributes:
        outputs: The files that were written, or are being written.
    """

    outputs: list[Path]

    def write(self, result: Result) -> None:
        """Take one result.

        Raises:
            OutputError: It cannot be written; what was written before stays readable.
        """
        ...

    def close(self) -> None:
        """Finish the files; harmless when repeated.

        Raises:
            OutputError: The last of it cannot be written.
        """
        ...


class RecoverableSink(Sink, Protocol):
    """A sink that outlives an outage of its disk.

    After an OutputError of `write` or `tick` the caller waits a while, 10 s for instance, and simply calls again: the
    sink goes on in a new file, or behind the last whole record of its old one, as soon as the disk takes it. While the
    disk does not, each call raises again, also one that has nothing to write: a call that returns says that the disk
    is back. What was written before the outage stays readable. `close` may be called in any state, and a closed sink
    may be written to again. Making one touches no disk.
    """

    def tick(self) -> None:
        """Do what is due by the clock; called now and then, whether frames come or not.

        Raises:
            OutputError: It cannot be written.
        """
        ...


class Overlay:
    """The picture with its result drawn on it, made once per result for all sinks that show it."""

    def __init__(self, labels: Sequence[str], color: Callable[[int], Color] = class_color) -> None:
        """Prepare names and colours.

        Args:
            labels: Class names by class index.
            color: Returns the colour of a class index.
        """
        self._painter = Painter(labels, color)
        self._result: Result | None = None
        self._canvas: Image = np.empty((0, 0, 3), np.uint8)

    def draw(self, result: Result) -> Image:
        """Return the annotated picture, valid until the next result; its time becomes `stage_ms["draw"]`."""
        if result is not self._result:
            start = perf_counter()
            image = result.frame.image
            if self._canvas.shape != image.shape:
                self._canvas = np.empty_like(image)
            np.copyto(self._canvas, image)
            if result.classification is None:
                self._painter.draw(self._canvas, result.detections)
            else:
                self._painter.draw_classes(self._canvas, result.classification)
            self._result = result
            result.stage_ms["draw"] = (perf_counter() - start) * 1e3
        return self._canvas


def output_error(path: Path | str, error: OSError) -> OutputError:
    """Return the one line for a failed write."""
    if error.errno in FULL:
        return OutputError(f"{path}: the disk is full; what was written before is kept")
    return OutputError(f"{path}: cannot be written ({error.strerror or error})")


def make_parent(path: Path) -> None:
    """Create the folder that a file goes to.

    Raises:
        OutputError: It cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be created ({error.strerror})") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file, or leave what was there.

    Raises:
        OutputError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise output_error(path, error) from error


def pwrite_all(descriptor: int, data: bytes, position: int) -> None:
    """Write bytes at a place of a file, without moving its position.

    Raises:
        OSError: Not all of it could be written.
    """
    while data:
        # One call may write less than all of it: up to the last free byte of a disk, for instance.
        written = os.pwrite(descriptor, data, position)
        data, position = data[written:], position + written
