"""The folder of one camera's recordings: what they are called, which there are, and which are too many."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge.errors import OutputError
from edge.sinks.base import output_error, pwrite_all

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_LEFT_OVER = re.compile(r"\.?(?P<name>.+?)\.part(?:\.\w+)?")
"""What a kill leaves of a file that was not in its place yet."""

_NO_CLOCK_YEAR = 2024
"""A board without a battery starts in 1970, or when its system was built: files of such years have no known age."""

_PROBE_BYTES = 256 * 1024
"""What a disk must take after it failed: a video of less could not be played."""

_JUMP_S = 600.0
"""A clock that moved by more since it was looked at last is not believed until the next look."""


@dataclass(frozen=True, slots=True)
class Files:
    """Which names are a sink's own: a time, and what follows it.

    Attributes:
        noted: Whether a note, such as a label, follows the time.
        suffixes: What they end in.
    """

    noted: bool
    suffixes: tuple[str, ...]

    def own(self, name: str) -> str | None:
        """Return the stem of a name of this form; None of another."""
        if (left_over := _LEFT_OVER.fullmatch(name)) is not None:
            name = left_over["name"]
        stem, dot, suffix = name.rpartition(".")
        note = r"-[\w.+-]+" if self.noted else r"(?:_\d+)?"
        if f"{dot}{suffix}" not in self.suffixes or re.fullmatch(r"\d\d-\d\d-\d\d" + note, stem) is None:
            return None
        return stem


@dataclass(frozen=True, slots=True)
class Recording:
    """What lies in a folder under one stem: a video, and perhaps what is said about it.

    Attributes:
        day: The folder it is in, by date.
        stem: Its name without what it ends in.
        names: Its files.
        size_bytes: What they take on the disk, which for small files is more than their length.
    """

    day: str
    stem: str
    names: tuple[str, ...]
    size_bytes: int

    @property
    def at(self) -> datetime | None:
        """When it began, in local time, by its name."""
        try:
            return datetime.strptime(f"{self.day} {self.stem[:8]}", "%Y-%m-%d %H-%M-%S")
        except ValueError:
            return None


class Mount:
    """The disk that a path is on. Pulled out, it leaves an empty folder, and the system's own disk behind it."""

    def __init__(self, path: Path) -> None:
        """Prepare; the disk is looked up by the first `require`."""
        self._path = path
        self._mount: Path | None = None

    def require(self) -> None:
        """Make sure that the disk is the one that was there the first time.

        Raises:
            OutputError: It is gone.
        """
        if self._mount is None:
            place = Path(os.path.realpath(self._path))
            while not os.path.ismount(place):
                place = place.parent
            self._mount = place
        elif not os.path.ismount(self._mount):
            raise OutputError(f"{self._path}: the disk that was mounted at {self._mount} is gone")


