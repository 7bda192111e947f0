"""Fetching one file over HTTP: it goes on where it was cut, and only the expected bytes get their name."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge import __version__
from edge.errors import DownloadError, OutputError
from edge.zoo.table import Remote

TIMEOUT_S = 30.0
"""Seconds without a byte after which a server counts as silent."""

_CHUNK_BYTES = 1 << 16
_MOST = 2
"""A body may be this many times as long as expected before it is refused unread."""

_NETWORK_ERRORS = (OSError, http.client.HTTPException)  # URLError and timeouts are OSErrors


def fetch(remote: Remote, folder: Path, report: Callable[[int], None] = lambda done: None) -> Path:
    """Fetch a file, or what of it is missing. Proxies come from the environment, as urllib reads it.

    Args:
        remote: The file.
        folder: Where it is put; what a cut download left there (`.part`) is used. One process at a time.
        report: Called with the bytes that are there.

    Returns:
        Its path; its content has the expected SHA-256.

    Raises:
        DownloadError: The server cannot be reached, is silent or refuses, or gives other bytes (which are removed).
        OutputError: It cannot be written.
    """
    path = folder / remote.filename
    if not path.is_file() or sha256_of(path) != remote.sha256:
        part = path.with_name(f"{path.name}.part")
        resumed = _complete(remote, part, report)
        found = sha256_of(part)
        if found != remote.sha256 and resumed:  # the old piece was another file's, or damaged
            _remove(part)
            _complete(remote, part, report)
            found = sha256_of(part)
        if found != remote.sha256:
            _remove(part)
            raise DownloadError(
                f"{remote.url}: expected SHA-256 {remote.sha256}, found {found}; the file was removed, nothing of it "
                "is used"
            )
        try:
            os.replace(part, path)
        except OSError as error:
            raise _unwritten(path, error) from error
    report(path.stat().st_size)
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        OutputError: It cannot be read back.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _complete(remote: Remote, part: Path, report: Callable[[int], None]) -> bool:
    """Fetch until the server has given all; return whether an earlier download was gone on with."""
    resumed = _size(part) > 0
    while True:
        before = _size(part)
        try:
            _once(remote, part, report)
            return resumed
        except urllib.error.HTTPError as error:
            error.close()
            if before and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True  # nothing is missing, or this is no piece of the file: the hash will tell
            raise DownloadError(f"{remote.url}: the server answered {_reason(error)}") from error
        except _NETWORK_ERRORS as error:
            if _size(part) <= before:  # else it goes on as long as each connection brings something
                host = urllib.parse.urlsplit(remote.url).netloc
                raise DownloadError(
                    f"{remote.filename} cannot be fetched from {host} ({_reason(error)}); check the network and "
                    "https_proxy and pull again, which goes on where this stopped"
                ) from error


def _once(remote: Remote, part: Path, report: Callable[[int], None]) -> None:
    """Open one connection and append what it gives.

    Raises:
        OSError, HTTPException: The connection failed or was cut.
        OutputError: The file cannot be written.
        DownloadError: The body is far too long.
    """
    start = _size(part)
    request = urllib.request.Request(remote.url, headers={"User-Agent": f"edge/{__version__}"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.build_opener().open(request, timeout=TIMEOUT_S)
    except ValueError as error:  # its text may hold the proxy's password
        raise http.client.HTTPException("the proxy's address is malformed") from error
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0  # the whole file comes
        elif not re.match(rf"bytes {start}-", response.headers.get("Content-Range", "")):
            _remove(part)
            raise http.client.HTTPException("the server gave another range than asked for")
        _append(part, start, _chunks(response), remote, report)


def _chunks(response: Any) -> Iterator[bytes]:
    """Give the body; raise where it ends before the announced length."""
    while chunk := response.read(_CHUNK_BYTES):
        yield chunk
    # read(n) ends silently where a connection is cut; only the length tells.
    if response.length:
        raise http.client.HTTPException(f"the connection was cut {response.length:,} bytes before the end")


def _append(part: Path, start: int, chunks: Iterator[bytes], remote: Remote, report: Callable[[int], None]) -> None:
    try:
        file = part.open("r+b" if start else "wb", buffering=0)
    except OSError as error:
        raise _unwritten(part, error) from error
    with file:
        file.seek(start)
        done = start
        report(done)
        for chunk in chunks:
            done += len(chunk)
            if done > _MOST * remote.size_bytes:
                _remove(part)
                raise DownloadError(f"{remote.url}: expected {remote.size_bytes:,} bytes, found more than {done:,}")
            try:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            except OSError as error:
                raise _unwritten(part, error) from error
            report(done)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); make room or set XDG_CACHE_HOME")


def _reason(error: Exception) -> str:
    """Return what went wrong, in one line."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}".strip()
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return f"silent for {TIMEOUT_S:g} s"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return " ".join(str(inner).split()) or type(inner).__name__
