"""What is compared: model files, each in the ways that a sweep asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from edge.backends.litert import default_threads
from edge.errors import InputError

SWEEPS = ("threads", "delegate", "size")
MOST_VARIANTS = 64
"""All of them are in memory at once."""


@dataclass(frozen=True)
class Variant:
    """One way to run one model.

    Attributes:
        path: The file.
        threads: CPU threads.
        delegate: As `--delegate` takes it.
        size_wh: Width and height of the input in pixels; None for that of the file.
        label: What the file is called among the others; its name where that is empty.
    """

    path: Path
    threads: int
    delegate: str = "cpu"
    size_wh: tuple[int, int] | None = None
    label: str = ""

    @property
    def key(self) -> str:
        """What says that two variants of two measurements are the same: the file's name, not its folder."""
        size = "" if self.size_wh is None else f" {self.size_wh[0]}x{self.size_wh[1]}"
        return f"{self.label or self.path.name} {self.delegate} {self.threads}{size}"

    @property
    def group(self) -> tuple[object, ...]:
        """What decides about throughput mode, where every interpreter has one thread."""
        return self.path, self.delegate, self.size_wh


def variants(
    paths: Sequence[Path], threads: int | None, delegate: str, sweeps: Mapping[str, Sequence[str]]
) -> list[Variant]:
    """Return every model in every way.

    Args:
        paths: Model files.
        threads: CPU threads where they are not swept; None for the default.
        delegate: Where it is not swept.
        sweeps: From `parse_sweeps`.

    Raises:
        InputError: A value is no such thing, two variants are the same, or there are too many.
    """
    base = default_threads() if threads is None else threads
    counts = [_threads(text) for text in sweeps.get("threads", ())] or [base]
    delegates = list(sweeps.get("delegate", ())) or [delegate]
    sizes: list[tuple[int, int] | None] = [_size(text) for text in sweeps.get("size", ())]
    sizes = sizes or [None]
    if not 1 <= base <= 64:
        raise InputError(f"--threads {base}: expected a number from 1 to 64")
    labels = labelled(paths)
    found = [Variant(path, t, d, s, labels[path]) for path, d, s, t in product(paths, delegates, sizes, counts)]
    if len(found) > MOST_VARIANTS:
        raise InputError(f"{len(found)} variants to measure; expected at most {MOST_VARIANTS}: sweep less at once")
    keys = [variant.key for variant in found]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise InputError(f"{twice}: named twice; give each variant once")
    return found


def labelled(paths: Sequence[Path]) -> dict[Path, str]:
    """Return what each file is called: its name, with as many folders as tell it from the others."""
    found = {}
    for path in paths:
        parts = path.absolute().parts
        others = [other.absolute().parts for other in paths if other != path]
        count = next((n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in others)), len(parts))
        found[path] = "/".join(parts[-count:])
    return found


def parse_sweeps(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return what `--sweep` values ask for: "threads=1,2,4" -> {"threads": ["1", "2", "4"]}.

    Raises:
        InputError: One of them is no sweep.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().removesuffix("s") if name.strip() not in SWEEPS else name.strip()
        name = "threads" if name == "thread" else name
        items = [item.strip() for item in values.split(",")]
        if name not in SWEEPS or not equals or not all(items):
            raise InputError(
                f"--sweep {text!r}: expected threads=1,2,4 or delegate=cpu,gpu or size=256,320 (formats are compared "
                "by naming several model files)"
            )
        if name in found:
            raise InputError(f"--sweep {text!r}: {name} is swept twice; put all values behind one")
        found[name] = list(dict.fromkeys(items))
    return found


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise InputError(f"--sweep threads={text}: expected a number from 1 to 64")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text)
    if match is None or int(match[1]) < 1 or int(match[2] or 1) < 1:
        raise InputError(f"--sweep size={text}: expected pixels, like 320 or 416x320")
    return int(match[1]), int(match[2] or match[1])
