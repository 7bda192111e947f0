"""The outputs of a camera, made from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from edge.config.diff import sinks_of
from edge.config.schema import (
    ClipsSinkConfig,
    Config,
    CsvSinkConfig,
    EventSinkConfig,
    JsonSinkConfig,
    MediaSinkConfig,
    RecordSinkConfig,
    SinkConfig,
    SnapshotsSinkConfig,
)
from edge.errors import InputError
from edge.runner.sinks import GuardedSink
from edge.sinks.base import Overlay, Sink
from edge.sinks.recording import ClipSink, Events, Folder, RowsSink, SegmentSink, SnapshotSink, View
from edge.sinks.text import csv_header, csv_rows, json_line
from edge.spec.labels import pick_classes


def make_sinks(camera: str, config: Config, labels: Sequence[str]) -> list[GuardedSink]:
    """Return the outputs of a camera; none of them is opened yet.

    Args:
        camera: Its name.
        config: The configuration.
        labels: Class names by class index, of its model.

    Raises:
        InputError: An output waits for a class that the model does not have.
    """
    # Shared: each result is drawn once.
    overlay = Overlay(labels)
    sinks = []
    for name in sinks_of(config, camera):
        section = config.sinks[name]
        try:
            make = _maker(section, camera, labels, overlay)
        except InputError as error:
            raise InputError(f"sinks.{name}: {error}") from error
        sinks.append(GuardedSink(camera, name, section.kind, make))
    return sinks


def _maker(config: SinkConfig, camera: str, labels: Sequence[str], overlay: Overlay) -> Callable[[], Sink]:
    if isinstance(config, JsonSinkConfig | CsvSinkConfig):
        path = Path(config.path.replace("{camera}", camera))
        limits = (config.max_mb, config.keep, config.flush_s, config.daily)
        if isinstance(config, JsonSinkConfig):
            return partial(RowsSink, path, partial(json_line, labels=labels, camera=camera), "", *limits)
        return partial(
            RowsSink, path, partial(csv_rows, labels=labels, camera=camera), csv_header(camera=True), *limits
        )
    view = View(overlay if config.overlay else None, config.max_width)
    folder = partial(_folder, config, camera)
    if isinstance(config, RecordSinkConfig):
        suffix = f".{config.container}"
        return lambda: SegmentSink(folder(), view, config.segment_s, config.fps, suffix)
    events = _events(config, labels)
    if isinstance(config, ClipsSinkConfig):
        seconds = (config.pre_s, config.post_s, config.max_s)
        return lambda: ClipSink(folder(), view, events, camera, *seconds, f".{config.container}", config.tmpfs)
    assert isinstance(config, SnapshotsSinkConfig)
    return lambda: SnapshotSink(folder(), view, events, config.gap_s, config.every_s, config.crop, config.quality)


def _folder(config: MediaSinkConfig, camera: str) -> Folder:
    root = Path(config.path.replace("{camera}", camera))
    return Folder(root, camera, config.max_days, config.max_gb, config.min_free_gb)


def _events(config: EventSinkConfig, labels: Sequence[str]) -> Events:
    return Events(labels, pick_classes(config.classes or [], labels, "classes"), config.min_score)
