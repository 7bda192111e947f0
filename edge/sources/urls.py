"""URLs of streams: which there are, what is wrong with one, and how to show it."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from edge.errors import SourceError

PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "tcp": None}
"""Schemes with a host that must answer -> the port where the URL names none; None: it must."""

SCHEMES = (*PORTS, "udp", "rtp", "srt")

_SECRET_KEY = re.compile(r"user|usr|login|pass|pwd|token|secret|auth|key|sig", re.IGNORECASE)


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
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS[scheme]
    except ValueError as error:
        raise SourceError(f"{name}: this is no valid URL") from error
    if not host or port is None:
        raise SourceError(f"{name}: the URL names no host" if not host else f"{name}: the URL names no port")
    return host, port


def without_credentials(uri: str) -> str:
    """Return a URI with user, password and secret-looking query values replaced by `***`.

    Anything that is no URL comes back as it is.
    """
    if "://" not in uri:
        return uri
    if uri.startswith("gst://"):
        # A pipeline: elements with properties, some of which may be URLs.
        uri = re.sub(r"(?<=://)[^\s/@!]*@", "***@", uri)
        return re.sub(r"([\w-]*(?:user|pass|pw|token|secret|auth|key)[\w-]*\s*=\s*)(\"[^\"]*\"|\S+)", r"\1***", uri)
    try:
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")
    except ValueError:
        # Brackets that do not pair, for instance: not parsable, so nothing of it is safe to show.
        return uri.partition("://")[0] + "://***"
    netloc = f"***@{host[2]}" if host[1] else host[2]
    query = parts.query
    if any(_SECRET_KEY.search(key) for key, _ in parse_qsl(query, keep_blank_values=True)):
        query = "&".join(
            f"{quote(key)}={'***' if _SECRET_KEY.search(key) else quote(value)}"
            for key, value in parse_qsl(query, keep_blank_values=True)
        )
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))
