"""JSON lines, CSV, and plain text."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from edge.result import Result
from edge.sinks.base import make_parent, output_error, pwrite_all


class TextFile:
    """A text file that always ends with a whole record, also when the disk fills in the middle of one."""

    def __init__(self, path: str, ending: str = "") -> None:
        """Create the file, and the folder it goes to.

        Args:
            path: Its name; "-" for standard output.
            ending: Text that closes the file. On disk it is there after every record, and the next record
                replaces it, so that the file is valid even if the process is killed.

        Raises:
            OutputError: It cannot be created.
        """
        self.path = path
        self._ending = ending.encode()
        self._good = 0
        self._file: IO[bytes] | None = None
        if path == "-":
            # Unbuffered: what could not be written must not be tried again at exit.
            self._file = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
            self._regular = False
            return
        make_parent(Path(path))
        try:
            self._file = open(path, "wb", buffering=0)
        except OSError as error:
            raise output_error(path, error) from error
        # A pipe or terminal takes text in one direction only.
        self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    @property
    def outputs(self) -> list[Path]:
        """The file, unless it is standard output."""
        return [] if self.path == "-" else [Path(self.path)]

    def append(self, text: str) -> None:
        """Write one record.

        Raises:
            OutputError: It cannot be written; the records before it are kept.
            BrokenPipeError: The reader of a pipe went away.
        """
        if self._file is None:
            return
        # A file name that is no UTF-8 holds lone surrogates; their escapes are valid in JSON.
        data = text.encode(errors="backslashreplace")
        try:
            if self._regular:
                pwrite_all(self._file.fileno(), data + self._ending, self._good)
            else:
                self._write_on(data)
        except BrokenPipeError:
            self._let_go()
            raise
        except OSError as error:
            self._take_back()
            raise output_error("standard output" if self.path == "-" else self.path, error) from error
        self._good += len(data)

    def _write_on(self, data: bytes) -> None:
        assert self._file is not None
        while data:
            written = self._file.write(data)
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "the reader is too slow for a non-blocking pipe")
            data = data[written:]

    def _take_back(self) -> None:
        """Remove what was written of a record, and write no more."""
        file, self._file = self._file, None
        if file is None or not self._regular:
            return
        with suppress(OSError), file:
            os.truncate(file.fileno(), self._good)
            os.pwrite(file.fileno(), self._ending, self._good)

    def close(self) -> None:
        """Close the file; where it could not be there before, write the ending.

        Raises:
            OutputError: It cannot be written.
            BrokenPipeError: The reader of a pipe went away.
        """
        if self._file is None:
            return
        if not self._regular and self._ending:
            self.append(self._ending.decode())
        self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None and self.path != "-":
            file.close()


class TextSinkBase:
    """What the sinks of one text file share."""

    def __init__(self, path: str, labels: Sequence[str], ending: str = "") -> None:
        """Create the file.

        Args:
            path: Its name; "-" for standard output.
            labels: Class names by class index.
            ending: What the file must end with to be valid; it is there after every record.

        Raises:
            OutputError: It cannot be created.
        """
        self._file = TextFile(path, ending=ending)
        self._labels = labels
        self.outputs = self._file.outputs

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonLinesSink(TextSinkBase):
    """One JSON object a line per frame, on disk when `write` returns."""

    def write(self, result: Result) -> None:
        """Write one line."""
        self._file.append(json_line(result, self._labels))


CSV_COLUMNS = ("source", "frame", "timestamp_s", "class", "name", "confidence", "x1", "y1", "x2", "y2")


class CsvSink(TextSinkBase):
    """One row per detection, or per class of a classified picture, below a header row."""

    def __init__(self, path: str, labels: Sequence[str]) -> None:
        """Create the file, see `TextSinkBase`, and write the header."""
        super().__init__(path, labels)
        self._file.append(csv_header())

    def write(self, result: Result) -> None:
        """Write the rows of one frame; none where nothing was found."""
        if rows := csv_rows(result, self._labels):
            self._file.append(rows)


def csv_header(camera: bool = False) -> str:
    """Return the first line of a CSV file; `camera`: with columns for a camera's name and the time of day in front."""
    return _csv([(*(("camera", "time") if camera else ()), *CSV_COLUMNS)])


