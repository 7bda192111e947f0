"""Faults of a data set of labelled objects, and its numbers, before anything is learned from it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.frame import Image
from edge.labelled.objects import LabelledObjects, object_splits, open_objects, truth
from edge.labelled.pictures import SPLITS
from edge.sources.images import decode_image
from models.detection.sets import DataSets

Severity = Literal["error", "warning", "info"]
Track = Callable[[Sequence[Any]], Iterable[Any]]
"""Wraps the pictures of a split, to show how far it is."""

SIZE = 320
"""Side of the input where none is given, in pixels."""

_TINY_PX = 3.0
_SAME_PX = 0.5
_NEAR_BITS = 5
"""Of 64 bits of a difference hash, those that may differ in two pictures of one scene."""

_NEAR_GREY = 8.0
"""Mean difference of their 9 x 8 thumbnails, of 255: the hash of a picture with little in it says little."""

_RARE = 0.02
"""Boxes of the largest class, as a share, below which a class is called rare."""

_EXAMPLES = 3
_ROWS = 256
"""Pictures of a split that are compared with all of another at a time; bounds the memory."""

_SEVERITIES: dict[str, Severity] = {
    truth.LABELS: "error",
    truth.UNREADABLE: "error",
    truth.MISSING: "error",
    truth.UNSIZED: "info",
}
"""Of what the reader notes; a warning otherwise."""


@dataclass(frozen=True)
class Finding:
    """One kind of fault, or a fact worth knowing.

    Attributes:
        severity: "error": training stops or learns something false; "warning": worth a look; "info".
        kind: For programs: "tiny-boxes", ...
        text: For people, with the number of places.
        examples: Some of the places.
    """

    severity: Severity
    kind: str
    text: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """The numbers of one split.

    Attributes:
        split: "train", "val" or "test".
        images: Pictures.
        empty: Pictures without objects.
        boxes: Boxes; crowds left out.
        crowds: Regions that are left open: crowds, and what VOC calls difficult.
        classes: Name -> boxes and pictures that show it.
        side_px: Root of the box area at the size of the input: 5th, 50th and 95th percentile; () without boxes.
        aspect: Width over height of the boxes, likewise.
    """

    split: str
    images: int
    empty: int
    boxes: int
    crowds: int
    classes: dict[str, tuple[int, int]]
    side_px: tuple[float, ...]
    aspect: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        path: The data set.
        size: Side of the input that boxes are measured at, in pixels.
        classes: Its class names in order.
        parts: Numbers of each split.
        findings: Errors first.
    """

    path: Path
    size: int
    classes: tuple[str, ...]
    parts: tuple[Part, ...]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True)
class _Looks:
    """What the pictures of a split look like, those that can be read.

    Attributes:
        names: File names.
        digests: SHA-256 of each file.
        thumbnails: float32 (n, 8, 9), grey.
    """

    names: list[str]
    digests: list[bytes]
    thumbnails: NDArray[np.float32]


def check_sets(sets: DataSets, track: Track = lambda items: items, size: int = SIZE) -> list[Report]:
    """Check each set of a run, also whether its classes are ours.

    Args:
        sets: See `models.detection.sets.read_sets`.
        track: Wraps the pictures of a split.
        size: Side of the input that the detector will have, in pixels.

    Raises:
        InputError: A set is no data set at all.
    """
    reports = []
    for data in sets.sets:
        report = check(data.data, track, size)
        ours = {name: data.rename.get(name, name) for name in report.classes}
        others = [name for name, our in ours.items() if sets.classes and our not in sets.classes]
        found = list(report.findings)
        if others:
            text = f"{len(others)} classes are none of those to learn, and left out: {_some(others)}"
            found.append(Finding("error" if len(others) == len(ours) else "info", "other-classes", text))
        silent = {*data.unlabelled, *data.teacher_classes, *ours.values()}
        if absent := [name for name in sets.classes if name not in silent]:
            text = f"not labelled here, so learned to be absent unless `unlabelled` names them: {_some(absent)}"
            found.append(Finding("warning", "absent-classes", text))
        reports.append(replace(report, findings=_sorted(found)))
    return reports


def check(path: Path, track: Track = lambda items: items, size: int = SIZE) -> Report:
    """Read all of a data set, pictures too, and say what is wrong with it.

    Args:
        path: Folder or .zip, see `edge.labelled.objects`.
        track: Wraps the pictures of a split.
        size: Side of the input that the detector will have, in pixels.

    Raises:
        InputError: It is no data set at all.
    """
    found = object_splits(path)
    findings: list[Finding] = []
    opened: list[LabelledObjects] = []
    for split in found:
        try:
            opened.append(open_objects(path, split))
        except InputError as error:
            findings.append(Finding("error", "split", str(error)))
    looks: dict[str, _Looks] = {}
    for objects in opened:
        findings += [_noted(objects.split, note) for note in objects.notes]
        findings += _box_findings(objects, size)
        looks[objects.split], more = _look(objects, track)
        findings += more
    findings += _twins(looks)
    parts = tuple(_numbers(objects, size) for objects in opened)
    classes = tuple(dict.fromkeys(row["name"] for objects in opened for row in objects.dataset["categories"]))
    findings += _missing_splits(found) + _class_findings(classes, parts)
    return Report(path, size, classes, parts, _sorted(findings))


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: ("error", "warning", "info").index(finding.severity)))


