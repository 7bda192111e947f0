"""From an edge.toml to a `Config`, or to one line for each thing that is wrong with it."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from edge.config import schema
from edge.config.diff import sinks_of
from edge.config.lines import Key, key_lines, line_of
from edge.config.schema import NAME, Config, FileSinkConfig
from edge.errors import InputError

_MAX_BYTES = 1 << 20
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that is valid.

    Attributes:
        path: Its file.
        config: What it says, with variables filled in and paths made absolute.
    """

    path: Path
    config: Config


@dataclass(frozen=True, slots=True)
class _Problem:
    """Something wrong at a key."""

    key: Key
    says: str


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
    except OSError as error:
        return None, [f"{path}: cannot be read ({error.strerror}); write one with: edge config init {path}"]
    if len(content) > _MAX_BYTES:
        return None, [f"{path}: expected a configuration, found a file of {len(content) >> 20} MB"]
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, [f"{path}:{line}: expected text in UTF-8, found the byte 0x{content[error.start]:02x}"]
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        return None, [_syntax(path, text, str(error))]
    lines = key_lines(text)
    filled: list[_Problem] = []
    data = _fill(data, (), filled)
    config, problems = _validate(data)
    problems = filled + problems
    if config is not None:
        problems += _contradictions(config)
    if problems or config is None:
        return None, [_sentence(path, problem, lines) for problem in _in_order(problems, lines)]
    return LoadedConfig(path, _absolute(config, path.absolute().parent)), []


def _syntax(path: Path, text: str, said: str) -> str:
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", said)
    what = said[: place.start()] if place else said
    line = int(place[1]) if place and place[1] else text.count("\n") + 1
    return f"{path}:{line}: not valid TOML ({' '.join(what.split())})"


def _in_order(problems: list[_Problem], lines: dict[Key, int]) -> list[_Problem]:
    return sorted(problems, key=lambda problem: line_of(lines, problem.key) or 0)


def _sentence(path: Path, problem: _Problem, lines: dict[Key, int]) -> str:
    line = line_of(lines, problem.key)
    where = f"{path}:{line}" if line else str(path)
    name = ""
    for part in problem.key:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if NAME.fullmatch(part) else f".{part!r}"
    return f"{where}: {name.removeprefix('.')}: {problem.says}" if name else f"{where}: {problem.says}"


def _fill(value: Any, key: Key, problems: list[_Problem]) -> Any:
    """Return a value with `${NAME}` in its texts replaced."""
    if isinstance(value, dict):
        return {name: _fill(inner, (*key, name), problems) for name, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, (*key, i), problems) for i, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        found = _variable(match[1])
        if found is None:
            problems.append(_Problem(key, f"the variable {match[1]} is not set in the environment, and no credential"))
            return "x"
        return found

    return _VARIABLE.sub(replace, value)


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


def _validate(data: dict[str, Any]) -> tuple[Config | None, list[_Problem]]:
    try:
        return Config.model_validate(data), []
    except ValidationError as error:
        problems = [_explain(detail, data) for detail in error.errors(include_url=False, include_context=True)]
        return None, _merged(_without_echoes(problems))


def _without_echoes(problems: list[_Problem]) -> list[_Problem]:
    """Leave out a key that is missing where it is there and misspelt."""
    meant = {
        f"{problem.key[:-1]}: the key {problem.says.rpartition('did you mean ')[2].removesuffix('?')} is missing"
        for problem in problems
        if "did you mean" in problem.says
    }
    return [problem for problem in problems if f"{problem.key}: {problem.says}" not in meant]


def _merged(problems: list[_Problem]) -> list[_Problem]:
    """Return one problem for a key of which several things may be expected, such as a number or "auto"."""
    merged: dict[Key, _Problem] = {}
    for problem in problems:
        before = merged.get(problem.key)
        if before is None or not (before.says.startswith("expected ") and problem.says.startswith("expected ")):
            merged[problem.key] = problem if before is None else before
            continue
        first = before.says.rpartition(", found ")[0]
        what, _, found = problem.says.removeprefix("expected ").rpartition(", found ")
        merged[problem.key] = _Problem(problem.key, f"{first} or {what}, found {found}")
    return list(merged.values())


