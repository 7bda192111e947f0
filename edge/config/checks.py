"""What no table of a configuration can know alone: names that lead nowhere, outputs that would share a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from edge.config.diff import running, sinks_of
from edge.config.lines import Key
from edge.config.problems import Problem, at, suggestion
from edge.config.schema import Config, FileSinkConfig
from edge.errors import SourceError
from edge.sources import check_source, without_credentials

_NUMBER = re.compile(r"\.([1-9]\d{0,4})$")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def wrong_names(data: dict[str, Any], written: dict[str, Any]) -> Iterator[Problem]:
    """Yield what is named and not there. The file may be wrong otherwise, too.

    Args:
        data: The whole file.
        written: The same before variables were filled in.
    """
    # Without a table there is the bundled model.
    models = _names(data, "models") if "models" in data else ["default"]
    sinks = _names(data, "sinks")
    cameras = _names(data, "cameras")
    if not cameras and isinstance(data.get("cameras", {}), dict):
        yield Problem((), "there is no camera; add one: [cameras.front] with a source")
    if not models and isinstance(data.get("models"), dict):
        yield Problem(("models",), "there is no model; remove the table for the bundled one")
    for camera in cameras:
        wanted: list[tuple[Key, str, list[str]]] = [(("cameras", camera, "model"), "model", models)]
        listed = at(data, ("cameras", camera, "sinks"))
        if isinstance(listed, list):
            wanted += [(("cameras", camera, "sinks", i), "sink", sinks) for i in range(len(listed))]
        for key, what, known in wanted:
            name, shown = at(data, key), at(written, key)
            if isinstance(name, str) and name not in known:
                yield Problem(key, f"there is no {what} {shown!r}; {suggestion(str(shown), known)}")
        source = at(data, ("cameras", camera, "source"))
        if isinstance(source, str):
            try:
                check_source(source)
            except SourceError as error:
                says = str(error).removeprefix(f"{without_credentials(source)}: ")
                if "${" in str(at(written, ("cameras", camera, "source"))):
                    says = "this is no URL that can be read"
                yield Problem(("cameras", camera, "source"), says)
    for name in sinks:
        key = ("sinks", name, "path")
        path, shown = at(data, key), at(written, key)
        if isinstance(path, str):
            for found in _PLACEHOLDER.findall(path):
                if found != "camera":
                    what = f"{{{found}}}" if f"{{{found}}}" in shown else "in braces"
                    yield Problem(key, f"unknown placeholder {what}; expected {{camera}}")
            if "{" in _PLACEHOLDER.sub("", path):
                yield Problem(key, "a brace is not closed; expected {camera}")


def clashes(config: Config) -> Iterator[Problem]:
    """Yield outputs that would write to the same place.

    Args:
        config: What the file says, its paths made absolute.
    """
    for name, sink in config.sinks.items():
        key = ("sinks", name, "path")
        if isinstance(sink, FileSinkConfig) and (sink.path.endswith("/") or os.path.isdir(sink.path)):
            yield Problem(key, "is a folder; expected a file")
    places: dict[str, tuple[str, str]] = {}
    told: set[str] = set()
    for camera in running(config):
        for name in sinks_of(config, camera):
            if name not in config.sinks:
                continue
            sink = config.sinks[name]
            place = os.path.normpath(sink.path.replace("{camera}", camera))
            if not isinstance(sink, FileSinkConfig):
                place = os.path.join(place, camera)
            other, its_camera = places.setdefault(place, (name, camera))
            if (other, its_camera) == (name, camera) or name in told:
                continue
            told.add(name)
            if other == name:
                says = f"cameras {its_camera} and {camera} would write one file; put {{camera}} into its name"
            else:
                says = f"sinks.{other} writes to the same place for camera {its_camera}; give another path"
            yield Problem(("sinks", name, "path"), says)
    for place, (name, _) in places.items():
        stem, suffix = os.path.splitext(place)
        older = _NUMBER.search(stem)
        writer = places.get(stem[: older.start()] + suffix) if older else None
        if (
            older
            and writer
            and isinstance(sink := config.sinks[writer[0]], FileSinkConfig)
            and int(older[1]) <= sink.keep
        ):
            yield Problem(("sinks", name, "path"), f"sinks.{writer[0]} calls its older files so; give another path")


def _names(data: dict[str, Any], table: str) -> list[str]:
    held = data.get(table)
    return list(held) if isinstance(held, dict) else []
