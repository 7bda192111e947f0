"""JSON lines and CSV for months: written a few at a time, in files that rotate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

from edge.result import Result
from edge.sinks.base import make_parent, output_error, pwrite_all
from edge.sinks.recording.folder import Mount

_MOST_BYTES = 1 << 20
"""Of records that wait while the disk is full; then the oldest are lost."""

_BATCH_BYTES = 1 << 16
"""Records that wait are written at once from here on, whatever the time."""


class RowsSink:
    """A text file with a record per result; the last whole record is where it ends, also after a crash.

    What is there when it starts is kept, and gone on with.
    """

    def __init__(
        self,
        path: Path,
        record: Callable[[Result], str],
        header: str = "",
        max_mb: float = 50.0,
        keep: int = 4,
        flush_s: float = 2.0,
        daily: bool = False,
    ) -> None:
        """Prepare; the first record makes the file.

        Args:
            path: Its name.
            record: Makes the lines of a result, each with its line end; an empty text for none.
            header: What a new file begins with.
            max_mb: Size in 1e6 bytes from which a new file is begun.
            keep: Full files that are kept beside it: `name.1.suffix` is the youngest.
            flush_s: Records are written together at this interval in seconds.
            daily: Whether each day, by local time, begins a new file, too.
        """
        self.outputs = [path]
        self._path = path
        self._record = record
        self._header = header
        self._max_bytes = max_mb * 1e6
        self._keep = keep
        self._flush_s = flush_s
        self._daily = daily
        self._day = date.today()
        self._mount = Mount(path.parent)
        self._descriptor: int | None = None
        self._size = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._flushed_s = time.monotonic()
        self._failed = False

    def write(self, result: Result) -> None:
        """Take one result.

        Raises:
            OutputError: What waits cannot be written; it is tried again with a later call.
        """
        # A file name that is no UTF-8 holds lone surrogates; their escapes are valid in JSON.
        data = self._record(result).encode(errors="backslashreplace")
        if data:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
        while self._waiting_bytes > _MOST_BYTES:
            self._waiting_bytes -= len(self._waiting.pop(0))
        if self._waiting_bytes >= _BATCH_BYTES or self._is_due():
            self._flush()

    def _is_due(self) -> bool:
        # After a failure at once: what raises no error tells the caller that the disk is back.
        return self._failed or time.monotonic() - self._flushed_s >= self._flush_s

    def tick(self) -> None:
        """Write what has waited long enough.

        Raises:
            OutputError: It cannot be written; it is tried again with a later call.
        """
        if self._is_due():
            self._flush()

    def _flush(self) -> None:
        self._flushed_s = time.monotonic()
        if not self._waiting:
            return
        try:
            self._look_after()
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            today = date.today()
            if self._size and (
                self._size + self._waiting_bytes > self._max_bytes or (self._daily and self._day != today)
            ):
                self._rotate()
                self._open()
            self._day = today
            data = b"".join(self._waiting)
            pwrite_all(self._descriptor, data, self._size)
        except OSError as error:
            self._take_back()
            self._failed = True
            raise output_error(self._path, error) from error
        self._failed = False
        self._size += len(data)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _look_after(self) -> None:
        """See whether another program moved, removed or emptied the file."""
        if self._descriptor is None:
            return
        ours = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        elif ours.st_size < self._size:
            self._size = _whole_bytes(self._descriptor)

    def _open(self) -> None:
        self._mount.require()
        make_parent(self._path)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        status = os.fstat(self._descriptor)
        self._size = _whole_bytes(self._descriptor)
        if self._size:
            self._day = date.fromtimestamp(status.st_mtime)
        if self._size < status.st_size:
            os.ftruncate(self._descriptor, self._size)
        if not self._size and self._header:
            header = self._header.encode()
            pwrite_all(self._descriptor, header, 0)
            self._size = len(header)

    def _take_back(self) -> None:
        """Remove what was written of a batch, and open the file anew next time: the disk may be another."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, self._size)
            with suppress(OSError):
                os.close(descriptor)

    def _rotate(self) -> None:
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None
        if not self._keep:
            os.truncate(self._path, 0)
            return
        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(self._numbered(number), self._numbered(number + 1))
        os.replace(self._path, self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}.{number}{self._path.suffix}")

    def close(self) -> None:
        """Write what waits, and close the file.

        Raises:
            OutputError: It cannot be written, and is lost.
        """
        try:
            self._flush()
        finally:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)


def _whole_bytes(descriptor: int) -> int:
    """Return where the last whole line of a file ends."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 4096)
        block = os.pread(descriptor, end - start, start)
        if (found := block.rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0
