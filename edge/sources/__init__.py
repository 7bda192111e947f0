"""Where frames come from. `SOURCES` names the kinds; `open_source` picks one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge.errors import SourceError
from edge.sources.base import Source
from edge.sources.csi import csi_number, csi_source
from edge.sources.gstreamer import GStreamerSource
from edge.sources.images import ImageSource, folder_source, glob_source, is_video
from edge.sources.lists import expand_sources, is_list
from edge.sources.live import StreamSource
from edge.sources.options import DEFAULTS, SourceOptions
from edge.sources.urls import check_url, without_credentials
from edge.sources.usb import CameraSource, is_camera
from edge.sources.video import VideoSource

__all__ = [
    "SOURCES",
    "Source",
    "SourceKind",
    "SourceOptions",
    "check_source",
    "expand_sources",
    "is_live",
    "open_source",
    "without_credentials",
]


class SourceKind(NamedTuple):
    """A row of `SOURCES`.

    Attributes:
        accepts: Whether a URI is of this kind.
        open: Makes the source; raises SourceError.
        summary: One line for help texts.
        live: Whether it goes on without us, as far as the name tells.
    """

    accepts: Callable[[str], bool]
    open: Callable[[str, SourceOptions], Source]
    summary: str
    live: bool = False


SOURCES: dict[str, SourceKind] = {
    "csi": SourceKind(lambda uri: uri.startswith("csi://"), csi_source, "csi://0, a board's camera connector", True),
    "gst": SourceKind(
        lambda uri: uri.startswith("gst://"), GStreamerSource, "gst:// and a pipeline, with a GStreamer OpenCV", True
    ),
    "stream": SourceKind(lambda uri: "://" in uri, StreamSource, "http://, https://, rtsp:// ... URL", True),
    "camera": SourceKind(is_camera, CameraSource, "0, 1, ..., /dev/videoN or /dev/v4l/by-id/...", True),
    "folder": SourceKind(os.path.isdir, folder_source, "folder of pictures and videos"),
    "video": SourceKind(lambda uri: os.path.isfile(uri) and is_video(Path(uri)), VideoSource, "video file"),
    "image": SourceKind(os.path.isfile, ImageSource, "picture file"),
    "glob": SourceKind(
        lambda uri: any(c in uri for c in "*?["), glob_source, "pattern in quotes, '**' for any depth of folders"
    ),
}
"""Kind -> how to recognise and open it; the first that accepts a URI takes it."""


def open_source(uri: str, options: SourceOptions = DEFAULTS) -> Source:
    """Open a source and read its first frame.

    Args:
        uri: A picture, folder, pattern, video, camera or URL as in `SOURCES`.
        options: How to read it.

    Raises:
        SourceError: Nothing can be read from it.
    """
    if not uri:
        raise SourceError("the source is empty; expected a file, a folder, a camera number or a URL")
    path = _plain(uri)
    if is_list(path):
        raise SourceError(f"{path}: a list of sources; expected one of those that it names")
    for kind in SOURCES.values():
        if kind.accepts(path):
            return kind.open(path, options)
    raise SourceError(f"{path}: no such file or folder; expected one, or a camera number, a pattern or a URL")


def check_source(uri: str) -> None:
    """Say what is wrong with the name of a source, as far as that can be told without opening it.

    Raises:
        SourceError: No source has such a name.
    """
    path = _plain(uri)
    if is_list(path):
        raise SourceError(f"{path}: a list of sources; expected one of those that it names")
    if path.startswith("csi://"):
        csi_number(path)
    elif "://" in path and not path.startswith("gst://"):
        check_url(path)


def is_live(uri: str) -> bool:
    """Whether a source goes on without us, as far as its name tells: a video file behind http counts as live."""
    path = _plain(uri)
    return next((kind.live for kind in SOURCES.values() if kind.accepts(path)), False)


def _plain(uri: str) -> str:
    path = uri.removeprefix("file://")
    return os.path.expanduser(path) if path.startswith("~") else path
