"""Where results go. `SINKS` names the kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.sinks.base import Overlay, Sink
from edge.sinks.coco import CocoSink
from edge.sinks.images import FolderSink, PictureSink
from edge.sinks.sheet import SheetSink
from edge.sinks.text import CsvSink, JsonLinesSink, TextSink
from edge.sinks.video import VideoSink
from edge.sinks.window import WindowSink

__all__ = ["SINKS", "Overlay", "Sink", "SinkContext"]


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink may need of the run.

    Attributes:
        labels: Class names by class index.
        overlay: Draws results; shared, so that each is drawn once.
        stop: Ends the run.
        stopped: Whether the run was told to end.
    """

    labels: Sequence[str]
    overlay: Overlay
    stop: Callable[[], None]
    stopped: Callable[[], bool]


SINKS: dict[str, Callable[[str, SinkContext], Sink]] = {
    "video": lambda target, context: VideoSink(Path(target), context.overlay),
    "picture": lambda target, context: PictureSink(Path(target), context.overlay),
    "folder": lambda target, context: FolderSink(Path(target), context.overlay),
    "sheet": lambda target, context: SheetSink(Path(target), context.labels),
    "lines": lambda target, context: JsonLinesSink(target, context.labels),
    "coco": lambda target, context: CocoSink(target, context.labels),
    "text": lambda target, context: TextSink(target, context.labels),
    "csv": lambda target, context: CsvSink(target, context.labels),
    "window": lambda target, context: WindowSink(context.overlay, context.stop, context.stopped),
}
"""Kind -> makes the sink for a target: a path, or "-" for standard output where the kind writes text.

Each raises OutputError where the target cannot be written.
"""
