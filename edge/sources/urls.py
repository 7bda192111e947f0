"""URLs of streams: which there are, what is wrong with one, and how to show it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from edge.errors import SourceError

PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "tcp": None}
"""Schemes with a host that must answer -> the port where the URL names none; None: it must."""

SCHEMES = (*PORTS, "udp", "rtp", "srt")

_SECRET = r"((?:(?<!\w)[up]|[\w.%-]{0,30}?(?:user|usr|login|pass|pwd|pw|token|secret|auth|key|sig)[\w.%-]{0,30})=)"
_IN_QUERY = re.compile(_SECRET + r"[^&]*", re.IGNORECASE)
_IN_PATH = re.compile(_SECRET + r".*?(?=&|_[a-z]+=|$)", re.IGNORECASE)
"""Recorders want user and password in the path: /user=a_password=b_channel=1, or with & between."""

_LONGEST = 4096
"""Letters of a URL that is worth a look."""

_ALMOST = re.compile(rf"((?:{'|'.join(PORTS)}):/?)(?!/)\S*@", re.IGNORECASE)
"""A URL with too few slashes."""

_ENCODE = "in a user or password write %2F for /, %3F for ?, %23 for # and %40 for @"


def check_url(url: str) -> tuple[str, int] | None:
    """Say what is wrong with a URL, as far as that can be told without a connection.

    Returns:
        Host and port that must answer; None where the scheme has no such thing.

    Raises:
        SourceError: The scheme is unknown, or host or port are missing or wrong.
    """
    name = without_credentials(url)
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise SourceError(f"{name}: unknown scheme {scheme!r}; expected one of {', '.join(SCHEMES)}, or a file")
    if scheme not in PORTS:
        return None
    authority, behind = _split(url.partition("://")[2])
    if "@" in behind and ":" in authority and "@" not in authority and "." not in authority:
        # user:pass/word@host is taken for the path of a host "user" by all that reads it.
        raise SourceError(f"{name}: an @ stands behind a / ? or #; {_ENCODE}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS[scheme]
    except ValueError as error:
        raise SourceError(f"{name}: this is no valid URL" + (f"; {_ENCODE}" if "@" in url else "")) from error
    if not host or port is None:
        raise SourceError(f"{name}: the URL names no host" if not host else f"{name}: the URL names no port")
    return host, port


def without_credentials(uri: str) -> str:
    """Return a URI with user, password and secret-looking values of its path and query replaced by `***`.

    In doubt too much is replaced. Anything that is no URL comes back as it is.
    """
    if "://" not in uri:
        return _ALMOST.sub(r"\1***@", uri)
    if uri.startswith("gst://"):
        # A pipeline: elements with properties, some of which may be URLs.
        uri = re.sub(r"(?<=://)[^\s/@!]*@", "***@", uri)
        return re.sub(r"([\w-]*(?:user|pass|pw|token|secret|auth|key)[\w-]*\s*=\s*)(\"[^\"]*\"|\S+)", r"\1***", uri)
    scheme, _, rest = uri.partition("://")
    try:
        urlsplit(uri)
        parsable = len(uri) <= _LONGEST
    except ValueError:
        # Brackets that do not pair, for instance.
        parsable = False
    if not parsable:
        # Nothing of it is safe to show.
        return f"{scheme}://***"
    authority, behind = _split(rest)
    user, at, host = authority.rpartition("@")
    if not at and ":" in authority and "@" in behind:
        # A password with a / ? or # in it, which should have been encoded.
        behind = behind.rpartition("@")[2]
        authority, behind = _split(behind)
        at, host = "@", authority
    path, mark, query = behind.partition("#")[0].partition("?")
    shown = _IN_PATH.sub(r"\1***", path) + mark + _IN_QUERY.sub(r"\1***", query)
    return f"{scheme}://{'***@' if at else ''}{host}{shown}"


def _split(rest: str) -> tuple[str, str]:
    """Return what stands between :// and the first of / ? #, and what follows."""
    end = next((i for i, letter in enumerate(rest) if letter in "/?#"), len(rest))
    return rest[:end], rest[end:]
