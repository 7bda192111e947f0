"""COCO instances: reading and checking the file, and the pictures that show exactly one box."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edge.errors import InputError
from edge.labelled.pictures import LabelledPictures, split_name
from edge.sources.images import read_image

_NEEDED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": (int, str), "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {"image_id": (int, str), "category_id": int, "bbox": list},
}
_MOST_PIXELS = 1e9
"""Of a coordinate of a box: far outside of any picture, and still a number in 32 bits after sums and products."""
INSTANCES_FILE = re.compile(r"instances_(?P<split>[a-z]+)(?:\d{4})?\.json")


def fits(path: Path) -> bool:
    """Whether the folder has `annotations/instances_*.json`."""
    return next((path / "annotations").glob("instances_*.json"), None) is not None


def splits(path: Path) -> dict[str, Path]:
    """Return split -> its file of annotations."""
    files = sorted((path / "annotations").glob("instances_*.json"), reverse=True)
    named = ((INSTANCES_FILE.fullmatch(file.name), file) for file in files)
    found = {name: file for match, file in named if match and (name := split_name(match["split"])) is not None}
    if not found:
        raise InputError(f"{path}: expected annotations/instances_train.json and so on, found {files[0].name}")
    return found


def read(path: Path, split: str | None) -> LabelledPictures:
    """List the pictures with one box; see `edge.labelled.open_labelled`."""
    files = splits(path)
    file = files[split or next(iter(files))]
    return one_box_pictures(file, [path / folder for folder in picture_folders(file.name)])


def picture_folders(annotations: str) -> list[str]:
    """Return the folders of a data set that the names in a file `instances_train2017.json` may start from."""
    match = INSTANCES_FILE.fullmatch(annotations)
    folder = PurePosixPath(annotations).stem.removeprefix("instances_")
    plain = match["split"] if match else folder
    return ["", "images", folder, f"images/{folder}", plain, f"images/{plain}"]


def one_box_pictures(annotations: Path, roots: list[Path]) -> LabelledPictures:
    """List the pictures that show exactly one box of positive area; crowds do not count.

    Args:
        annotations: COCO instances JSON.
        roots: Folders that its file names may start from.

    Raises:
        InputError: The annotations cannot be read, no picture has just one box, or one of these is not there.
    """
    dataset = load_instances(annotations)
    categories = sorted(dataset["categories"], key=lambda row: int(row["id"]))
    class_of = {row["id"]: i for i, row in enumerate(categories)}
    boxes_of: dict[int | str, list[dict[str, Any]]] = {}
    for row in dataset["annotations"]:
        if not row["iscrowd"] and row["bbox"][2] > 0 and row["bbox"][3] > 0:
            boxes_of.setdefault(row["image_id"], []).append(row)
    single = [
        (image, boxes_of[image["id"]][0]) for image in dataset["images"] if len(boxes_of.get(image["id"], ())) == 1
    ]
    if not single:
        raise InputError(f"{annotations}: expected pictures with exactly one box, found none")
    unknown = next((box["category_id"] for _, box in single if box["category_id"] not in class_of), None)
    if unknown is not None:
        raise InputError(f"{annotations}: a box has the category {unknown}, which is not in its categories")
    paths = [find_picture(roots, image["file_name"]) for image, _ in single]
    boxes = np.array([box["bbox"] for _, box in single], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return LabelledPictures(
        tuple(row["name"] for row in categories),
        np.array([class_of[box["category_id"]] for _, box in single], np.int64),
        [str(path) for path in paths],
        lambda i: read_image(paths[i]),
        boxes_xyxy=boxes,
    )


def find_picture(roots: list[Path], file_name: str) -> Path:
    """Return the path of an annotated picture: its name from one of the folders, else its last part alone.

    Raises:
        InputError: It is in none of the folders.
    """
    for path in (root / name for name in picture_names(file_name) for root in roots):
        if os.path.isfile(path):  # which Path.is_file() is not asked for: it raises for a name that is too long
            return path
    raise InputError(f"{roots[0]}: the annotations name {file_name}, which is not there")


def picture_names(file_name: str) -> list[str]:
    """Return what to look for in the folders of a data set: the name, then its last part alone."""
    name = PurePosixPath(file_name)
    # A name that leads out of the folders is not followed.
    whole = [] if name.is_absolute() or ".." in name.parts else [str(name)]
    return [*whole, name.name]


def load_instances(annotations: Path) -> dict[str, Any]:
    """Read COCO instances JSON; what converters often leave out (id, iscrowd, area) is filled in.

    Raises:
        InputError: The file cannot be read or is something else.
    """
    try:
        data = annotations.read_bytes()
    except OSError as error:
        raise InputError(f"{annotations}: cannot be read ({error.strerror})") from error
    return check_instances(parse_json(data, str(annotations)), str(annotations))


def parse_json(data: bytes, where: str) -> Any:
    """Parse a file that should be COCO instances.

    Args:
        data: Its bytes.
        where: What to call it in a message.

    Raises:
        InputError: It is no JSON.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected COCO instances JSON ({error})") from error


def check_instances(dataset: Any, where: str) -> dict[str, Any]:
    """Check what was parsed; what converters often leave out (id, iscrowd, area) is filled in.

    Raises:
        InputError: It is something else than COCO instances.
    """
    problem = _problem(dataset)
    if problem:
        raise InputError(f"{where}: expected COCO instances JSON; {problem}")
    result: dict[str, Any] = dataset
    return result


def is_box(value: Any) -> bool:
    """Whether this is a list of four numbers that may be pixels."""
    return isinstance(value, list) and len(value) == 4 and all(is_finite(n) and abs(n) <= _MOST_PIXELS for n in value)


def is_finite(value: Any) -> bool:
    """Whether this is a number that a float can hold."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        return False


def _problem(dataset: Any) -> str | None:
    """Return what keeps a parsed file from being COCO instances, in words."""
    if not isinstance(dataset, dict):
        return f"found a {type(dataset).__name__} at the top"
    for section, keys in _NEEDED.items():
        rows = dataset.get(section)
        if not isinstance(rows, list):
            return f"found no list {section!r}"
        for number, row in enumerate(rows):
            missing = [key for key in keys if not isinstance(row, dict) or key not in row]
            if missing:
                return f"{section}[{number}] has no {', '.join(missing)}"
            for key, kind in keys.items():
                if not isinstance(row[key], kind):
                    return f"{section}[{number}].{key} is {row[key]!r:.60}"
    if not dataset["images"]:
        return "it lists no image"
    for number, row in enumerate(dataset["annotations"]):
        # Converters often leave these out; COCO's own tools need them.
        row.setdefault("id", number + 1)
        row.setdefault("iscrowd", 0)
        box = row["bbox"]
        if not is_box(box):
            return f"annotations[{number}].bbox is {box!r:.60}, expected four numbers x, y, width, height"
        row.setdefault("area", box[2] * box[3])
    # An id of 0 means "unmatched" inside COCOeval: such a box would never count as found.
    if any(row["id"] == 0 for row in dataset["annotations"]):
        for number, row in enumerate(dataset["annotations"], 1):
            row["id"] = number
    return None
