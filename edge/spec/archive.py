"""The ZIP tail of a model file: small text files behind the flatbuffer, which every TFLite runtime ignores.

The archive is read in memory and nothing is ever extracted to disk. Everything in it is untrusted.
"""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from edge.errors import ModelFileError

MAX_MEMBERS = 64
MAX_MEMBER_BYTES = 8 << 20
MAX_TOTAL_BYTES = 16 << 20
MAX_RATIO = 200
"""Decompressed size over compressed size; label lists and JSON stay far below it, bombs are near 1000."""

_MAX_DIRECTORY_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
_RATIO_FREE_BYTES = 1 << 16
"""A member below this size may have any ratio: a short run of blanks compresses very well and harms nobody."""

# End record: signature, two disk numbers, entries on this disk, entries, directory size and offset, comment size.
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
# Header of a member: signature, version, flags, method, time, date, CRC-32, two sizes, length of name and of extra.
_HEADER = struct.Struct("<4s5H3L2H")
_HEADER_SIGNATURE = b"PK\x03\x04"
_ZIP64_LOCATOR_SIGNATURE = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_DATE = (1980, 1, 1, 0, 0, 0)
_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_tail(source: str | Path | bytes) -> dict[str, bytes]:
    """Read the archive behind a model.

    Args:
        source: The model file, or its bytes.

    Returns:
        Member name -> content; empty when no archive follows the model.

    Raises:
        ModelFileError: The file cannot be read, or the archive is broken, too large, or holds a name or a kind of
            member that a model file has no use for.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), "model")
    try:
        with open(source, "rb") as file:
            return _read(file, str(source))
    except OSError as error:
        raise ModelFileError(f"{source}: cannot be read: {error.strerror or error}") from error


def model_part(data: bytes) -> bytes:
    """Return the flatbuffer alone, without the archive behind it.

    Raises:
        ModelFileError: The archive is broken or not allowed, or nothing precedes it.
    """
    return data[: _model_bytes(io.BytesIO(data), "model")]


def model_sha256(path: Path) -> str:
    """Return the SHA-256, hexadecimal, of a file without the archive behind it.

    Raises:
        ModelFileError: The file cannot be read, or its archive is broken or not allowed, or nothing precedes it.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            left = _model_bytes(file, str(path))
            file.seek(0)
            while chunk := file.read(min(left, _CHUNK_BYTES)):
                digest.update(chunk)
                left -= len(chunk)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def with_tail(model: bytes, members: Mapping[str, bytes]) -> bytes:
    """Return the model with a new archive behind it, in place of the one that it may have.

    The same input gives the same bytes. Members are stored uncompressed, which the TFLite Metadata readers require.

    Args:
        model: A `.tflite`, with or without an archive behind it.
        members: Member name -> content.

    Raises:
        ModelFileError: The old archive is broken, or `members` exceeds what `read_tail` accepts.
    """
    buffer = io.BytesIO()
    buffer.write(model_part(model))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    data = buffer.getvalue()
    if members and read_tail(data) != dict(members):
        raise ModelFileError("model: the archive could not be written behind it and read back")
    return data


def _model_bytes(file: BinaryIO, where: str) -> int:
    """Return where the archive begins: the size of the model before it."""
    archive = _open(file, where)
    if archive is None:
        return file.seek(0, io.SEEK_END)
    start = min((info.header_offset for info in archive.infolist()), default=archive.start_dir)
    if start <= 0:
        raise ModelFileError(f"{where}: expected a .tflite model, found a ZIP archive and nothing before it")
    return start


def _open(file: BinaryIO, where: str) -> zipfile.ZipFile | None:
    """Open the archive at the end of a file and check what its directory claims; None when there is none."""
    end = _end_record(file)
    if end is None:
        if _begins(file):
            raise ModelFileError(f"{where}: cut short, its description has no end; copy it again")
        return None
    position, entries, directory_bytes = end
    if entries > MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise ModelFileError(
            f"{where}: the archive behind the model has {entries} members in a directory of {directory_bytes} bytes, "
            f"expected at most {MAX_MEMBERS} in {_MAX_DIRECTORY_BYTES}"
        )
    file.seek(max(0, position - _ZIP64_LOCATOR_BYTES))
    if file.read(4) == _ZIP64_LOCATOR_SIGNATURE:
        raise ModelFileError(f"{where}: the archive behind the model is in ZIP64 format, expected plain ZIP")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError) as error:
        raise ModelFileError(f"{where}: the archive behind the model is broken: {error}") from error
    _check(archive.infolist(), where)
    return archive


