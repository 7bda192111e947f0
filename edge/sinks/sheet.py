"""A contact sheet: a dozen annotated frames, evenly spaced over the run, in one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edge.draw import Color, Painter, ascii_text, class_color
from edge.frame import Frame, Image
from edge.result import Result
from edge.sinks.base import Overlay, make_parent
from edge.sinks.images import write_picture

FRAMES = 12
KEPT = 8 * FRAMES
"""Most frames in memory, about 25 MB: a run's length is unknown until its end, and this many make even choices."""

_WIDTH = 1600
_GAP = 8
_CAPTION = 22
_COLUMNS = 4, 6
"""For pictures that are wider than high, and for others."""

_SQUEEZE = 2.5
"""Cells are at most this many times longer than wide, or wider than long; longer pictures are put into such a cell."""

_BACKGROUND: Color = (24, 24, 24)
_INK: Color = (205, 205, 205)


class _Tile(NamedTuple):
    """An annotated frame in the size of the sheet, and where it is from."""

    image: Image
    frame: Frame


class _Sample:
    """Frames 0, s, 2s ... of a series; whenever there are too many, every other is dropped and s doubles."""

    def __init__(self) -> None:
        self.tiles: list[_Tile] = []
        self.stride = 1
        self._seen = 0

    def offer(self, tile: Callable[[], _Tile], most: int) -> None:
        """Count a frame, and make its tile if it is one of the evenly spaced."""
        if self._seen % self.stride == 0:
            self.tiles.append(tile())
            while len(self.tiles) > most:
                self.tiles = self.tiles[::2]
                self.stride *= 2
        self._seen += 1

    def evenly(self, number: int) -> list[_Tile]:
        """Return so many of the tiles, or all where there are fewer."""
        chosen = np.linspace(0, len(self.tiles) - 1, min(number, len(self.tiles))).round().astype(int)
        return [self.tiles[i] for i in chosen]


class SheetSink:
    """One picture with a dozen frames of the run, each with its time, or its name where it is a picture file.

    Memory is bounded, and only a few frames are drawn at all. Boxes and letters are drawn after scaling, to stay
    readable. Cameras that run side by side get an equal share, one behind the other: as one series their frames may
    alternate in step with the stride, and all but one camera would be missing.
    """

    def __init__(self, path: Path, labels: Sequence[str], color: Callable[[int], Color] = class_color) -> None:
        """Prepare; the file is made when the run ends.

        Args:
            path: Its name, with a suffix of `PICTURE_FORMATS`.
            labels: Class names by class index.
            color: Returns the colour of a class index.

        Raises:
            OutputError: Its folder cannot be created.
        """
        make_parent(path)
        self._path = path
        self._overlay = Overlay(labels, color)
        self._painter = Painter()
        self._samples: dict[str, _Sample] = {}
        self._cell_wh = (0, 0)
        self._columns = 0
        self.outputs: list[Path] = []

    def write(self, result: Result) -> None:
        """Keep a small annotated copy of the frame if it is one of the evenly spaced."""
        if not self._samples:
            self._lay_out(*result.frame.size_wh)
        sample = self._samples.setdefault(result.frame.source if result.frame.live else "", _Sample())
        sample.offer(lambda: self._tile(result), max(1, KEPT // len(self._samples)))

    def close(self) -> None:
        """Write the picture; without a frame there is none.

        Raises:
            OutputError: It cannot be written; what was there before is kept.
        """
        samples, self._samples = self._samples, {}
        if not samples:
            return
        share = max(1, FRAMES // len(samples))
        write_picture(self._path, self._sheet([tile for sample in samples.values() for tile in sample.evenly(share)]))
        self.outputs = [self._path]

    def _lay_out(self, width: int, height: int) -> None:
        """Choose cells that suit the first frame."""
        aspect = min(max(width / height, 1 / _SQUEEZE), _SQUEEZE)
        self._columns = _COLUMNS[0] if aspect > 1 else _COLUMNS[1]
        cell = (_WIDTH - _GAP) // self._columns - _GAP
        self._cell_wh = cell, round(cell / aspect)

    def _tile(self, result: Result) -> _Tile:
        """Scale a result to fit a cell, and draw it."""
        width, height = result.frame.size_wh
        scale = min(self._cell_wh[0] / width, self._cell_wh[1] / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(result.frame.image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        factors = np.array([size[0] / width, size[1] / height] * 2, np.float32)
        classification = result.classification
        if classification is not None and classification.box_xyxy is not None:
            x1, y1, x2, y2 = (np.array(classification.box_xyxy) * factors).tolist()
            classification = replace(classification, box_xyxy=(x1, y1, x2, y2))
        scaled = replace(
            result,
            frame=replace(result.frame, image=small),
            detections=replace(result.detections, xyxy=result.detections.xyxy * factors),
            classification=classification,
            stage_ms={},
        )
        nothing = np.empty((0, 0, 3), np.uint8)
        return _Tile(self._overlay.draw(scaled).copy(), replace(result.frame, image=nothing))

    def _sheet(self, tiles: Sequence[_Tile]) -> Image:
        """Put tiles into rows, captions below them."""
        columns, (cell_w, cell_h) = min(self._columns, len(tiles)), self._cell_wh
        rows = ceil(len(tiles) / columns)
        size = rows * (cell_h + _CAPTION) + _GAP, columns * (cell_w + _GAP) + _GAP
        sheet = np.full((*size, 3), _BACKGROUND, np.uint8)
        several = len({tile.frame.source for tile in tiles}) > 1
        for number, (image, frame) in enumerate(tiles):
            row, column = divmod(number, columns)
            left, top = _GAP + column * (cell_w + _GAP), _GAP + row * (cell_h + _CAPTION)
            height, width = image.shape[:2]
            x, y = left + (cell_w - width) // 2, top + (cell_h - height) // 2
            sheet[y : y + height, x : x + width] = image
            below = sheet[top + cell_h : top + cell_h + _CAPTION, left : left + cell_w]
            self._painter.draw_line(below, _caption(frame, several), _INK)
        return sheet


def _caption(frame: Frame, several: bool) -> str:
    """Say when a frame was, and in what where there are several sources; of a picture, its name."""
    name = ascii_text(frame.source if frame.live else Path(frame.source).name, f"frame {frame.index}")
    if frame.still:
        return name
    return f"{name} {clock(frame.timestamp_s)}" if several else clock(frame.timestamp_s)


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, with hours where there are any: 0:07.3, 1:02:07.3."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{front}:{rest // 10:02}.{rest % 10}"
