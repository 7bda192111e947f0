"""The folder of one camera's recordings: names by date and time, and how much is kept."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

log = logging.getLogger(__name__)

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FILE = re.compile(r"\d\d-\d\d-\d\d(?:[-_][\w.+-]*)?\.(?:mkv|mp4|jpg|json)")
"""What the recordings are called: nothing else is ever removed."""

_SWEEP_S = 60.0
_NO_CLOCK_YEAR = 2024
"""A board without a battery starts in 1970, or when its system was built: files of such years have no known age."""


class Folder:
    """`ROOT/CAMERA/2026-11-26/14-03-00.mkv`; the oldest go beyond an age, a size, or what the disk has left."""

    def __init__(
        self,
        root: Path,
        camera: str,
        max_days: float | None = None,
        max_gb: float | None = None,
        min_free_gb: float = 0.5,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; nothing is created yet.

        Args:
            root: Of all cameras.
            camera: The camera's name, which is a valid file name.
            max_days: Files of an older day or time are removed; None to keep them.
            max_gb: The oldest are removed while this camera's files take more, in 1e9 bytes; None for no bound.
            min_free_gb: The oldest are removed while the disk has less free, in 1e9 bytes.
            now: The clock, in seconds since the epoch.
        """
        self.path = root / camera
        self._max_days = max_days
        self._max_bytes = None if max_gb is None else max_gb * 1e9
        self._min_free_bytes = min_free_gb * 1e9
        self._now = now
        self._swept_s: float | None = None

    def new(self, wall_s: float, suffix: str, note: str = "") -> Path:
        """Return a name that no file has.

        Args:
            wall_s: When what is recorded began, in seconds since the epoch; the name has its local time.
            suffix: Of the file, with its dot.
            note: Letters, digits, "-", "." and "_" that follow the time.
        """
        at = datetime.fromtimestamp(wall_s)
        stem = at.strftime("%H-%M-%S") + (f"-{note}" if note else "")
        day = self.path / at.strftime("%Y-%m-%d")
        path = day / f"{stem}{suffix}"
        number = 2
        # The hour that comes twice in autumn, and a clock that was set back.
        while path.exists():
            path = day / f"{stem}_{number}{suffix}"
            number += 1
        return path

    def sweep(self, *writing: Path | None) -> None:
        """Remove what is too much; looks at most once a minute.

        Args:
            writing: Files that are being written, which stay.
        """
        now = time.monotonic()
        if self._swept_s is not None and now - self._swept_s < _SWEEP_S:
            return
        self._swept_s = now
        try:
            self._sweep({path for path in writing if path is not None})
        except OSError as error:
            log.warning("%s: cannot be tidied up (%s)", self.path, error.strerror or error)

    def _sweep(self, writing: set[Path]) -> None:
        files = [(path, size) for path, size in self._files() if path not in writing]
        if not files:
            return
        total = sum(size for _, size in files)
        pressing = self._pressing(total)
        # The oldest first: names sort by time.
        for path, size in files:
            if not pressing and not self._too_old(path):
                continue
            with suppress(FileNotFoundError):
                path.unlink()
                log.info("%s: removed", path)
            total -= size
            pressing = pressing and self._pressing(total)
            with suppress(OSError):  # not empty yet
                path.parent.rmdir()

    def _pressing(self, total_bytes: int) -> bool:
        """Whether the oldest must go, whatever its age."""
        too_many = self._max_bytes is not None and total_bytes > self._max_bytes
        return too_many or self._free_bytes() < self._min_free_bytes

    def _files(self) -> list[tuple[Path, int]]:
        """Return the recordings, the oldest first; links are not followed."""
        if not self.path.is_dir():
            return []
        found = []
        for day in sorted(os.scandir(self.path), key=lambda entry: entry.name):
            if not _DAY.fullmatch(day.name) or not day.is_dir(follow_symlinks=False):
                continue
            for entry in sorted(os.scandir(day.path), key=lambda entry: entry.name):
                if _FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    # What it takes on the disk, which for small files is more than their length.
                    found.append((Path(entry.path), entry.stat(follow_symlinks=False).st_blocks * 512))
        return found

    def _too_old(self, path: Path) -> bool:
        if self._max_days is None:
            return False
        try:
            at = datetime.strptime(f"{path.parent.name} {path.name[:8]}", "%Y-%m-%d %H-%M-%S")
        except ValueError:
            return False
        now = datetime.fromtimestamp(self._now())
        if _NO_CLOCK_YEAR > min(at.year, now.year):
            return False
        return (now - at).total_seconds() > self._max_days * 86400

    def _free_bytes(self) -> float:
        space = os.statvfs(self.path)
        return float((space.f_bfree if os.geteuid() == 0 else space.f_bavail) * space.f_frsize)