def _explain(detail: Any, data: dict[str, Any]) -> _Problem:
    """Turn pydantic's finding into a sentence; the value itself is never shown, since it may be a secret."""
    kind, context = detail["type"], detail.get("ctx", {})
    key = _real_key(detail["loc"], data)
    if kind == "extra_forbidden":
        near = get_close_matches(str(key[-1]), _known(key[:-1], data), n=1)
        return _Problem(
            key, f"unknown key; did you mean {near[0]}?" if near else f"unknown key; {_expected(key, data)}"
        )
    if kind == "missing":
        return _Problem(key[:-1], f"the key {key[-1]} is missing")
    if kind == "union_tag_not_found":
        return _Problem(key, "the key kind is missing: json, csv, record, clips or snapshots")
    if kind == "union_tag_invalid":
        near = get_close_matches(str(context.get("tag")), schema.SINKS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return _Problem(
            (*key, "kind"), f"expected json, csv, record, clips or snapshots, found {context.get('tag')!r}{hint}"
        )
    if kind == "string_pattern_mismatch" and "[key]" in detail["loc"]:
        return _Problem(key, "a name consists of letters, digits, - and _, 64 at most")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return _Problem(key, f"expected a table, found {_kind(detail['input'])}")
    if kind == "value_error":
        return _Problem(key, str(context["error"]))
    says = detail["msg"].removeprefix("Input should be ").partition(", unable to parse")[0]
    found = _kind(detail["input"])
    return _Problem(key, f"expected {says.removeprefix('a valid ')}, found {found}")


def _kind(value: object) -> str:
    names = {str: "a string", bool: "a boolean", list: "an array", dict: "a table"}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return next((name for kind, name in names.items() if isinstance(value, kind)), type(value).__name__)


def _real_key(location: tuple[str | int, ...], data: Any) -> Key:
    """Return a location of pydantic's without what is not in the file, such as the tag of a union."""
    key: list[str | int] = []
    for i, part in enumerate(location):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif i < len(location) - 1 or part == "[key]":
            continue
        elif key and not isinstance(data, dict):
            continue
        key.append(part)
    return tuple(key)


def _model_at(key: Key, data: dict[str, Any]) -> type[BaseModel] | None:
    if not key:
        return Config
    if key[0] == "service":
        return schema.ServiceConfig
    if len(key) == 2 and key[0] == "sinks":
        return schema.SINKS.get(data["sinks"][key[1]].get("kind"))
    if len(key) == 2:
        tables: dict[str | int, type[BaseModel]] = {"models": schema.ModelConfig, "cameras": schema.CameraConfig}
        return tables.get(key[0])
    return None


def _known(key: Key, data: dict[str, Any]) -> list[str]:
    model = _model_at(key, data)
    return [] if model is None else list(model.model_fields)


def _expected(key: Key, data: dict[str, Any]) -> str:
    return f"expected one of {', '.join(_known(key[:-1], data))}"


def _contradictions(config: Config) -> list[_Problem]:
    """Return what no table can know alone."""
    problems = []
    if not config.cameras:
        problems.append(_Problem((), "there is no camera; add one: [cameras.front] with a source"))
    if not config.models:
        problems.append(_Problem(("models",), "there is no model; remove the table for the bundled one"))
    for name, camera in config.cameras.items():
        if not camera.source:
            problems.append(_Problem(("cameras", name, "source"), "is empty"))
        if camera.model is not None and camera.model not in config.models:
            problems.append(_Problem(("cameras", name, "model"), _no_such("model", camera.model, config.models)))
        for i, sink in enumerate(camera.sinks or ()):
            if sink not in config.sinks:
                problems.append(_Problem(("cameras", name, "sinks", i), _no_such("sink", sink, config.sinks)))
    for name, sink_config in config.sinks.items():
        key = ("sinks", name, "path")
        unknown = [found for found in _PLACEHOLDER.findall(sink_config.path) if found != "camera"]
        if unknown:
            problems.append(_Problem(key, f"unknown placeholder {{{unknown[0]}}}; expected {{camera}}"))
        users = [c for c in config.cameras if name in sinks_of(config, c)]
        if isinstance(sink_config, FileSinkConfig) and "{camera}" not in sink_config.path and len(users) > 1:
            problems.append(_Problem(key, f"{len(users)} cameras would write one file; put {{camera}} into its name"))
    places: dict[str, str] = {}
    for name, sink_config in config.sinks.items():
        place = os.path.normpath(sink_config.path)
        if place in places:
            problems.append(
                _Problem(("sinks", name, "path"), f"is the path of sinks.{places[place]}, too; give another")
            )
        places.setdefault(place, name)
    return problems


def _no_such(what: str, name: str, known: dict[str, Any]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(known) or 'none'}"
    return f"there is no {what} {name!r}; {hint}"


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
