"""The description behind a model, with the SHA-256 of the model that it belongs to.

The digest finds damage (a bad card, a cut download, another model under an old description). It is no signature: who
changes a file on purpose can change the digest too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.errors import ModelFileError
from edge.spec.archive import model_part, model_sha256, read_tail, with_tail
from edge.spec.model import ModelSpec
from edge.spec.resolve import METADATA_NAME

HASHED_AT_START_BYTES = 32 << 20
"""Larger files are only hashed by the self-test: a start should not wait for it on a small CPU."""


def sealed(model: bytes, spec: ModelSpec, members: Mapping[str, bytes]) -> bytes:
    """Return a model file: the model, its description with the model's SHA-256, and other members.

    Args:
        model: A `.tflite`, with or without an archive behind it, which is replaced.
        spec: What it is.
        members: Member name -> content, besides the description.

    Raises:
        ModelFileError: See `edge.spec.archive.with_tail`.
    """
    part = model_part(model)
    spec = spec.model_copy(update={"model_sha256": hashlib.sha256(part).hexdigest()})
    return with_tail(part, {**members, METADATA_NAME: spec.model_dump_json(indent=1, exclude_none=True).encode()})


def stated_sha256(members: Mapping[str, bytes]) -> str | None:
    """Return the digest that a file's own description states; None where it states none or cannot be read."""
    try:
        value: Any = json.loads(members.get(METADATA_NAME, b"null"))
    except (ValueError, RecursionError):
        return None  # said where the description is used
    digest = value.get("model_sha256") if isinstance(value, dict) else None
    return digest if isinstance(digest, str) else None


def check_sha256(path: Path) -> None:
    """Compare a model with the digest in its own description, where there is one.

    Raises:
        ModelFileError: They differ, or the file or its archive cannot be read.
    """
    stated = stated_sha256(read_tail(path))
    if stated is None:
        return
    found = model_sha256(path)
    if found != stated:
        raise ModelFileError(
            f"{path}: damaged, or another model than the one described: its SHA-256 is {found[:12]}..., expected "
            f"{stated[:12]!r}...; copy or convert it again"
        )
