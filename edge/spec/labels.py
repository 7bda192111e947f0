"""Label files: one class name a line, plain or numbered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from edge.coco import canonical
from edge.errors import InputError

UNNAMED = "???"
"""The name of a class that a list leaves out, as TensorFlow's own label maps write it."""

_MAX_BYTES = 8 << 20
_MAX_LABEL_CHARS = 500
_NUMBERED = re.compile(r"\s*(\d{1,6})(?:\s*:\s*|\s+)(\S.*)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def read_labels(source: str | Path | bytes, name: str = "labels") -> tuple[str, ...]:
    r"""Read class names.

    Accepted are `person` a line, and the numbered forms `0 person`, `0: person` and `0  person` (Coral, Teachable
    Machine), where numbers may be missing: their classes are named "???", and so is a blank line between names. The
    numbered form is taken only when every line has a number, in rising order from 0 or 1. UTF-8, with or without a byte
    order mark; line ends \n, \r\n or \r.

    Args:
        source: The file, or its content.
        name: What to call the content in an error message when `source` is bytes.

    Returns:
        Names by class index.

    Raises:
        InputError: The file cannot be read, is not UTF-8 text, or holds no name.
    """
    if isinstance(source, bytes):
        data, where = source, name
    else:
        where = str(source)
        try:
            with open(source, "rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise InputError(f"{where}: the labels cannot be read: {error.strerror or error}") from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"{where}: expected a text file with one label a line, found more than {_MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: expected labels in UTF-8 text, found byte {error.start} that is not") from error
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    for number, line in enumerate(lines, 1):
        if _CONTROL.search(line) or len(line) > _MAX_LABEL_CHARS:
            raise InputError(
                f"{where}: line {number}: expected a label of at most {_MAX_LABEL_CHARS} printable characters"
            )
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError(f"{where}: expected one label a line, found no label")
    return _numbered(lines) or tuple(line or UNNAMED for line in lines)


def _numbered(lines: list[str]) -> tuple[str, ...] | None:
    """Return the names when every line that is not blank carries its class index, else None."""
    matches = [_NUMBERED.fullmatch(line) for line in lines if line]
    pairs = [(int(match[1]), match[2]) for match in matches if match]
    indices = [index for index, _ in pairs]
    rising = all(a < b for a, b in zip(indices, indices[1:], strict=False))
    # A list of names that happen to begin with numbers ("2 door", "4 door") does not start at 0 or 1, and a list with
    # numbers has few gaps (COCO's has 10 in 90).
    if len(pairs) != len(matches) or not rising or indices[0] > 1 or indices[-1] >= 4 * len(pairs) + 100:
        return None
    names = [UNNAMED] * (indices[-1] + 1)
    for index, label in pairs:
        names[index] = label
    return tuple(names)


def pick_classes(wanted: Sequence[str], labels: Sequence[str], flag: str = "--classes") -> list[int] | None:
    """Return the class indices that a user names, by name or number; None for all.

    Args:
        wanted: Names or numbers, several with commas between them.
        labels: Class names by class index.
        flag: What gave them, for messages.

    Raises:
        InputError: A name or number is not a class of the model.
    """
    index_of = {canonical(label): i for i, label in reversed(list(enumerate(labels)))}
    picked = []
    for word in (part.strip() for entry in wanted for part in entry.split(",") if part.strip()):
        name = canonical(word)
        if name in index_of:
            picked.append(index_of[name])
        elif word.isdecimal() and (not labels or int(word) < len(labels)):
            picked.append(int(word))
        elif word.isdecimal():
            raise InputError(f"{flag} {word}: the model has classes 0 to {len(labels) - 1}")
        else:
            near = get_close_matches(name, index_of, n=3)
            known = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {known or 'no labels: give numbers'}"
            raise InputError(f"{flag} {word}: the model has no such class; {hint}")
    return picked or None
