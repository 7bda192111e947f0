"""COCO instances: `annotations/instances_<split>.json`, or `<split>/_annotations.coco.json` as Roboflow writes it."""

from __future__ import annotations

from typing import Any

from edge.errors import InputError
from edge.labelled.coco import (
    INSTANCES_FILE,
    check_instances,
    is_box,
    is_finite,
    parse_json,
    picture_folders,
    picture_names,
)
from edge.labelled.objects.files import Files
from edge.labelled.objects.truth import BROKEN, MISSING, STRAY, TWICE, Truth, given_wh, measured_wh
from edge.labelled.pictures import split_name

_ROBOFLOW = "_annotations.coco.json"


def splits(files: Files) -> dict[str, str]:
    """Return split -> its file of annotations."""
    found: dict[str, str] = {}
    for name in reversed(files.entries):
        folder, _, last = name.rpartition("/")
        match = INSTANCES_FILE.fullmatch(last) if folder == "annotations" else None
        called = match["split"] if match else folder if last == _ROBOFLOW else ""
        if (split := split_name(called)) is not None:
            found[split] = name
    return found


def read(files: Files, split: str) -> Truth:
    """Read one split; see `edge.labelled.objects.open_objects`."""
    name = splits(files)[split]
    folder, _, last = name.rpartition("/")
    folders = [folder] if last == _ROBOFLOW else picture_folders(last)
    found = parse_json(files.read(name), files.where(name))
    broken = _mend_boxes(found)
    dataset = check_instances(found, files.where(name))
    truth = Truth((row["id"], row["name"]) for row in dataset["categories"])
    images: dict[Any, dict[str, Any] | None] = {}
    for row in dataset["images"]:
        if row["id"] in images:
            truth.note(TWICE, row["file_name"])
            continue
        images[row["id"]] = _image(files, folders, row, truth)
    if not any(images.values()):
        raise InputError(f"{files.where(name)} names pictures, and none of them is there; {'; '.join(truth.notes())}")
    for i, row in enumerate(dataset["annotations"]):
        where = f"{last} annotations[{i}]"
        if i in broken:
            truth.note(BROKEN, where)
        elif row["image_id"] not in images:
            truth.note(STRAY, where)
        elif (image := images[row["image_id"]]) is not None:
            x, y, w, h = map(float, row["bbox"])
            area = row["area"] if is_finite(row["area"]) else None
            truth.box(image, row["category_id"], (x, y, x + w, y + h), where, bool(row["iscrowd"]), area)
    return truth


def _image(files: Files, folders: list[str], row: dict[str, Any], truth: Truth) -> dict[str, Any] | None:
    """Add a picture, found where it lies; None for one that is not there or whose size nobody knows."""
    places = (f"{folder}/{name}".lstrip("/") for name in picture_names(row["file_name"]) for folder in folders)
    place = next((name for name in places if name in files.entries), None)
    if place is None:
        truth.note(MISSING, row["file_name"])
        return None
    wh = given_wh(row.get("width"), row.get("height")) or measured_wh(files, place, truth)
    if wh is None:
        return None
    return truth.image(place, wh, {"id": row["id"]})


def _mend_boxes(parsed: Any) -> set[int]:
    """Replace boxes that are no four finite numbers, which `check_instances` refuses; return their places."""
    rows = parsed.get("annotations") if isinstance(parsed, dict) else None
    if not isinstance(rows, list):
        return set()
    broken = {i for i, row in enumerate(rows) if isinstance(row, dict) and not is_box(row.get("bbox"))}
    for i in broken:
        rows[i]["bbox"] = [0, 0, 0, 0]
    return broken