class Folder:
    """`ROOT/CAMERA/2026-11-26/14-03-00.mkv`.

    Attributes:
        path: The camera's folder.
        writing: Files that are being written, which are never removed.
        min_free_bytes: The oldest recordings are removed while the disk has less free.
    """

    def __init__(
        self,
        root: Path,
        camera: str,
        max_days: float | None = None,
        max_gb: float | None = None,
        min_free_gb: float = 0.5,
        now: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is created yet.

        Args:
            root: Of all cameras.
            camera: The camera's name, which is a valid file name.
            max_days: Recordings that began more days ago are removed; None to keep them.
            max_gb: The oldest are removed while this camera's take more, in 1e9 bytes; None for no bound.
            min_free_gb: The oldest are removed while the disk has less free, in 1e9 bytes.
            now: The clock, in seconds since the epoch.
            elapsed: A clock that never jumps, in seconds.
        """
        self.path = root / camera
        self.writing: set[Path] = set()
        self.min_free_bytes = min_free_gb * 1e9
        self._max_days = max_days
        self._max_bytes = None if max_gb is None else max_gb * 1e9
        self._now, self._elapsed = now, elapsed
        self._offset_s: float | None = None
        self._files = Files(False, ())
        self._mount = Mount(root)
        self._newest_day = ""
        self._failed = False
        self._sizes: dict[str, tuple[int, int]] = {}

    def claim(self, files: Files) -> None:
        """Say which files are the sink's own: no other is ever removed."""
        self._files = files

    def fail(self) -> None:
        """Note that the disk failed: `require` tries it before anything else is written."""
        self._failed = True

    def require(self) -> None:
        """Make sure that a disk that failed takes something again; nothing is done while none has failed.

        Raises:
            OutputError: It does not.
        """
        if not self._failed:
            return
        self._mount.require()
        probe = self.path / ".probe.part"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                with probe.open("wb", buffering=0) as file:
                    pwrite_all(file.fileno(), bytes(_PROBE_BYTES), 0)
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.path, error) from error
        self._failed = False

    def new(self, wall_s: float, suffix: str, note: str = "") -> Path:
        """Return a name that no file has.

        Args:
            wall_s: When what is recorded began, in seconds since the epoch; the name has its local time.
            suffix: Of the file, with its dot.
            note: Letters, digits, "-", "." and "_" that follow the time.

        Raises:
            OutputError: The disk is gone, or the folder cannot be read.
        """
        at = datetime.fromtimestamp(wall_s)
        stem = at.strftime("%H-%M-%S") + (f"-{note}" if note else "")
        return self.free(at.strftime("%Y-%m-%d"), stem, suffix)

    def free(self, day: str, stem: str, suffix: str) -> Path:
        """Return a name that no file has, with a number behind it where need be.

        Raises:
            OutputError: The disk is gone, or the folder cannot be read.
        """
        self._mount.require()
        self._newest_day = day
        path = self.path / day / f"{stem}{suffix}"
        number = 2
        try:
            # The hour that comes twice in autumn, and a clock that was set back.
            while path.exists():
                path = self.path / day / f"{stem}_{number}{suffix}"
                number += 1
        except OSError as error:
            raise output_error(path, error) from error
        return path

    def recordings(self) -> Iterator[Recording]:
        """Yield what there is, the oldest first; links are not followed.

        Raises:
            OSError: The folder cannot be read.
        """
        for day in self._days():
            yield from self._in(day)

    def remove(self, recording: Recording) -> bool:
        """Remove a recording, unless it is being written, and its day's folder with the last of it.

        Returns:
            Whether it is gone.

        Raises:
            OSError: It cannot be removed.
        """
        if any(path.parent.name == recording.day and path.stem == recording.stem for path in list(self.writing)):
            return False
        # Not by its path: a part of that could have become a link by now.
        descriptor = os.open(self.path / recording.day, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for name in recording.names:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        # A folder's time of change may be too coarse to tell.
        self._sizes.pop(recording.day, None)
        self._remove_empty(recording.day)
        return True

    def trim(self) -> list[Recording]:
        """Remove what is too old or too much.

        Returns:
            What was removed.

        Raises:
            OSError: The folder cannot be read, or a file not be removed.
        """
        removed = []
        if (now := self._believed_now()) is not None and self._max_days is not None:
            for recording in self.recordings():
                if not self._is_older(recording, now, self._max_days):
                    # The rest is younger, unless it was recorded without a clock.
                    if recording.at is not None and recording.at.year >= _NO_CLOCK_YEAR:
                        break
                elif self.remove(recording):
                    removed.append(recording)
        if self._max_bytes is not None:
            excess = self._total_bytes() - self._max_bytes
            for recording in self.recordings() if excess > 0 else ():
                if excess <= 0:
                    break
                if self.remove(recording):
                    removed.append(recording)
                    excess -= recording.size_bytes
        for day in self._days():
            self._remove_empty(day)
        return removed

    def _days(self) -> list[str]:
        try:
            with os.scandir(self.path) as entries:
                return sorted(e.name for e in entries if _DAY.fullmatch(e.name) and e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def _in(self, day: str) -> list[Recording]:
        found: dict[str, list[tuple[str, int]]] = {}
        try:
            with os.scandir(self.path / day) as entries:
                for entry in entries:
                    stem = self._files.own(entry.name)
                    if stem is not None and entry.is_file(follow_symlinks=False):
                        size = entry.stat(follow_symlinks=False).st_blocks * 512
                        found.setdefault(stem, []).append((entry.name, size))
        except FileNotFoundError:
            return []
        return [
            Recording(day, stem, tuple(name for name, _ in files), sum(size for _, size in files))
            for stem, files in sorted(found.items())
        ]

    def _total_bytes(self) -> int:
        """Return the size of all recordings; days in which nothing came or went since are not looked through again."""
        busy = {path.parent.name for path in list(self.writing)} | {self._newest_day}
        sizes: dict[str, tuple[int, int]] = {}
        total = 0
        for day in self._days():
            with suppress(FileNotFoundError):
                changed_ns = os.stat(self.path / day).st_mtime_ns
                known = self._sizes.get(day)
                if day in busy or known is None or known[0] != changed_ns:
                    known = changed_ns, sum(recording.size_bytes for recording in self._in(day))
                if day not in busy:
                    sizes[day] = known
                total += known[1]
        self._sizes = sizes
        return total

    def _remove_empty(self, day: str) -> None:
        # In the newest day's folder a file may be about to be made.
        if day != self._newest_day:
            with suppress(OSError):  # not empty
                os.rmdir(self.path / day)

    def _believed_now(self) -> datetime | None:
        """Return the time, unless the clock was set since the last look: a wrong one would cost all recordings."""
        wall_s = self._now()
        before_s, self._offset_s = self._offset_s, wall_s - self._elapsed()
        now = datetime.fromtimestamp(wall_s)
        if before_s is None or abs(self._offset_s - before_s) > _JUMP_S or now.year < _NO_CLOCK_YEAR:
            return None
        return now

    @staticmethod
    def _is_older(recording: Recording, now: datetime, days: float) -> bool:
        at = recording.at
        return at is not None and at.year >= _NO_CLOCK_YEAR and (now - at).total_seconds() > days * 86400

    def device(self) -> tuple[int, float]:
        """Return which disk it is on, by number, and how many bytes that has free.

        Raises:
            OSError: It does not exist.
        """
        status = os.stat(self.path)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, "not a folder", str(self.path))
        space = os.statvfs(self.path)
        # Some blocks of a disk are for root alone.
        return status.st_dev, float((space.f_bfree if os.geteuid() == 0 else space.f_bavail) * space.f_frsize)