def _end_record(file: BinaryIO) -> tuple[int, int, int] | None:
    """Find the archive's end record: (position, entries, directory bytes).

    It must reach exactly to the end of the file, so that four unlucky bytes among the weights are no archive.
    """
    size = file.seek(0, io.SEEK_END)
    start = max(0, size - _END.size - 0xFFFF)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END_SIGNATURE)
    while at >= 0:
        if len(tail) - at >= _END.size:
            _, _, _, _, entries, directory_bytes, _, comment_bytes = _END.unpack_from(tail, at)
            if at + _END.size + comment_bytes == len(tail):
                return start + at, entries, directory_bytes
        at = tail.rfind(_END_SIGNATURE, 0, at)
    return None


def _begins(file: BinaryIO) -> bool:
    """Whether the first member of an archive stands in a file, behind which more than what is left may be missing."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - MAX_TOTAL_BYTES))
    data = file.read()
    at = data.find(_HEADER_SIGNATURE)
    while at >= 0:
        if len(data) - at >= _HEADER.size:
            _, version, flags, method, *_, name_bytes, _ = _HEADER.unpack_from(data, at)
            name = data[at + _HEADER.size :][:name_bytes]
            # So that four unlucky bytes among the weights are no archive.
            if version <= 63 and flags == 0 and method in _METHODS and 0 < name_bytes < 256 and name.isascii():
                return all(byte >= 0x20 for byte in name)
        at = data.find(_HEADER_SIGNATURE, at + 1)
    return False


def _check(infos: list[zipfile.ZipInfo], where: str) -> None:
    total = 0
    seen: set[str] = set()
    if len(infos) > MAX_MEMBERS:
        raise ModelFileError(f"{where}: the archive behind the model has {len(infos)} members, at most {MAX_MEMBERS}")
    for info in infos:
        name = info.orig_filename
        reason = _reason_to_refuse(info, name)
        if name in seen:
            reason = "a name that occurs twice"
        seen.add(name)
        total += info.file_size
        if total > MAX_TOTAL_BYTES:
            reason = f"more than {MAX_TOTAL_BYTES} bytes in all"
        if reason:
            raise ModelFileError(f"{where}: the archive behind the model holds {name[:80]!r}: {reason} is not accepted")


def _reason_to_refuse(info: zipfile.ZipInfo, name: str) -> str | None:
    if not name or "\\" in name or "\0" in name or name.startswith("/") or name[1:2] == ":":
        return "an absolute or empty name, or one with a backslash,"
    if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        return "a name that leaves its folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a symbolic link"
    if info.flag_bits & 0x1:
        return "an encrypted member"
    if info.compress_type not in _METHODS:
        return f"compression method {info.compress_type}"
    if info.file_size > MAX_MEMBER_BYTES:
        return f"a member of {info.file_size} bytes (at most {MAX_MEMBER_BYTES})"
    if info.file_size > _RATIO_FREE_BYTES and info.file_size > MAX_RATIO * info.compress_size:
        return f"a compression ratio above {MAX_RATIO}"
    return None


def _read(file: BinaryIO, where: str) -> dict[str, bytes]:
    archive = _open(file, where)
    if archive is None:
        return {}
    members = {}
    for info in archive.infolist():
        if info.is_dir():
            continue
        try:
            # zipfile stops at the size that the directory claims, which was checked, whatever the data expands to.
            members[info.orig_filename] = archive.read(info)
        except _READ_ERRORS as error:
            raise ModelFileError(
                f"{where}: {info.orig_filename!r} in the archive behind the model cannot be read: {error}"
            ) from error
    return members
