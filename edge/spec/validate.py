"""Checks with pydantic, and its findings in one line."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edge.errors import SpecError

Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 3


def validated(model: type[Model], data: Any, where: str) -> Model:
    """Return `data` as a `model`.

    Args:
        model: The pydantic model.
        data: What was read: plain Python values.
        where: What the data is, for the message: a file name, "decoder yolov8".

    Raises:
        SpecError: The data does not fit; one line with the path of each wrong field, what was expected, and what
            was found.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_context=False)
    shown = "; ".join(_sentence(finding) for finding in findings[:_SHOWN])
    more = f" (and {len(findings) - _SHOWN} more)" if len(findings) > _SHOWN else ""
    raise SpecError(f"{where}: {shown}{more}")


def _sentence(finding: Any) -> str:
    path = ".".join(map(str, finding["loc"]))
    if finding["type"] == "missing":
        return f"{path} is missing"
    if finding["type"] == "extra_forbidden":
        return f"unknown key {path}"
    expected = " ".join(finding["msg"].removeprefix("Value error, ").split())
    return f"{path}: {expected}, found {_brief(finding['input'])}".removeprefix(": ")


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
