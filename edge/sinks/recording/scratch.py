"""Where a clip is put together before it goes to the disk in one go: a folder in memory, where there is one.

An SD card wears by the erase block: one long write costs less than many short ones. What a killed process left in
memory is moved by the next one; a loss of power takes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from edge.sinks.base import make_parent, output_error, write_atomically
from edge.sinks.recording.folder import Folder

MOST_BYTES = 32 << 20
"""Of one clip in memory; a longer one is cut."""

_FREE_BYTES = 2 * MOST_BYTES
"""With less in a folder in memory, or with more of clips that the disk has not taken, clips go straight to the disk."""

_LOCK = "lock"
_FORGOTTEN_S = 7 * 86400.0


class Scratch:
    """A folder in memory for one sink, locked while its process lives."""

    def __init__(self, folder: Folder, wanted: bool = True) -> None:
        """Prepare; nothing is created yet.

        Args:
            folder: Where files go in the end.
            wanted: Whether memory is used at all.
        """
        self._target = folder
        self._base = memory_folder() if wanted else None
        self._key = hashlib.sha256(os.fsencode(folder.path.absolute())).hexdigest()[:16]
        self._path: Path | None = None
        self._lock: int | None = None

    def place(self, target: Path) -> Path:
        """Return where to write a video that ends up in a day's folder: there itself where memory is short."""
        if self._base is None:
            return target
        try:
            space = os.statvfs(self._base)
            if space.f_bavail * space.f_frsize < _FREE_BYTES:
                return target
            path = self._open(self._base)
            if sum(entry.stat().st_size for entry in path.iterdir()) > _FREE_BYTES:
                return target
        except OSError:
            return target
        place = path / f"{target.parent.name}_{target.name}"
        number = 2
        while place.exists():
            place = path / f"{target.parent.name}_{target.stem}_{number}{target.suffix}"
            number += 1
        return place

    def _open(self, base: Path) -> Path:
        if self._path is not None and self._path.is_dir():
            return self._path
        parent = _private(base)
        name = f"{self._key}-{secrets.token_hex(4)}"
        hidden = parent / f".{name}"
        hidden.mkdir(0o700)
        lock = os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Locked before others can see it.
        hidden.rename(parent / name)
        self._unlock()
        self._path, self._lock = parent / name, lock
        return self._path

    def deliver(self, video: Path) -> Path:
        """Move a finished video, and what is said about it, to its day's folder.

        Args:
            video: A place that `place` gave.

        Returns:
            Where it is now.

        Raises:
            OutputError: It cannot be written; it stays in memory for `deliver_rest`.
        """
        if not video.parent.name.startswith(f"{self._key}-"):
            return video
        day, _, name = video.name.partition("_")
        target = self._target.free(day, Path(name).stem, video.suffix)
        self._target.writing.add(target)
        try:
            make_parent(target)
            _copy(video, target)
            told = video.with_suffix(".json")
            if told.is_file():
                text = told.read_text()
                with suppress(ValueError, TypeError):
                    text = json.dumps(json.loads(text) | {"video": target.name})
                write_atomically(target.with_suffix(".json"), text.encode())
                told.unlink()
            video.unlink()
        except OSError as error:
            raise output_error(target, error) from error
        finally:
            self._target.writing.discard(target)
        return target

    def deliver_rest(self, but: Path | None = None) -> list[Path]:
        """Move what the disk did not take before, and what processes that ended left.

        Args:
            but: A video that is being written.

        Returns:
            The videos, in their new places.

        Raises:
            OutputError: One cannot be written.
        """
        if self._base is None:
            return []
        moved = []
        with suppress(FileNotFoundError):
            for path in sorted((self._base / _private_name()).glob("*-*")):
                own = path.name.startswith(f"{self._key}-")
                if path == self._path:
                    moved += self._empty(path, but)
                elif (own or _is_forgotten(path)) and (lock := _lock(path)) is not None:
                    try:
                        moved += self._empty(path, None) if own else []
                        shutil.rmtree(path, ignore_errors=True)
                    finally:
                        os.close(lock)
        return moved

    def _empty(self, path: Path, but: Path | None) -> list[Path]:
        moved = []
        for video in sorted(path.iterdir()):
            if video == but or video.suffix not in (".mkv", ".mp4") or ".part" in video.suffixes:
                continue
            if video.stat().st_size:
                moved.append(self.deliver(video))
            else:
                # Its process was killed before the first second was written.
                video.with_suffix(".json").unlink(missing_ok=True)
                video.unlink()
        return moved

    def close(self) -> None:
        """Let go of the folder; what could not be moved waits for the next process."""
        path, self._path = self._path, None
        if path is not None and os.listdir(path) == [_LOCK]:
            shutil.rmtree(path, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def memory_folder() -> Path | None:
    """Return a folder on a file system in memory that this user may write to; None where there is none."""
    named = (os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], os.environ.get("XDG_RUNTIME_DIR", ""))
    for name in (*named, "/dev/shm"):
        if name and os.access(name, os.W_OK | os.X_OK) and _in_memory(os.path.realpath(name)):
            return Path(name)
    return None


def _in_memory(path: str) -> bool:
    kind, longest = "", -1
    with suppress(OSError):
        # mount ID, parent ID, device, root, mount point, options ... - type, source, options: proc(5)
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            point = before.split(" ")[4].replace("\\040", " ")
            if len(point) > longest and (path == point or path.startswith(point.rstrip("/") + "/")):
                kind, longest = after.split(" ")[0], len(point)
    return kind in ("tmpfs", "ramfs")


def _private_name() -> str:
    return f"edge-{os.geteuid()}"


def _private(base: Path) -> Path:
    """Return this user's own folder in one that others may write to, too.

    Raises:
        OSError: It belongs to another.
    """
    path = base / _private_name()
    path.mkdir(0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o777 != 0o700 or path.is_symlink():
        raise PermissionError(1, "belongs to another", str(path))
    return path


def _lock(path: Path) -> int | None:
    """Lock the folder of a process that has ended; None where it lives."""
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_forgotten(path: Path) -> bool:
    """Return whether nobody came for a folder: its camera was renamed, or removed."""
    try:
        return time.time() - path.stat().st_mtime > _FORGOTTEN_S
    except OSError:
        return False


def _copy(source: Path, target: Path) -> None:
    """Copy a file to another disk, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, part)
        os.replace(part, target)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise output_error(target, error) from error
