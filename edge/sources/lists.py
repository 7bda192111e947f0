"""Lists of sources: a .streams file holds one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.errors import SourceError

SUFFIX = ".streams"


def expand_sources(uris: Sequence[str]) -> list[str]:
    """Return sources with each .streams file replaced by what it lists.

    Lines that are empty or begin with `#` mean nothing; so does what follows ` #`. Paths are relative to the working
    folder, as on the command line.

    Raises:
        SourceError: A list cannot be read, holds no source, or holds another list.
    """
    found: list[str] = []
    for uri in uris:
        if is_list(uri):
            found += _read(uri)
        else:
            found.append(uri)
    return found


def is_list(uri: str) -> bool:
    """Whether a source is a list of sources."""
    return uri.endswith(SUFFIX) and "://" not in uri


def _read(path: str) -> list[str]:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: expected a text with one source a line, found something else") from error
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    sources = [line for line in lines if line and not line.startswith("#")]
    if not sources:
        raise SourceError(f"{path}: expected one source a line, found none")
    if nested := [source for source in sources if is_list(source)]:
        raise SourceError(f"{path}: names another list, {nested[0]}; a list holds sources only")
    return sources