def _noted(split: str, note: str) -> Finding:
    kind = next((kind for kind in _SEVERITIES if note.startswith(kind)), "")
    return Finding(_SEVERITIES.get(kind, "warning"), "mended", f"{split}: {note}")


def _counted(severity: Severity, kind: str, what: str, places: Sequence[str]) -> list[Finding]:
    """Return a finding where there are places of it."""
    if not places:
        return []
    return [Finding(severity, kind, f"{what}: {len(places)}", tuple(places[:_EXAMPLES]))]


def _missing_splits(found: Sequence[str]) -> list[Finding]:
    said: dict[str, tuple[Severity, str]] = {
        "train": ("error", "no split train: there is nothing to learn from"),
        "val": ("warning", "no split val: a part of train has to be held out"),
        "test": ("info", "no split test: the final numbers are those that the network was chosen by"),
    }
    missing = [said[split] for split in SPLITS if split not in found]
    return [Finding(severity, "missing-split", text) for severity, text in missing]


def _box_findings(objects: LabelledObjects, size: int) -> list[Finding]:
    split, dataset = objects.split, objects.dataset
    images = {row["id"]: row for row in dataset["images"]}
    tiny: list[str] = []
    places: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row in dataset["annotations"]:
        image = images[row["image_id"]]
        x, y, w, h = row["bbox"]
        if row["iscrowd"]:
            continue
        if min(w, h) * size / max(image["width"], image["height"]) < _TINY_PX:
            tiny.append(image["file_name"])
        places[(row["image_id"], *(round(v / _SAME_PX) for v in (x, y, w, h)))].append(row["category_id"])
    twice = [images[key[0]]["file_name"] for key, ids in places.items() if len(ids) > len(set(ids))]
    mixed = [images[key[0]]["file_name"] for key, ids in places.items() if len(set(ids)) > 1]
    shown = {row["image_id"] for row in dataset["annotations"]}
    empty = [row["file_name"] for row in dataset["images"] if row["id"] not in shown]
    return [
        *_counted("warning", "tiny-boxes", f"{split}: boxes below {_TINY_PX:g} px at {size} px input", tiny),
        *_counted("warning", "same-box", f"{split}: boxes that are there twice", twice),
        *_counted("warning", "two-classes", f"{split}: one box with two classes", mixed),
        *_counted("info", "no-objects", f"{split}: pictures without objects", empty),
    ]


def _look(objects: LabelledObjects, track: Track) -> tuple[_Looks, list[Finding]]:
    """Read and decode the pictures of a split."""
    unreadable: list[str] = []
    other_size: list[str] = []
    names: list[str] = []
    digests: list[bytes] = []
    thumbnails: list[NDArray[np.float32]] = []
    with objects.reader() as read:
        for row in track(objects.dataset["images"]):
            name = row["file_name"]
            try:
                encoded = read(name)
                image = decode_image(encoded, name)
            except InputError as error:
                unreadable.append(str(error))
                continue
            height, width = image.shape[:2]
            if (width, height) != (row["width"], row["height"]):
                other_size.append(f"{name} has {width} x {height}, labelled as {row['width']} x {row['height']}")
            names.append(name)
            digests.append(hashlib.sha256(encoded).digest())
            thumbnails.append(_thumbnail(image))
    looks = _Looks(names, digests, np.array(thumbnails, np.float32).reshape(-1, 8, 9))
    return looks, [
        *_counted("error", "unreadable", f"{objects.split}: pictures that cannot be read", unreadable),
        *_counted("error", "other-size", f"{objects.split}: pictures of another size than labelled", other_size),
    ]


def _thumbnail(image: Image) -> NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA), np.float32)


def _twins(looks: dict[str, _Looks]) -> list[Finding]:
    """Find the same picture twice, and nearly the same one in two splits."""
    findings: list[Finding] = []
    for split, look in looks.items():
        first: dict[bytes, str] = {}
        same = [
            f"{seen} = {name}"
            for name, digest in zip(look.names, look.digests, strict=True)
            if (seen := first.setdefault(digest, name)) != name
        ]
        findings += _counted("warning", "same-picture", f"{split}: pictures that are there twice", same)
    splits = list(looks)
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            a, b = looks[one], looks[other]
            of = dict(zip(b.digests, b.names, strict=True))
            same = [f"{x} = {of[digest]}" for x, digest in zip(a.names, a.digests, strict=True) if digest in of]
            text = f"{one} and {other}: pictures that are in both"
            findings += _counted("error", "leak", text, same)
            text = f"{other}: pictures nearly the same as one of {one}"
            findings += _counted("warning", "near-leak", text, _near(a, b))
    return findings


