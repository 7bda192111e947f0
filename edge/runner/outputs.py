"""The outputs of a camera, made from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edge.config.diff import sinks_of
from edge.config.schema import Config, SinkConfig
from edge.runner.sinks import GuardedSink
from edge.sinks.base import Sink
from edge.sinks.text import JsonLinesSink


def make_sinks(camera: str, config: Config, labels: Sequence[str]) -> list[GuardedSink]:
    """Return the outputs of a camera; none of them is opened yet.

    Args:
        camera: Its name.
        config: The configuration.
        labels: Class names by class index, of its model.
    """
    return [
        GuardedSink(camera, name, config.sinks[name].kind, _maker(config.sinks[name], camera, labels))
        for name in sinks_of(config, camera)
    ]


def _maker(config: SinkConfig, camera: str, labels: Sequence[str]) -> Callable[[], Sink]:
    path = Path(config.path.replace("{camera}", camera))
    return lambda: JsonLinesSink(str(path), labels)
