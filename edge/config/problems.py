"""What pydantic finds wrong with a configuration, as one sentence for each key.

A value never stands in a sentence as it was filled in from the environment: it may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from edge.config import schema
from edge.config.lines import Key, line_of
from edge.config.schema import NAME, Config
from edge.errors import one_line

_KINDS = "json, csv, record, clips or snapshots"

_WANTED = {
    "int": "integer",
    "float": "number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "string",
    "tuple": "an array",
    "model": "a table",
    "dict": "a table",
}
"""How the name of a finding begins -> what was expected."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at a key."""

    key: Key
    says: str


def explain(error: ValidationError, data: Any, written: Any) -> list[Problem]:
    """Return one problem for each key that is wrong.

    Args:
        error: Of validating `data`.
        data: The whole file.
        written: The same before variables were filled in.
    """
    details = error.errors(include_url=False, include_context=True)
    return _merged(_without_echoes([_explain(detail, data, written) for detail in details]))


def sentences(where: str, problems: Iterable[Problem], lines: dict[Key, int]) -> list[str]:
    """Return the problems in the order of the file, each as one line.

    Args:
        where: The file.
        problems: What is wrong with it.
        lines: Key -> its line.
    """
    placed = sorted(((line_of(lines, problem.key) or 0, problem) for problem in problems), key=lambda pair: pair[0])
    return [_sentence(f"{where}:{line}" if line else where, problem) for line, problem in placed]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "did you mean b?" for a misspelt name, else what there is."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there is {', '.join(known) or 'none'}"


def at(data: Any, key: Key) -> Any:
    """Return what stands at a key; None where there is no such key."""
    for part in key:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def _sentence(where: str, problem: Problem) -> str:
    name = ""
    for part in problem.key:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if NAME.fullmatch(part) else f".{part!r}"
    return one_line(f"{where}: {name.removeprefix('.')}: {problem.says}" if name else f"{where}: {problem.says}")


def _explain(detail: Any, data: Any, written: Any) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    key = _real_key(detail["loc"], data)
    if kind == "extra_forbidden":
        known = _known(key[:-1], data)
        near = get_close_matches(str(key[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        return Problem(key, f"unknown key; {hint}")
    if kind == "missing":
        return Problem(key[:-1], f"the key {key[-1]} is missing")
    if kind == "union_tag_not_found":
        return Problem(key, f"the key kind is missing: {_KINDS}")
    if kind == "union_tag_invalid":
        key = (*key, "kind")
        tag = at(written, key)
        near = get_close_matches(tag, schema.SINKS, n=1) if isinstance(tag, str) else []
        found = repr(tag) if isinstance(tag, str) else _kind(tag)
        return Problem(key, f"expected {_KINDS}, found {found}" + (f"; did you mean {near[0]}?" if near else ""))
    if kind == "string_pattern_mismatch" and "[key]" in detail["loc"]:
        return Problem(key, "a name consists of letters, digits, - and _, 64 at most")
    if kind == "string_too_short":
        return Problem(key, "is empty")
    if kind == "value_error":
        return Problem(key, str(context["error"]))
    if kind == "literal_error" and isinstance(found := at(written, key), str):
        return Problem(key, f"expected {detail['msg'].removeprefix('Input should be ')}, found {found!r}")
    wanted = None if "than" in kind else _WANTED.get(kind.partition("_")[0])
    wanted = wanted or detail["msg"].removeprefix("Input should be ")
    return Problem(key, f"expected {wanted}, found {_kind(at(written, key))}")


def _without_echoes(problems: list[Problem]) -> list[Problem]:
    """Leave out a key that is missing where it is there and misspelt."""
    meant = {
        f"{problem.key[:-1]}: the key {problem.says.rpartition('did you mean ')[2].removesuffix('?')} is missing"
        for problem in problems
        if "did you mean" in problem.says
    }
    return [problem for problem in problems if f"{problem.key}: {problem.says}" not in meant]


def _merged(problems: list[Problem]) -> list[Problem]:
    """Return one problem for a key of which several things may be expected, such as a number or "auto"."""
    merged: dict[Key, Problem] = {}
    for problem in problems:
        before = merged.get(problem.key)
        if before is None or not (before.says.startswith("expected ") and problem.says.startswith("expected ")):
            merged[problem.key] = problem if before is None else before
            continue
        first = before.says.rpartition(", found ")[0]
        what, _, found = problem.says.removeprefix("expected ").rpartition(", found ")
        merged[problem.key] = Problem(problem.key, f"{first} or {what}, found {found}")
    return list(merged.values())


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


def _known(key: Key, data: Any) -> list[str]:
    """Return the keys that a table may have."""
    model = _model_at(key, data)
    return [] if model is None else list(model.model_fields)


def _model_at(key: Key, data: Any) -> type[BaseModel] | None:
    if not key:
        return Config
    if key[0] == "service":
        return schema.ServiceConfig
    if len(key) == 2 and key[0] == "sinks":
        return schema.SINKS.get(at(data, (*key, "kind")))
    if len(key) == 2:
        tables: dict[str | int, type[BaseModel]] = {"models": schema.ModelConfig, "cameras": schema.CameraConfig}
        return tables.get(key[0])
    return None