def _near(one: _Looks, other: _Looks) -> list[str]:
    """Return the pictures of the other split, each with its nearest twin in one; exact twins are left out."""
    known = set(one.digests)
    theirs = _hashes(other.thumbnails)
    found: dict[int, tuple[float, str]] = {}
    for mirrored in (False, True):
        thumbnails = one.thumbnails[:, :, ::-1] if mirrored else one.thumbnails
        ours = _hashes(thumbnails)
        for start in range(0, len(theirs), _ROWS):
            # Of vectors of -1 and 1 the product is 64 less twice the bits that differ.
            close = theirs[start : start + _ROWS] @ ours.T >= 64 - 2 * _NEAR_BITS
            for row in np.flatnonzero(close.any(axis=1)).tolist():
                j, twins = start + row, np.flatnonzero(close[row])
                grey = np.abs(thumbnails[twins] - other.thumbnails[j]).mean(axis=(1, 2))
                if grey.min() <= min(_NEAR_GREY, found.get(j, (_NEAR_GREY,))[0]) and other.digests[j] not in known:
                    twin = f"{one.names[twins[grey.argmin()]]}{', mirrored' if mirrored else ''}"
                    found[j] = float(grey.min()), f"{other.names[j]} ~ {twin}"
    return [found[j][1] for j in sorted(found)]


def _hashes(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return difference hashes (n, 64) of -1 and 1: is a grey pixel brighter than its left one? (N. Krawetz, 2013)."""
    brighter = thumbnails[:, :, 1:] > thumbnails[:, :, :-1]
    return np.where(brighter.reshape(-1, 64), 1, -1).astype(np.float32)


def _numbers(objects: LabelledObjects, size: int) -> Part:
    dataset = objects.dataset
    name_of = {row["id"]: row["name"] for row in dataset["categories"]}
    images = {row["id"]: row for row in dataset["images"]}
    rows = [row for row in dataset["annotations"] if not row["iscrowd"]]
    boxes = Counter(name_of[row["category_id"]] for row in rows)
    shown = Counter(name for name, _ in {(name_of[row["category_id"]], row["image_id"]) for row in rows})
    scale = [size / max(images[row["image_id"]][side] for side in ("width", "height")) for row in rows]
    wh = np.array([row["bbox"][2:] for row in rows], np.float64).reshape(-1, 2)

    def percentiles(values: NDArray[np.float64]) -> tuple[float, ...]:
        return tuple(round(float(v), 2) for v in np.percentile(values, (5, 50, 95))) if rows else ()

    return Part(
        split=objects.split,
        images=len(images),
        empty=len(images.keys() - {row["image_id"] for row in dataset["annotations"]}),
        boxes=len(rows),
        crowds=len(dataset["annotations"]) - len(rows),
        classes={name: (boxes[name], shown[name]) for name in dict.fromkeys(name_of.values())},
        side_px=percentiles(np.sqrt(wh.prod(axis=1)) * scale),
        aspect=percentiles(wh[:, 0] / wh[:, 1]),
    )


def _class_findings(classes: Sequence[str], parts: Sequence[Part]) -> list[Finding]:
    boxes = {part.split: {name: part.classes.get(name, (0, 0))[0] for name in classes} for part in parts}
    total = {name: sum(of[name] for of in boxes.values()) for name in classes}
    findings: list[Finding] = []
    if unused := [name for name in classes if not total[name]]:
        findings.append(Finding("info", "unused-classes", f"classes without a box: {_some(unused)}"))
    train = boxes.get("train", {})
    if unlearned := [name for name in train if total[name] and not train[name]]:
        text = f"classes without a box in train, which cannot be learned: {_some(unlearned)}"
        findings.append(Finding("warning", "not-in-train", text))
    for split in sorted(boxes.keys() - {"train"}, key=list(SPLITS).index):
        if unseen := [name for name in classes if train.get(name) and not boxes[split][name]]:
            text = f"classes without a box in {split}, which cannot be measured there: {_some(unseen)}"
            findings.append(Finding("warning", "not-measured", text))
    most = max(train.values(), default=0)
    if rare := [f"{name} ({n})" for name, n in train.items() if 0 < n < _RARE * most]:
        text = f"classes with less than {_RARE:.0%} of the boxes of the largest in train: {_some(rare)}"
        findings.append(Finding("warning", "rare-classes", text))
    return findings


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f", ... {len(names)} in all" if len(names) > 6 else "")
