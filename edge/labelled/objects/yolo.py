"""YOLO data sets as Roboflow and Ultralytics write them: `data.yaml`, pictures below `images`, txt below `labels`.

A line of a txt is `class cx cy w h` in shares of the picture, or `class x1 y1 x2 y2 x3 y3 ...`, a polygon, whose box
counts. A picture without a txt has no objects. (docs.ultralytics.com/datasets/detect)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from reprlib import repr as short  # aliases of YAML can make what it holds huge
from typing import Any

from edge.errors import InputError, MissingDependencyError
from edge.labelled.objects.files import Files, is_picture
from edge.labelled.objects.header import picture_wh
from edge.labelled.objects.truth import LINES, MISSING, UNREADABLE, Truth
from edge.labelled.pictures import MAX_CLASSES, SPLITS

_ABSOLUTE = re.compile(r"(/|[A-Za-z]:).*")
_Config = dict[str, Any]


def splits(files: Files) -> tuple[str, ...]:
    """Return the splits that have pictures and a txt of at least one of them; () for another form."""
    config = _config(files)
    if config is None:
        return ()
    return tuple(
        split
        for split in SPLITS
        if any(_labels_of(name, files) in files.entries for name in _pictures(files, config, split)[0])
    )


def read(files: Files, split: str) -> Truth:
    """Read one split; see `edge.labelled.objects.open_objects`."""
    config = _config(files) or {}
    names = _class_names(files, config)
    truth = Truth((number + 1, name) for number, name in names.items())
    pictures, missing = _pictures(files, config, split)
    for name in missing:
        truth.note(MISSING, name)
    for name in pictures:
        wh = picture_wh(files, name)
        if wh is None:
            truth.note(UNREADABLE, name)
            continue
        image = truth.image(name, wh)
        labels = _labels_of(name, files)
        if labels not in files.entries:
            continue
        text = files.read(labels).decode("utf-8-sig", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            where = f"{labels} line {number}"
            if not line.strip():
                continue
            found = _box(line, "kpt_shape" in config)
            if found is None:
                truth.note(LINES, where)
            else:
                class_id, (x1, y1, x2, y2) = found
                truth.box(image, class_id + 1, (x1 * wh[0], y1 * wh[1], x2 * wh[0], y2 * wh[1]), where)
    return truth


def _box(line: str, has_points: bool) -> tuple[int, tuple[float, float, float, float]] | None:
    """Return class and box of a line, as shares of the picture; None for a line that says something else."""
    try:
        first, *numbers = map(float, line.split())
    except ValueError:
        return None
    if not (first.is_integer() and abs(first) < MAX_CLASSES):
        return None
    if len(numbers) == 4 or (has_points and len(numbers) > 4):
        cx, cy, w, h = numbers[:4]
        return int(first), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[::2], numbers[1::2]
        return int(first), (min(xs), min(ys), max(xs), max(ys))
    return None


def _config(files: Files) -> _Config | None:
    """Return what the data.yaml says, or another .yaml at the top that names classes; None without one."""
    tops = [name for name in files.entries if "/" not in name and name.lower().endswith((".yaml", ".yml"))]
    if not tops or not ("data.yaml" in tops or any(is_label_folder(folder) for folder in files.folders)):
        return None
    for name in sorted(tops, key=lambda name: name != "data.yaml"):
        parsed = _parse(files.read(name), files.where(name))
        if isinstance(parsed, dict) and ("names" in parsed or "nc" in parsed):
            return parsed
    if "data.yaml" in tops:
        raise InputError(f"{files.where('data.yaml')}: expected `names:`, the classes; found none")
    return None


def is_label_folder(folder: str) -> bool:
    """Whether a folder is called `labels`."""
    return folder.rpartition("/")[2] == "labels"


def _parse(data: bytes, where: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(
            f"{where}: reading it needs PyYAML; install it with: pip install 'edge-pipeline[evaluate]'"
        ) from error
    try:
        # The base loader leaves every value a text: a class may be called `no` or `1e3`.
        return yaml.load(data, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected YAML ({' '.join(str(error).split())})") from error


def _class_names(files: Files, config: _Config) -> dict[int, str]:
    """Return class number -> name."""
    where, names, count = f"{files.path}: its data.yaml", config.get("names"), config.get("nc")
    if not names and isinstance(count, str) and count.isdecimal() and 0 < len(count) < 6:
        return {number: str(number) for number in range(int(count))}
    try:
        if isinstance(names, dict):
            named = {int(number): name for number, name in names.items()}
        else:
            named = dict(enumerate(names)) if isinstance(names, list) else {}
    except ValueError as error:
        raise InputError(f"{where}: expected numbers before the `names:` ({error})") from error
    if not named or not all(isinstance(name, str) and 0 <= number < MAX_CLASSES for number, name in named.items()):
        raise InputError(f"{where}: expected `names:` as a list or as number: name, found {short(names):.60}")
    return dict(sorted(named.items()))


def _pictures(files: Files, config: _Config, split: str) -> tuple[list[str], list[str]]:
    """Return the pictures of a split, and the ones that a list of pictures names but that are not there."""
    given = next((config[name] for name in SPLITS[split] if config.get(name)), None)
    if given is None:
        usual = [place for name in SPLITS[split] for place in (f"{name}/images", f"images/{name}")]
        given = [next((place for place in usual if place in files.folders), "")] if files.folders & {*usual} else []
    base = config.get("path")
    base = base if isinstance(base, str) else ""
    found: dict[str, None] = {}
    missing: list[str] = []
    for entry in given if isinstance(given, list) else [given]:
        if not isinstance(entry, str):
            raise InputError(
                f"{files.path}: its data.yaml: expected a path or a list of paths, found {short(entry):.60}"
            )
        for place in _candidates(entry, base):
            if place in files.folders:
                found |= dict.fromkeys(name for name in files.below(place) if is_picture(name))
                break
            if place in files.entries and place.endswith(".txt"):
                here = place.rpartition("/")[0]
                for line in files.read(place).decode("utf-8-sig", "replace").splitlines():
                    if line := line.strip():
                        places = (name for lead in (here, base) for name in _candidates(line, lead))
                        name = next((name for name in places if name in files.entries and is_picture(name)), None)
                        if name is None:
                            missing.append(line)
                        else:
                            found[name] = None
                break
    return list(found), missing


def _candidates(entry: str, base: str) -> Iterator[str]:
    """Yield what a path may mean inside the data set.

    Roboflow writes `../train/images` for what lies beside data.yaml, Ultralytics a `path:` relative to wherever the
    data sets are kept, and notebooks leave absolute paths of their own machine.
    """
    absolute = _ABSOLUTE.fullmatch(entry) is not None
    parts = _parts(entry)
    whole = parts if absolute else _parts(base) + parts
    kept = min(2, len(parts)) if absolute else len(parts)
    for start in range(len(whole) - kept + 1):
        yield "/".join(whole[start:])


def _parts(path: str) -> list[str]:
    parts: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _labels_of(picture: str, files: Files) -> str:
    """Return the txt of a picture: the last `images` in its path becomes `labels`; else beside it."""
    path = PurePosixPath(picture)
    parts = list(path.with_suffix(".txt").parts)
    folders = parts[:-1][::-1]
    if "images" in folders:
        parts[len(folders) - 1 - folders.index("images")] = "labels"
    name = "/".join(parts)
    beside = str(path.with_suffix(".txt"))
    return beside if name not in files.entries and beside in files.entries else name
