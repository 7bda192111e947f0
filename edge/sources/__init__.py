"""Where frames come from. `SOURCES` names the kinds; `open_source` picks one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge.errors import SourceError
from edge.sources.base import Source, without_credentials
from edge.sources.images import ImageSource, folder_source, glob_source, is_video
from edge.sources.live import CameraSource, StreamSource, is_camera
from edge.sources.video import VideoSource

__all__ = ["SOURCES", "Source", "SourceKind", "open_source", "without_credentials"]


class SourceKind(NamedTuple):
    """A row of `SOURCES`.

    Attributes:
        accepts: Whether a URI is of this kind.
        open: Makes the source; raises SourceError.
        summary: One line for help texts.
    """

    accepts: Callable[[str], bool]
    open: Callable[[str], Source]
    summary: str


SOURCES: dict[str, SourceKind] = {
    "stream": SourceKind(lambda uri: "://" in uri, StreamSource, "http://, https://, rtsp:// ... URL"),
    "camera": SourceKind(is_camera, CameraSource, "0, 1, ... or /dev/videoN"),
    "folder": SourceKind(os.path.isdir, folder_source, "folder of pictures and videos"),
    "video": SourceKind(lambda uri: os.path.isfile(uri) and is_video(Path(uri)), VideoSource, "video file"),
    "image": SourceKind(os.path.isfile, ImageSource, "picture file"),
    "glob": SourceKind(
        lambda uri: any(c in uri for c in "*?["), glob_source, "pattern in quotes, '**' for any depth of folders"
    ),
}
"""Kind -> how to recognise and open it; the first that accepts a URI takes it."""


def open_source(uri: str) -> Source:
    """Open a source and read its first frame.

    Args:
        uri: A picture, folder, pattern, video, camera or URL as in `SOURCES`.

    Raises:
        SourceError: Nothing can be read from it.
    """
    if not uri:
        raise SourceError("the source is empty; expected a file, a folder, a camera number or a URL")
    path = uri.removeprefix("file://")
    if path.startswith("~"):
        path = os.path.expanduser(path)
    for kind in SOURCES.values():
        if kind.accepts(path):
            return kind.open(path)
    raise SourceError(f"{path}: no such file or folder; expected one, or a camera number, a pattern or a URL")