def csv_rows(result: Result, labels: Sequence[str], camera: str | None = None) -> str:
    """Return the rows of a result; an empty text where nothing was found.

    Args:
        result: It.
        labels: Class names by class index.
        camera: The camera's name, where it has one besides its source.
    """
    frame = result.frame
    named = () if camera is None else (camera, round(frame.wall_s, 3))
    place = (*named, frame.source, frame.index, round(frame.timestamp_s, 3))
    rows: list[tuple[object, ...]] = [
        (*place, class_id, _name(labels, class_id), round(score, 5), *_rounded(xyxy))
        for xyxy, score, class_id, _ in result.detections
    ]
    if result.classification is not None:
        found = zip(result.classification.class_id, result.classification.score, strict=True)
        box = result.classification.box_xyxy
        corners = ("",) * 4 if box is None else _rounded(box)
        rows += [(*place, class_id, _name(labels, class_id), round(score, 5), *corners) for class_id, score in found]
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class TextSink(TextSinkBase):
    """One line of text per classified frame: where it is from, its best classes, and the box of a localiser."""

    def write(self, result: Result) -> None:
        """Write one line."""
        if result.classification is None:
            return
        frame = result.frame
        place = frame.source if frame.still else f"{frame.source} {frame.index}"
        found = zip(result.classification.class_id, result.classification.score, strict=True)
        names = "; ".join(f"{_name(self._labels, class_id)} {score:.3f}" for class_id, score in found)
        box = result.classification.box_xyxy
        where = "" if box is None else "; box " + " ".join(f"{v:.0f}" for v in box)
        self._file.append(f"{place}: {names}{where}\n")


def json_line(result: Result, labels: Sequence[str], camera: str | None = None) -> str:
    """Return a result as one line of JSON; see `as_json`."""
    return json.dumps(as_json(result, labels, camera), ensure_ascii=False) + "\n"


def as_json(result: Result, labels: Sequence[str], camera: str | None = None) -> dict[str, Any]:
    """Return a result as JSON data: pixels of the source frame, milliseconds, seconds, 5 decimals.

    Args:
        result: It.
        labels: Class names by class index.
        camera: The camera's name, where it has one besides its source.
    """
    frame = result.frame
    row: dict[str, Any] = {"camera": camera} if camera is not None else {}
    row |= {
        "source": frame.source,
        "frame": frame.index,
        "timestamp_s": round(frame.timestamp_s, 3),
        "width": frame.size_wh[0],
        "height": frame.size_wh[1],
    }
    if frame.live:
        row |= {"time": round(frame.wall_s, 3), "dropped": result.dropped}
    if result.fallback:
        row["fallback"] = True
    if result.classification is not None:
        found = zip(result.classification.class_id, result.classification.score, strict=True)
        row["classes"] = [{"name": _name(labels, c), "class": c, "confidence": round(score, 5)} for c, score in found]
        if result.classification.box_xyxy is not None:
            row["box"] = _box(result.classification.box_xyxy)
    else:
        row["detections"] = [_detection(labels, *d) for d in result.detections]
    row["stage_ms"] = {stage: round(ms, 3) for stage, ms in result.stage_ms.items()}
    return row


def _name(labels: Sequence[str], class_id: int) -> str:
    return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)


def _rounded(xyxy: Any) -> tuple[float, ...]:
    return tuple(round(float(v), 5) for v in xyxy)


def _box(xyxy: Any) -> dict[str, float]:
    return dict(zip(("x1", "y1", "x2", "y2"), _rounded(xyxy), strict=True))


def _detection(labels: Sequence[str], xyxy: Any, score: float, class_id: int, track_id: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": _name(labels, class_id),
        "class": class_id,
        "confidence": round(score, 5),
        "box": _box(xyxy),
    }
    return row if track_id is None else row | {"track_id": track_id}
