"""What a valid configuration cannot tell by itself: are its models, their classes and its files there?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edge.config.diff import model_of, running, sinks_of
from edge.config.lines import key_lines
from edge.config.load import LoadedConfig
from edge.config.problems import Problem, sentences
from edge.config.schema import Config, FileSinkConfig
from edge.errors import EdgeError, ModelFileError
from edge.runner.models import Model
from edge.runner.outputs import make_sinks
from edge.sources import is_live, open_source
from edge.sources.usb import is_camera


def try_config(loaded: LoadedConfig) -> list[str]:
    """Load each model that a camera uses, and return one line for each thing that would keep the service from running.

    No camera is opened, and nothing is written.
    """
    return sentences(str(loaded.path), _problems(loaded), key_lines(loaded.path.read_text("utf-8-sig")))


def _problems(loaded: LoadedConfig) -> Iterator[Problem]:
    config = loaded.config
    models: dict[str, Model | None] = {}
    devices: dict[str, str] = {}
    yield from dict.fromkeys(_misplaced(config))
    for camera, section in running(config).items():
        if says := _unreadable(section.source):
            yield Problem(("cameras", camera, "source"), says)
        if (device := _device(section.source)) is not None and (other := devices.setdefault(device, camera)) != camera:
            yield Problem(("cameras", camera, "source"), f"cameras.{other} reads this device; it serves one at a time")
        name = model_of(config, camera)
        if name not in models:
            one = config.models[name].model_copy(update={"interpreters": 1, "threads": 1})
            try:
                models[name] = Model(name, one, 1)
            except EdgeError as error:
                models[name] = None
                # A file that is missing or broken is the business of its key.
                key = ("path",) if isinstance(error, ModelFileError) and config.models[name].path is not None else ()
                yield Problem(("models", name, *key), str(error))
        model = models[name]
        if model is None:
            continue
        try:
            model.looker(camera, section)
        except EdgeError as error:
            yield _named(error)
        try:
            make_sinks(camera, config, model.labels)
        except EdgeError as error:
            yield _named(error)


def _named(error: EdgeError) -> Problem:
    """Return an error that begins with the table that it is about."""
    table, _, says = str(error).partition(": ")
    key = ("classes",) if says.startswith("classes ") else ()
    return Problem((*table.split("."), *key), says)


def _unreadable(source: str) -> str | None:
    """Say why a file, folder or pattern gives nothing now; None where it does, and of what is live."""
    if is_live(source):
        return None
    path = source.removeprefix("file://")
    if not any(c in path for c in "*?[") and not os.path.exists(path):
        return "there is no such file now"
    try:
        open_source(source).close()
    except EdgeError as error:
        return str(error).removeprefix(f"{source}: ")
    return None


def _device(source: str) -> str | None:
    """Return the node of a camera at this machine; None of anything else."""
    return os.path.realpath(f"/dev/video{source}" if source.isdecimal() else source) if is_camera(source) else None


def _misplaced(config: Config) -> Iterator[Problem]:
    """Yield the outputs whose folder cannot be made, since something else is in its way."""
    for camera in running(config):
        for name in sinks_of(config, camera):
            folder = Path(config.sinks[name].path.replace("{camera}", camera))
            if isinstance(config.sinks[name], FileSinkConfig):
                folder = folder.parent
            while not os.path.lexists(folder):
                folder = folder.parent
            if not folder.is_dir():
                yield Problem(("sinks", name, "path"), f"{folder} is no folder")
