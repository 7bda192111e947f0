"""Annotated pictures, and the folder that takes pictures and videos of several sources."""

from __future__ import annotations

import re
from pathlib import Path

import cv2

from edge.errors import OutputError
from edge.frame import Frame, Image
from edge.result import Result
from edge.sinks.base import Overlay, make_parent, write_atomically
from edge.sinks.video import VideoSink

PICTURE_FORMATS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
"""Suffixes that annotated pictures can have."""

_JPEG_QUALITY = 95


def write_picture(path: Path, image: Image) -> None:
    """Write uint8 (H, W, 3) BGR as a whole picture file, or leave what was there.

    Raises:
        OutputError: It cannot be written, or this OpenCV cannot encode what the suffix names.
    """
    ok, data = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not ok:
        raise OutputError(f"{path}: this OpenCV cannot encode {path.suffix}; use .jpg or .png")
    make_parent(path)
    write_atomically(path, data.tobytes())


class PictureSink:
    """One picture file."""

    def __init__(self, path: Path, overlay: Overlay) -> None:
        """Prepare; the file is made by the picture.

        Args:
            path: Its name, with a suffix of `PICTURE_FORMATS`.
            overlay: Draws the results.
        """
        self._path = path
        self._overlay = overlay
        self.outputs: list[Path] = []

    def write(self, result: Result) -> None:
        """Draw and write a picture; a later one replaces it.

        Raises:
            OutputError: It cannot be written.
        """
        write_picture(self._path, self._overlay.draw(result))
        self.outputs = [self._path]

    def close(self) -> None:
        """Do nothing: the file is whole."""


class FolderSink:
    """A folder: each picture becomes a picture of its name, each video or live source a video."""

    def __init__(self, folder: Path, overlay: Overlay) -> None:
        """Create the folder.

        Args:
            folder: Where to write.
            overlay: Draws the results.

        Raises:
            OutputError: It cannot be created.
        """
        make_parent(folder / "any")
        self._folder = folder
        self._overlay = overlay
        self._names: dict[str, str] = {}
        self._videos: dict[str, VideoSink] = {}
        self.outputs: list[Path] = []

    def write(self, result: Result) -> None:
        """Draw one frame into the file of its source.

        Raises:
            OutputError: It cannot be written.
        """
        frame = result.frame
        if frame.still:
            picture = PictureSink(self._path(frame), self._overlay)
            picture.write(result)
            self.outputs += picture.outputs
            return
        video = self._videos.get(frame.source)
        if video is not None:
            video.write(result)
            return
        if not frame.live:
            # Files come one after another: the one before is complete.
            self.close()
        video = self._videos[frame.source] = VideoSink(self._path(frame), self._overlay)
        video.write(result)
        self.outputs += video.outputs

    def _path(self, frame: Frame) -> Path:
        """Return the file for a source; two of the same name from different folders get different ones."""
        name = Path(frame.source).name if not frame.live else re.sub(r"[^\w.-]+", "_", frame.source).strip("_")
        suffix = Path(name).suffix.lower()
        if frame.still:
            name = name if suffix in PICTURE_FORMATS else f"{name}.jpg"
        else:
            name = f"{Path(name).stem if not frame.live else name}.mp4"
        stem, suffix = Path(name).stem, Path(name).suffix
        number = 1
        while self._names.setdefault(name.casefold(), frame.source) != frame.source:
            number += 1
            name = f"{stem}_{number}{suffix}"
        return self._folder / name

    def close(self) -> None:
        """Finish the videos.

        Raises:
            OutputError: The disk is full.
        """
        while self._videos:
            self._videos.popitem()[1].close()
