"""Pictures: one file, a folder, or what a glob matches."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from glob import glob
from pathlib import Path

import cv2
import numpy as np

from edge.errors import SourceError
from edge.frame import Frame, Image
from edge.sources.adjust import Thinning, thinned_count, turned
from edge.sources.base import SourceBase, natural_key, still_frame
from edge.sources.options import DEFAULTS, Reduce, SourceOptions
from edge.sources.reduce import FLAGS, shrunk
from edge.sources.video import VIDEO_SUFFIXES, VideoSource, looks_like_video

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    ".bmp .dib .jpg .jpeg .jpe .jp2 .png .webp .avif .pbm .pgm .ppm .pnm .tif .tiff .hdr .exr .sr .ras".split()
)

_JPEG = b"\xff\xd8\xff"
_NETPBM = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")


def read_image(path: str | Path, reduce: Reduce = 1) -> Image:
    """Read a picture as uint8 BGR, turned upright as its EXIF orientation says.

    Grey becomes BGR, 16-bit becomes 8-bit, an alpha channel is dropped.

    Args:
        path: The file.
        reduce: What width and height are divided by.

    Raises:
        SourceError: The file is missing, empty, cut short, or no picture that OpenCV reads.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_image(data, path, reduce)


def decode_image(data: bytes, path: str | Path, reduce: Reduce = 1) -> Image:
    """Decode the bytes of a picture; see `read_image`.

    Raises:
        SourceError: They are none, cut short, or no picture that OpenCV reads.
    """
    if not data:
        raise SourceError(f"{path}: expected a picture, found an empty file")
    if _jpeg_is_cut(data):
        # The decoder would fill the missing part with grey and say nothing.
        raise SourceError(f"{path}: this JPEG is cut short; copy it again")
    in_part = reduce if data[:3] == _JPEG else 1
    try:
        image: Image | None = cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS[in_part])
    except cv2.error as error:
        # OpenCV raises for a header that claims more pixels than it allows.
        raise SourceError(f"{path}: OpenCV refuses this picture ({error.err})") from error
    if image is None:
        what = "cut short or damaged" if looks_like_image(data) else "neither a picture nor a video that OpenCV reads"
        raise SourceError(f"{path}: {what} ({len(data)} bytes)")
    return image if in_part == reduce else shrunk(image, reduce)


def _jpeg_is_cut(data: bytes) -> bool:
    # Inside compressed data 0xFF is escaped, so the last start-of-scan marker is a real one; a whole file has an
    # end-of-image marker behind it. (Earlier ones can belong to an embedded thumbnail.)
    return data[:3] == _JPEG and data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) < 0


def looks_like_image(head: bytes) -> bool:
    """Whether a file that starts with `head` is in a common picture format."""
    return head.startswith((_JPEG, b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", *_NETPBM)) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


class ImageSource(SourceBase):
    """One picture."""

    frame_count: int | None = 1

    def __init__(self, path: str, options: SourceOptions = DEFAULTS) -> None:
        """Read the picture.

        Args:
            path: The file.
            options: How small it is read, and whether it is turned.

        Raises:
            SourceError: As `read_image`.
        """
        self.name = path
        self.paths = (Path(path),)
        self._frame = still_frame(turned(read_image(path, options.reduce), options), 0, path)
        self.size_wh = self._frame.size_wh

    def __iter__(self) -> Iterator[Frame]:
        """Yield the picture."""
        yield self._frame


class FilesSource(SourceBase):
    """Pictures and videos one after another. A file that cannot be read is reported, counted and left out."""

    def __init__(self, name: str, paths: Sequence[Path], options: SourceOptions = DEFAULTS) -> None:
        """Read up to the first frame.

        Args:
            name: What the user named.
            paths: The files, in the order to read them.
            options: `every` counts the pictures; in a video it counts frames.

        Raises:
            SourceError: None of the files can be read.
        """
        self.name = name
        self.paths = paths
        if not any(is_video(path) for path in paths):
            self.frame_count = thinned_count(len(paths), None, options)
        self._options = options
        self._frames = self._read(paths)
        try:
            self._first = next(self._frames)
        except StopIteration:
            raise SourceError(f"{name}: none of its {len(paths)} files can be read") from None

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame of every file."""
        yield self._first
        yield from self._frames

    def close(self) -> None:
        """Close the file that is being read."""
        self._frames.close()

    def _read(self, paths: Sequence[Path]) -> Generator[Frame, None, None]:
        # Pictures have no time of their own that max_fps could go by.
        thinning = Thinning(SourceOptions(every=self._options.every))
        pictures = 0
        for index, path in enumerate(paths):
            if self._interrupted:
                return
            self.beat()
            try:
                if is_video(path):
                    with VideoSource(str(path), self._options) as video:
                        yield from self._film(video)
                    continue
                pictures += 1
                if thinning.keeps(pictures - 1, 0.0):
                    yield still_frame(turned(read_image(path, self._options.reduce), self._options), index, str(path))
                else:
                    self.skipped_frames += 1
            except SourceError as error:
                self.skipped += 1
                log.warning("%s; left out", error)

    def _film(self, video: VideoSource) -> Iterator[Frame]:
        before = self.skipped_frames
        for frame in video:
            self.skipped_frames = before + video.skipped_frames
            yield frame
            self.beat()
            if self._interrupted:
                return
        self.skipped_frames = before + video.skipped_frames


def folder_source(uri: str, options: SourceOptions = DEFAULTS) -> FilesSource:
    """Open the pictures and videos that lie in a folder, `frame2` before `frame10`.

    Raises:
        SourceError: It cannot be listed, or holds none.
    """
    try:
        files = [path for path in Path(uri).iterdir() if path.is_file() and not path.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{uri}: cannot be listed ({error.strerror})") from error
    media = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
    if not media:
        found = f"{len(files)} other files" if files else "no file"
        raise SourceError(
            f"{uri}: expected pictures or videos in this folder, found {found}; "
            f"for subfolders give a glob: '{Path(uri) / '**' / '*.jpg'}'"
        )
    return FilesSource(uri, sorted(media, key=lambda path: natural_key(path.name)), options)


def glob_source(uri: str, options: SourceOptions = DEFAULTS) -> FilesSource:
    """Open the files that a pattern matches.

    Raises:
        SourceError: It matches none.
    """
    files = [Path(match) for match in glob(uri, recursive=True) if Path(match).is_file()]
    if not files:
        raise SourceError(f"{uri}: no file matches this pattern")
    return FilesSource(uri, sorted(files, key=lambda path: natural_key(str(path))), options)


def is_video(path: Path) -> bool:
    """Whether a file should be read as a video: by its content, else by its name."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return False
    return suffix in VIDEO_SUFFIXES or looks_like_video(path)
