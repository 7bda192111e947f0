"""The files of a data set, in a folder or a .zip, by names relative to it; nothing else can be read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from edge.errors import InputError
from edge.labelled.pictures import ZIP_ERRORS
from edge.sources.images import IMAGE_SUFFIXES

_MAX_BYTES = 1 << 30
"""The most that one file may unpack to."""


@dataclass(frozen=True)
class Files:
    """The files below one folder of a data set.

    Attributes:
        path: The data set: a folder or a .zip.
        base: The folder in it that the names start from: "" or "name/".
        entries: Name -> what to open, in order of the names.
        archive: The .zip, open.
    """

    path: Path
    base: str
    entries: dict[str, str | zipfile.ZipInfo]
    archive: zipfile.ZipFile | None

    @cached_property
    def folders(self) -> frozenset[str]:
        """The folders that hold something, "" among them."""
        found = {""}
        for name in self.entries:
            while (name := name.rpartition("/")[0]) not in found:
                found.add(name)
        return frozenset(found)

    def below(self, folder: str) -> list[str]:
        """Return the names below a folder, deep ones too."""
        start = f"{folder}/" if folder else ""
        return [name for name in self.entries if name.startswith(start)]

    def within(self, folder: str) -> Files:
        """Return the files below a folder, by names relative to it."""
        entries = {name[len(folder) + 1 :]: self.entries[name] for name in self.below(folder)}
        return Files(self.path, f"{self.base}{folder}/", entries, self.archive)

    def where(self, name: str) -> str:
        """Return what a file is called in a message."""
        return f"{self.path}: {self.base}{name}"

    def read(self, name: str, size: int = -1) -> bytes:
        """Return a file's bytes, or the first ones of them.

        Raises:
            InputError: It is not there, or cannot be read.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise InputError(f"{self.where(name)} is not there")
        try:
            if isinstance(entry, str):
                with open(self.path / entry, "rb") as file:
                    return file.read(size)
            if entry.file_size > _MAX_BYTES:
                raise InputError(f"{self.where(name)} claims {entry.file_size} bytes, more than 1 GiB")
            assert self.archive is not None
            with self.archive.open(entry) as member:
                return member.read(size)
        except ZIP_ERRORS as error:
            raise InputError(f"{self.where(name)} cannot be read ({error})") from error


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """List the files of a data set.

    Raises:
        InputError: `path` is no folder and no .zip, or cannot be read.
    """
    if path.is_dir():
        yield Files(path, "", {name: name for name in sorted(_walk(path))}, None)
        return
    if path.suffix.lower() != ".zip" or not path.is_file():
        found = "found another kind of file" if path.exists() else "it is not there"
        raise InputError(f"{path}: expected a data set, a folder or a .zip; {found}")
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise InputError(f"{path}: expected a .zip file ({error})") from error
    with archive:
        # Some programs for Windows write backslashes. A name that leads out of the archive is not taken up.
        named = {info.filename.replace("\\", "/"): info for info in archive.infolist() if not info.is_dir()}
        yield Files(path, "", {name: named[name] for name in sorted(named) if _is_inside(name)}, archive)


def is_picture(name: str) -> bool:
    """Whether a file is called like a picture."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _walk(path: Path) -> Iterator[str]:
    """Yield the names of all files below a folder; links to folders are followed, but not in circles."""

    def failed(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    for folder, folders, names in os.walk(path, followlinks=True, onerror=failed):
        here = os.path.realpath(folder)
        linked = {name: os.path.realpath(os.path.join(folder, name)) for name in folders}
        folders[:] = [
            name for name, real in linked.items() if _is_inside(name) and not f"{here}/".startswith(f"{real}/")
        ]
        relative = os.path.relpath(folder, path).replace(os.sep, "/")
        start = "" if relative == "." else f"{relative}/"
        yield from (start + name for name in names if _is_inside(name))


def _is_inside(name: str) -> bool:
    """Whether a name stays below its root and is neither hidden nor what macOS adds."""
    parts = name.split("/")
    return all(part and not part.startswith(".") for part in parts) and parts[0] != "__MACOSX"
