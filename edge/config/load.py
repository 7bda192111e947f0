"""From an edge.toml to a `Config`, or to one line for each thing that is wrong with it."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.config.checks import clashes, wrong_names
from edge.config.lines import Key, key_lines
from edge.config.problems import Problem, explain, sentences
from edge.config.schema import Config
from edge.errors import InputError

_MAX_BYTES = 1 << 20
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}|$)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""What neither a path nor a URL can hold. Lines of a pipeline may end."""

_DEEPEST = 12
"""Whatever stands deeper than this is of the wrong type anyway; the look at it ends here."""

_DOTTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){40}""")
"""A key of so many names takes Python's reader minutes."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that is valid.

    Attributes:
        path: Its file.
        config: What it says, with variables filled in and paths made absolute.
    """

    path: Path
    config: Config


def load_config(path: str | Path) -> LoadedConfig:
    """Read a configuration.

    Relative paths in it start from its folder, `~` is the user's home, and `${NAME}` is the environment variable NAME
    or, where that is not set, systemd's credential of that name.

    Args:
        path: A TOML file.

    Raises:
        InputError: It cannot be read, or something is wrong with it: file, line, key, what is wrong and what to do.
            The first problem is told, and how many there are.
    """
    loaded, problems = _read(Path(path))
    if loaded is None:
        more = f" (and {len(problems) - 1} more: edge run {path} --check)" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
    return loaded


def check_config(path: str | Path) -> list[str]:
    """Return one line for each thing that is wrong with a configuration; none when it is valid."""
    return _read(Path(path))[1]


def _read(path: Path) -> tuple[LoadedConfig | None, list[str]]:
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        return None, [f"{path}: is a folder; expected a configuration file, such as {path / 'edge.toml'}"]
    except OSError as error:
        return None, [f"{path}: cannot be read ({error.strerror}); write one with: edge config init {path}"]
    if len(content) > _MAX_BYTES:
        return None, [f"{path}: expected a configuration, found a file of {len(content) >> 20} MB"]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, [f"{path}:{line}: expected text in UTF-8, found the byte 0x{content[error.start]:02x}"]
    if deep := _DOTTED.search(text):
        line = text.count("\n", 0, deep.start()) + 1
        return None, [f"{path}:{line}: expected a key of a few names, found dozens with dots between them"]
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        return None, [_syntax(path, text, str(error))]
    problems: list[Problem] = []
    filled = _fill(data, (), problems)
    unusable = {problem.key for problem in problems}
    found = list(wrong_names(filled, data))
    config = None
    try:
        config = _absolute(Config.model_validate(filled), path.absolute().parent)
        found += clashes(config)
    except ValidationError as error:
        found += explain(error, filled, data)
    problems = list(dict.fromkeys([*problems, *(problem for problem in found if problem.key not in unusable)]))
    if problems or config is None:
        return None, sentences(str(path), problems, key_lines(text))
    return LoadedConfig(path, config), []


def _syntax(path: Path, text: str, said: str) -> str:
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", said)
    what = said[: place.start()] if place else said
    line = int(place[1]) if place and place[1] else text.count("\n") + 1
    return f"{path}:{line}: not valid TOML ({' '.join(what.split())})"


def _fill(value: Any, key: Key, problems: list[Problem]) -> Any:
    """Return a value with `${NAME}` in its texts replaced."""
    if len(key) > _DEEPEST:
        return ""
    if isinstance(value, dict):
        return {name: _fill(inner, (*key, name), problems) for name, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, (*key, i), problems) for i, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        if not match[2]:
            problems.append(Problem(key, "${ begins a variable, and no } ends it; write $${ for the two characters"))
            return ""
        found = _variable(match[1])
        if found is None:
            problems.append(Problem(key, f"the variable {match[1]} is not set in the environment, and no credential"))
            return ""
        return found

    filled = _VARIABLE.sub(replace, value)
    if _CONTROL.search(filled):
        problems.append(Problem(key, "holds a character that cannot be written"))
    return filled


def _variable(name: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return None
    if (value := os.environ.get(name)) is not None:
        return value
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder:
        try:
            return Path(folder, name).read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError):
            return None
    return None


def _absolute(config: Config, folder: Path) -> Config:
    """Return the configuration with paths that start from the file's folder."""
    from edge.bundled import BUNDLED

    def full(path: str) -> str:
        return str(folder / os.path.expanduser(path))

    models = {}
    for name, model in config.models.items():
        changes = {}
        if (
            model.path is not None
            and model.path not in BUNDLED
            and (os.sep in model.path or model.path.endswith(".tflite"))
        ):
            changes["path"] = full(model.path)
        if os.sep in model.delegate:
            changes["delegate"] = full(model.delegate)
        if model.labels is not None:
            changes["labels"] = full(model.labels)
        models[name] = model.model_copy(update=changes)
    cameras = {
        name: camera.model_copy(update={"source": full(camera.source)}) if _is_path(camera.source) else camera
        for name, camera in config.cameras.items()
    }
    sinks = {name: sink.model_copy(update={"path": full(sink.path)}) for name, sink in config.sinks.items()}
    return config.model_copy(update={"models": models, "cameras": cameras, "sinks": sinks})


def _is_path(source: str) -> bool:
    """Whether a source is a file, and not a URL or the number of a camera."""
    return "://" not in source and not source.isdecimal()
