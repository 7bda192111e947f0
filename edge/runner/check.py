"""What a valid configuration cannot tell by itself: are its models, their classes and its files there?"""

from __future__ import annotations

import os
from collections.abc import Iterator

from edge.config.diff import model_of, running
from edge.config.lines import key_lines
from edge.config.load import LoadedConfig
from edge.config.problems import Problem, sentences
from edge.errors import EdgeError
from edge.runner.models import Model
from edge.runner.outputs import make_sinks
from edge.sources import is_live


def try_config(loaded: LoadedConfig) -> list[str]:
    """Load each model that a camera uses, and return one line for each thing that would keep the service from running.

    No camera is opened, and nothing is written.
    """
    return sentences(str(loaded.path), _problems(loaded), key_lines(loaded.path.read_text("utf-8-sig")))


def _problems(loaded: LoadedConfig) -> Iterator[Problem]:
    config = loaded.config
    models: dict[str, Model | None] = {}
    for camera, section in running(config).items():
        if not is_live(section.source) and not any(c in section.source for c in "*?[") and _is_missing(section.source):
            yield Problem(("cameras", camera, "source"), "there is no such file now")
        name = model_of(config, camera)
        if name not in models:
            one = config.models[name].model_copy(update={"interpreters": 1, "threads": 1})
            try:
                models[name] = Model(name, one, 1)
            except EdgeError as error:
                models[name] = None
                yield Problem(("models", name), str(error))
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
    return Problem(tuple(table.split(".")), says)


def _is_missing(source: str) -> bool:
    return not os.path.exists(source.removeprefix("file://"))
