"""Pascal VOC: `Annotations/*.xml` with `JPEGImages` and `ImageSets/Main/<split>.txt`, or `<split>/*.xml`.

Coordinates count pixels from 1 and include both ends (VOC2012 development kit, section 3.4). What is `difficult` is
a crowd: training and evaluation leave it open.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import PurePosixPath

from edge.errors import InputError
from edge.labelled.objects.files import Files, is_picture
from edge.labelled.objects.truth import LABELS, MISSING, Truth, given_wh, measured_wh
from edge.labelled.pictures import split_name
from edge.sources.images import IMAGE_SUFFIXES

_FOLDER = "Annotations"
_SETS = "ImageSets/Main"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def splits(files: Files) -> dict[str, list[str]]:
    """Return split -> its xml files; a set that is not split is all train."""
    if _FOLDER not in files.folders:
        found: dict[str, list[str]] = {}
        for name in files.entries:
            folder, _, last = name.rpartition("/")
            if last.endswith(".xml") and (split := split_name(folder)) is not None:
                found.setdefault(split, []).append(name)
        return found
    lists = {}
    for name in files.below(_SETS):
        path = PurePosixPath(name)
        if path.suffix == ".txt" and str(path.parent) == _SETS and (split := split_name(path.stem)) is not None:
            lines = files.read(name).decode("utf-8", "replace").splitlines()
            lists[split] = [f"{_FOLDER}/{line.split()[0]}.xml" for line in lines if line.strip()]
    if not lists and (every := [name for name in files.below(_FOLDER) if name.endswith(".xml")]):
        return {"train": every}
    return lists


def read(files: Files, split: str) -> Truth:
    """Read one split; see `edge.labelled.objects.open_objects`."""
    names = list(dict.fromkeys(splits(files)[split]))
    trees: dict[str, ET.Element | None] = {}
    for name in names:
        if name in files.entries:
            trees[name] = _parse(files.read(name), files.where(name))
    objects = {name: [] if tree is None else tree.findall("object") for name, tree in trees.items()}
    classes = sorted({_text(row, "name") for rows in objects.values() for row in rows} - {""})
    number = {name: i for i, name in enumerate(classes, 1)}
    truth = Truth((i, name) for name, i in number.items())
    for name in names:
        tree = trees.get(name)
        if tree is None:
            truth.note(LABELS if name in trees else MISSING, name)
            continue
        picture = next((place for place in _places(name, tree) if place in files.entries), None)
        if picture is None:
            truth.note(MISSING, _text(tree, "filename") or name)
            continue
        size = (_number(tree, "size/width"), _number(tree, "size/height"))
        wh = given_wh(*(int(v) if v is not None and abs(v) < 1e9 else None for v in size))
        wh = wh or measured_wh(files, picture, truth)
        if wh is None:
            continue
        image = truth.image(picture, wh)
        for i, row in enumerate(objects[name], 1):
            where = f"{name} object {i}"
            corners = [_number(row, f"bndbox/{corner}") for corner in _CORNERS]
            x1, y1, x2, y2 = (float("nan") if v is None else v for v in corners)
            crowd = _text(row, "difficult") == "1"
            truth.box(image, number.get(_text(row, "name"), 0), (x1 - 1, y1 - 1, x2, y2), where, crowd)
    return truth


def _places(name: str, tree: ET.Element) -> Iterator[str]:
    """Yield where the picture of an xml may lie: called like it, or as it says, beside it or in JPEGImages."""
    path = PurePosixPath(name)
    said = PurePosixPath(_text(tree, "filename").replace("\\", "/")).name
    inner = str(path.parent).removeprefix(_FOLDER).lstrip("/")
    folders = [str(path.parent)]
    if path.parts[0] == _FOLDER:
        folders = [f"{top}/{inner}".rstrip("/") for top in ("JPEGImages", "images", _FOLDER)]
    for folder in folders:
        if said and is_picture(said):
            yield f"{folder}/{said}"
        for suffix in (".jpg", ".png", *sorted(IMAGE_SUFFIXES), ".JPG", ".JPEG", ".PNG"):
            yield f"{folder}/{path.stem}{suffix}"


class _NoDoctype(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse: entities can make a small file huge."""
        raise InputError("has a DOCTYPE, which annotations do not need; remove it")


def _parse(data: bytes, where: str) -> ET.Element | None:
    """Return the root of an xml; None for one that is broken."""
    parser = ET.XMLParser(target=_NoDoctype())
    try:
        parser.feed(data)
        root: ET.Element = parser.close()
    except InputError as error:
        raise InputError(f"{where} {error}") from None
    except (ET.ParseError, ValueError, LookupError):
        return None
    return root


def _text(row: ET.Element, path: str) -> str:
    return (row.findtext(path) or "").strip()


def _number(row: ET.Element, path: str) -> float | None:
    try:
        return float(_text(row, path))
    except ValueError:
        return None
