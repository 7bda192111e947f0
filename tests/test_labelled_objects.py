"""Data sets of labelled objects in every form, folder and zip, whole and broken."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import InputError, MissingDependencyError
from edge.labelled.coco import load_instances
from edge.labelled.objects import LabelledObjects, object_splits, open_objects
from edge.labelled.objects.header import header_wh

Box = tuple[str, float, float, float, float]
Split = dict[str, tuple[tuple[int, int], list[Box]]]
"""File name -> width and height, and class with x1 y1 x2 y2 of each object."""

CLASSES = ("car", "no", "1e3")
TRAIN: Split = {
    "a.jpg": ((80, 60), [("car", 8, 6, 40, 30), ("no", 0, 0, 80, 60)]),
    "b.png": ((40, 90), [("1e3", 4, 9, 12, 18)]),
}
VAL: Split = {"c.jpg": ((50, 50), [("car", 10, 10, 20, 30)]), "d.jpg": ((64, 32), [])}
CONTENT = {"train": TRAIN, "val": VAL}
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def put(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def encoded(wh: tuple[int, int], suffix: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(suffix, np.full((wh[1], wh[0], 3), 120, np.uint8))[1])


def put_picture(path: Path, wh: tuple[int, int]) -> None:
    put(path, encoded(wh, path.suffix))


def coco_json(split: Split, prefix: str = "") -> str:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, ((w, h), boxes)) in enumerate(split.items(), 7):
        images.append({"id": number, "file_name": prefix + name, "width": w, "height": h})
        for kind, x1, y1, x2, y2 in boxes:
            row = {"image_id": number, "category_id": CLASSES.index(kind), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append({"id": len(annotations), **row})
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def yolo_lines(wh: tuple[int, int], boxes: list[Box]) -> str:
    w, h = wh
    rows = [(CLASSES.index(k), (a + c) / 2 / w, (b + d) / 2 / h, (c - a) / w, (d - b) / h) for k, a, b, c, d in boxes]
    return "\n".join(" ".join(map(str, row)) for row in rows)


def polygon_lines(wh: tuple[int, int], boxes: list[Box]) -> str:
    w, h = wh
    rows = [
        (
            CLASSES.index(k),
            a / w,
            (b + d) / 2 / h,
            (a + c) / 2 / w,
            b / h,
            c / w,
            (b + d) / 2 / h,
            (a + c) / 2 / w,
            d / h,
        )
        for k, a, b, c, d in boxes
    ]
    return "\n".join(" ".join(map(str, row)) for row in rows)


def voc_xml(name: str, wh: tuple[int, int], boxes: list[Box], extra: str = "") -> str:
    objects = "".join(
        f"<object><name>{k}</name><bndbox><xmin>{a + 1}</xmin><ymin>{b + 1}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        f"</bndbox>{extra}</object>"
        for k, a, b, c, d in boxes
    )
    size = f"<size><width>{wh[0]}</width><height>{wh[1]}</height><depth>3</depth></size>"
    return f"<annotation><folder>x</folder><filename>{name}</filename>{size}{objects}</annotation>"


def coco_in_folders(root: Path) -> None:
    """One folder of pictures a split, years in the names."""
    for split, pictures in CONTENT.items():
        put(root / "annotations" / f"instances_{split}2017.json", coco_json(pictures))
        for name, (wh, _) in pictures.items():
            put_picture(root / f"{split}2017" / name, wh)


def coco_below_images(root: Path) -> None:
    for split, pictures in CONTENT.items():
        put(root / "annotations" / f"instances_{split}.json", coco_json(pictures))
        for name, (wh, _) in pictures.items():
            put_picture(root / "images" / split / name, wh)


def coco_from_the_root(root: Path) -> None:
    for split, pictures in CONTENT.items():
        folder = {"val": "valid"}.get(split, split)
        put(root / "annotations" / f"instances_{folder}.json", coco_json(pictures, f"{folder}/"))
        for name, (wh, _) in pictures.items():
            put_picture(root / folder / name, wh)


def coco_of_roboflow(root: Path) -> None:
    for split, pictures in CONTENT.items():
        folder = {"val": "valid"}.get(split, split)
        put(root / folder / "_annotations.coco.json", coco_json(pictures))
        for name, (wh, _) in pictures.items():
            put_picture(root / folder / name, wh)
    put(root / "README.roboflow.txt", "exported")


def yolo_of_roboflow(root: Path) -> None:
    for split, pictures in CONTENT.items():
        folder = root / {"val": "valid"}.get(split, split)
        for name, (wh, boxes) in pictures.items():
            put_picture(folder / "images" / name, wh)
            put((folder / "labels" / name).with_suffix(".txt"), yolo_lines(wh, boxes))
    put(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\nnames: ['car', 'no', '1e3']\n\n"
        "roboflow:\n  workspace: w\n  project: p\n  version: 4\n  license: CC BY 4.0\n",
    )


def yolo_of_ultralytics(root: Path) -> None:
    for split, pictures in CONTENT.items():
        for name, (wh, boxes) in pictures.items():
            put_picture(root / "images" / split / name, wh)
            if boxes:
                put((root / "labels" / split / name).with_suffix(".txt"), yolo_lines(wh, boxes) + "\n\n")
    put(
        root / "streets.yaml",
        "# Ultralytics\npath: ../datasets/streets  # dataset root dir\ntrain: images/train\nval: images/val\ntest:\n\n"
        "names:\n  0: car\n  1: no\n  2: 1e3\n\ndownload: |\n  print('no')\n",
    )


def yolo_without_paths(root: Path) -> None:
    """A data.yaml that names only classes; segmentation, with Windows' line ends."""
    for split, pictures in CONTENT.items():
        for name, (wh, boxes) in pictures.items():
            put_picture(root / split / "images" / name, wh)
            put((root / split / "labels" / name).with_suffix(".txt"), polygon_lines(wh, boxes).replace("\n", "\r\n"))
    put(root / "data.yaml", "names: [car, no, 1e3]\n")


def yolo_with_lists(root: Path) -> None:
    """A list of folders, a .txt that names pictures, and absolute paths of another machine."""
    for pictures in CONTENT.values():
        for name, (wh, boxes) in pictures.items():
            put_picture(root / "images" / Path(name).stem / name, wh)
            put((root / "labels" / Path(name).stem / name).with_suffix(".txt"), yolo_lines(wh, boxes))
    put(root / "lists" / "val.txt", "./images/c/c.jpg\n/home/someone/images/d/d.jpg\n")
    put(
        root / "data.yaml",
        "train:\n  - images/a\n  - /content/set/images/b\nval: lists/val.txt\nnames: {0: car, 1: no, 2: 1e3}",
    )


def voc_devkit(root: Path) -> None:
    root = root / "VOCdevkit" / "VOC2007"
    for split, pictures in CONTENT.items():
        for name, (wh, boxes) in pictures.items():
            put_picture(root / "JPEGImages" / name, wh)
            put((root / "Annotations" / name).with_suffix(".xml"), voc_xml(name, wh, boxes, "<difficult>0</difficult>"))
        put(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{Path(name).stem}\n" for name in pictures))
        put(root / "ImageSets" / "Main" / f"car_{split}.txt", "a -1\nb  1\n")
    put(root / "ImageSets" / "Main" / "trainval.txt", "a\n")


def voc_of_roboflow(root: Path) -> None:
    for split, pictures in CONTENT.items():
        folder = root / {"val": "valid"}.get(split, split)
        for name, (wh, boxes) in pictures.items():
            put_picture(folder / name, wh)
            put((folder / name).with_suffix(".xml"), voc_xml(name, wh, boxes))


FORMS: list[Callable[[Path], None]] = [
    coco_in_folders,
    coco_below_images,
    coco_from_the_root,
    coco_of_roboflow,
    yolo_of_roboflow,
    yolo_of_ultralytics,
    yolo_without_paths,
    yolo_with_lists,
    voc_devkit,
    voc_of_roboflow,
]


def zipped(folder: Path, top: str = "", windows: bool = False) -> Path:
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._data.yaml", b"\0\5\x16\7")
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = f"{top}{file.relative_to(folder)}"
                info = zipfile.ZipInfo(name)
                if windows:
                    info.filename = name.replace("/", "\\")
                archive.writestr(info, file.read_bytes())
    return path


def as_lists(data: LabelledObjects) -> dict[str, tuple[tuple[int, int], list[Box]]]:
    """Return what a split says, in the form of `Split`."""
    names = {row["id"]: row["name"] for row in data.dataset["categories"]}
    found: dict[Any, Any] = {
        row["id"]: (Path(row["file_name"]).name, ((row["width"], row["height"]), [])) for row in data.dataset["images"]
    }
    for row in data.dataset["annotations"]:
        x, y, w, h = (round(value, 6) for value in row["bbox"])
        found[row["image_id"]][1][1].append((names[row["category_id"]], x, y, round(x + w, 6), round(y + h, 6)))
    return dict(found.values())


# Each form


@pytest.mark.parametrize("pack", ["folder", "zip", "zip of a folder", "zip of windows"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_each_form(tmp_path: Path, form: Callable[[Path], None], pack: str) -> None:
    path = tmp_path / "set"
    form(path)
    if pack != "folder":
        path = zipped(path, "my set/" if pack == "zip of a folder" else "", pack == "zip of windows")
    assert object_splits(path) == ("train", "val")
    for split, pictures in CONTENT.items():
        data = open_objects(path, split)
        assert as_lists(data) == pictures
        assert (data.path, data.split, data.notes) == (path, split, ())
        assert [row["id"] for row in data.dataset["annotations"]] == list(
            range(1, 1 + sum(len(b) for _, b in pictures.values()))
        )
        for row in data.dataset["annotations"]:
            assert row["iscrowd"] == 0 and row["area"] == pytest.approx(row["bbox"][2] * row["bbox"][3])
        with data.reader() as read:
            for row in data.dataset["images"]:
                image = cv2.imdecode(np.frombuffer(read(row["file_name"]), np.uint8), cv2.IMREAD_COLOR)
                assert image.shape[1::-1] == (row["width"], row["height"])


@pytest.mark.parametrize("asked", ["val", "valid", "validation", "VAL"])
def test_a_split_has_several_names(tmp_path: Path, asked: str) -> None:
    coco_below_images(tmp_path)
    assert open_objects(tmp_path, asked).split == "val"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_split_that_is_not_there(tmp_path: Path, form: Callable[[Path], None]) -> None:
    form(tmp_path)
    with pytest.raises(InputError, match="split 'test'; found train, val"):
        open_objects(tmp_path, "test")
    with pytest.raises(InputError, match="'all': expected one of train, val, test"):
        open_objects(tmp_path, "all")


def test_what_is_no_data_set(tmp_path: Path) -> None:
    for name, says in {"none": "it is not there", "none.zip": "it is not there"}.items():
        with pytest.raises(InputError, match=says):
            object_splits(tmp_path / name)
    with pytest.raises(InputError, match="found none of them"):
        object_splits(tmp_path)
    put(tmp_path / "a.txt", "x")
    with pytest.raises(InputError, match="another kind of file"):
        object_splits(tmp_path / "a.txt")
    put(tmp_path / "a.zip", "PK no zip")
    with pytest.raises(InputError, match="expected a .zip file"):
        object_splits(tmp_path / "a.zip")


def test_a_classifiers_tree_is_no_set_of_objects(tmp_path: Path) -> None:
    put_picture(tmp_path / "train" / "car" / "a.jpg", (8, 8))
    put_picture(tmp_path / "val" / "car" / "a.jpg", (8, 8))
    with pytest.raises(InputError, match="found none of them"):
        object_splits(tmp_path)


# What lies outside is not read


def test_names_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    put_picture(tmp_path / "secret.jpg", (9, 9))
    put_picture(tmp_path / "set" / "in.jpg", (9, 9))
    row = {"width": 9, "height": 9}
    images = [
        {"id": i, "file_name": n, **row}
        for i, n in enumerate(["../secret.jpg", str(tmp_path / "secret.jpg"), "in.jpg"])
    ]
    dataset = {"images": images, "annotations": [], "categories": []}
    put(tmp_path / "set" / "annotations" / "instances_train.json", json.dumps(dataset))
    data = open_objects(tmp_path / "set", "train")
    assert [row["file_name"] for row in data.dataset["images"]] == ["in.jpg"]
    assert data.notes == (f"pictures that are not there, left out: 2 (../secret.jpg, {tmp_path / 'secret.jpg'})",)
    with data.reader() as read:
        assert read("in.jpg")
        for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "none.jpg", ""):
            with pytest.raises(InputError, match="is not there"):
                read(name)


def test_yolo_paths_stay_inside(tmp_path: Path) -> None:
    put_picture(tmp_path / "other" / "images" / "a.jpg", (9, 9))
    put(tmp_path / "other" / "labels" / "a.txt", "0 .5 .5 .1 .1")
    put_picture(tmp_path / "set" / "labels" / "x.jpg", (9, 9))
    put(tmp_path / "set" / "data.yaml", f"train: [../other/images, {tmp_path}/other/images]\nnames: [a]")
    with pytest.raises(InputError, match="found none of them"):
        object_splits(tmp_path / "set")


def test_zip_members_that_lead_out_are_not_taken_up(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (
            "../train/images/a.jpg",
            "/train/images/b.jpg",
            "train/images/../images/c.jpg",
            "train/images/d.jpg",
        ):
            archive.writestr(name, encoded((9, 9)))
        archive.writestr("train/labels/d.txt", "0 .5 .5 .1 .1")
        archive.writestr("data.yaml", "names: [a]")
    assert list(as_lists(open_objects(tmp_path / "a.zip", "train"))) == ["d.jpg"]


def test_links_in_circles_end(tmp_path: Path) -> None:
    yolo_of_roboflow(tmp_path / "set")
    os.symlink(tmp_path / "set", tmp_path / "set" / "train" / "images" / "again")
    assert as_lists(open_objects(tmp_path / "set", "train")) == TRAIN


def test_a_linked_folder_of_pictures(tmp_path: Path) -> None:
    yolo_of_roboflow(tmp_path / "set")
    (tmp_path / "set" / "train" / "images").rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "train" / "images")
    assert as_lists(open_objects(tmp_path / "set", "train")) == TRAIN


# What is mended and left out


def yolo_set(
    root: Path, labels: str | bytes, config: str = "names: [car, bus]", picture: bytes | None = None
) -> LabelledObjects:
    put(root / "data.yaml", config)
    put(root / "train" / "images" / "a.png", picture if picture is not None else encoded((100, 50), ".png"))
    put(root / "train" / "labels" / "a.txt", labels)
    return open_objects(root, "train")


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("0 1.6 0.5 0.2 0.2", "boxes wholly outside the picture, left out"),
        ("0 0.5 0.5 0 0.2", "boxes without area, left out"),
        ("0 0.5 0.5 -0.1 0.2", "boxes without area, left out"),
        ("0 nan 0.5 0.1 0.2", "boxes that are not finite numbers, left out"),
        ("0 0.5 inf 0.1 0.2", "boxes that are not finite numbers, left out"),
        ("2 0.5 0.5 0.1 0.2", "boxes of a class that is not listed, left out"),
        ("-1 0.5 0.5 0.1 0.2", "boxes of a class that is not listed, left out"),
        ("car 0.5 0.5 0.1 0.2", "lines of labels that are not understood, left out"),
        ("0.5 0.5 0.5 0.1 0.2", "lines of labels that are not understood, left out"),
        ("0 0.5 0.5 0.1", "lines of labels that are not understood, left out"),
        ("0 0.5 0.5 0.1 0.2 0.3", "lines of labels that are not understood, left out"),
    ],
)
def test_broken_boxes_are_left_out_and_noted(tmp_path: Path, line: str, note: str) -> None:
    data = yolo_set(tmp_path, f"1 0.5 0.5 0.2 0.2\n{line}\n")
    assert as_lists(data) == {"a.png": ((100, 50), [("bus", 40, 20, 60, 30)])}
    assert data.notes == (f"{note}: 1 (train/labels/a.txt line 2)",)


def test_a_box_that_sticks_out_is_clipped(tmp_path: Path) -> None:
    data = yolo_set(tmp_path, "0 0 0.5 0.4 0.2\n1 0.996 0.5 0.01 0.2")
    # The second sticks out by a tenth of a pixel: rounding, not worth a word.
    assert as_lists(data)["a.png"][1] == [("car", 0, 20, 20, 30), ("bus", 99.1, 20, 100, 30)]
    assert data.notes == ("boxes partly outside the picture, clipped: 1 (train/labels/a.txt line 1)",)


def test_key_points_are_no_polygon(tmp_path: Path) -> None:
    config = "names: [car]\nkpt_shape: [2, 2]"
    assert as_lists(yolo_set(tmp_path, "0 .5 .5 .2 .2 .1 .1 .9 .9", config))["a.png"][1] == [("car", 40, 20, 60, 30)]


def test_names_may_be_missing_where_their_number_is_given(tmp_path: Path) -> None:
    assert as_lists(yolo_set(tmp_path, "1 .5 .5 .2 .2", "nc: 2"))["a.png"][1] == [("1", 40, 20, 60, 30)]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("names: {a: b}", "expected numbers before"),
        ("names: {-1: b}", "as a list or as number"),
        ("names: 7", "as a list or as number"),
        ("names: [[a, b]]", "as a list or as number"),
        ("train: x", "expected `names:`"),
        ("names: [a", "expected YAML"),
        ("names: [a]\ntrain: {a: b}", "expected a path or a list of paths"),
        ("names: [a]\ntrain: [[a]]", "expected a path or a list of paths"),
        ("? [a]\n: b\n? {c: d}\n: e", "expected YAML"),
        ("[" * 100_000, "expected YAML"),
    ],
)
def test_a_broken_data_yaml(tmp_path: Path, config: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        yolo_set(tmp_path, "0 .5 .5 .2 .2", config)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_tags_of_yaml_run_nothing(tmp_path: Path) -> None:
    config = f"names: !!python/object/apply:os.mkdir ['{tmp_path}/made']"
    assert as_lists(yolo_set(tmp_path, "0 .5 .5 .2 .2", config))["a.png"][1][0][0] == f"{tmp_path}/made"
    assert not (tmp_path / "made").exists()


def test_aliases_of_yaml_do_not_grow(tmp_path: Path) -> None:
    """Thirty lines that stand for 10 to the 29th names."""
    levels = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 30)]
    bomb = "x0: &x0 [y]\n" + "\n".join(levels)
    for use in ("names: *x29", "names: [a]\ntrain: *x29"):
        with pytest.raises(InputError, match=r"as a list or as number|a path or a list of paths") as raised:
            yolo_set(tmp_path, "", f"{bomb}\n{use}")
        assert len(str(raised.value)) < 600
    with pytest.raises(InputError, match="expected YAML"):
        yolo_set(tmp_path, "", "names: &a [*a]")


def test_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"needs PyYAML; install it with: .*\[evaluate\]"):
        yolo_set(tmp_path, "0 .5 .5 .2 .2")
    coco_below_images(tmp_path / "coco")
    assert object_splits(tmp_path / "coco") == ("train", "val")


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    put_picture(tmp_path / "train" / "images" / "b.jpg", (9, 9))
    put(tmp_path / "train" / "images" / "c.jpg", "")
    data = yolo_set(tmp_path, "0 .5 .5 .2 .2", picture=b"no picture")
    assert list(as_lists(data)) == ["b.jpg"]
    assert data.notes == ("pictures that cannot be read, left out: 2 (train/images/a.png, train/images/c.jpg)",)
    (tmp_path / "train" / "images" / "b.jpg").unlink()
    with pytest.raises(InputError, match="expected pictures in split 'train'; pictures that cannot be read"):
        open_objects(tmp_path, "train")


def test_listed_pictures_that_are_not_there(tmp_path: Path) -> None:
    put(tmp_path / "train.txt", "\ufeff./train/images/a.png\ntrain/images/none.png\n../../etc/passwd\n")
    data = yolo_set(tmp_path, "", "names: [a]\ntrain: train.txt")
    assert data.notes == ("pictures that are not there, left out: 2 (train/images/none.png, ../../etc/passwd)",)


def coco_set(root: Path, **changes: Any) -> LabelledObjects:
    dataset = json.loads(coco_json({"a.jpg": ((80, 60), [("car", 8, 6, 40, 30)])})) | changes
    put(root / "train" / "_annotations.coco.json", json.dumps(dataset))
    put_picture(root / "train" / "a.jpg", (80, 60))
    return open_objects(root, "train")


def test_broken_rows_of_coco(tmp_path: Path) -> None:
    boxes: list[Any] = [
        [0, 0, 9, 9],
        [0, 0, 9],
        [float("nan"), 0, 9, 9],
        "box",
        [10**400, 0, 9, 9],
        [10**308, 0, 10**308, 9],
    ]
    rows: list[dict[str, Any]] = [{"image_id": 7, "category_id": 0, "bbox": box, "area": 10**400} for box in boxes]
    rows += [
        {"image_id": 99, "category_id": 0, "bbox": [0, 0, 9, 9]},
        {"image_id": 7, "category_id": 50, "bbox": [0, 0, 9, 9]},
    ]
    rows[0] |= {"id": "first", "iscrowd": 1}
    rows[1] |= {"id": 0}
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}, {"id": 8, "file_name": "gone.jpg"}]
    data = coco_set(tmp_path, annotations=rows, images=images)
    (row,) = data.dataset["annotations"]
    assert row == {"id": 1, "image_id": 7, "category_id": 0, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1}
    assert data.notes == (
        "pictures without a size in the annotations, read from the files: 1 (train/a.jpg)",
        "pictures that are listed twice, once left out: 1 (b.jpg)",
        "pictures that are not there, left out: 1 (gone.jpg)",
        "boxes that are not finite numbers, left out: 5 (_annotations.coco.json annotations[1], "
        "_annotations.coco.json annotations[2], _annotations.coco.json annotations[3], ...)",
        "boxes of pictures that are not listed, left out: 1 (_annotations.coco.json annotations[6])",
        "boxes of a class that is not listed, left out: 1 (_annotations.coco.json annotations[7])",
    )


def test_the_area_of_a_mask_is_kept(tmp_path: Path) -> None:
    row = {"image_id": 7, "category_id": 0, "bbox": [0, 0, 9, 9], "area": 50}
    assert coco_set(tmp_path, annotations=[row]).dataset["annotations"][0]["area"] == 50


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"annotations": 3}, "found no list 'annotations'"),
        ({"images": []}, "lists no image"),
        ({"images": [{"id": 1}]}, r"images\[0\] has no file_name"),
        ({"categories": [{"id": "x", "name": "y"}]}, r"categories\[0\].id"),
        ({"images": [{"id": 1, "file_name": "none.jpg"}]}, "none of them is there"),
    ],
)
def test_broken_coco(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        coco_set(tmp_path, **changes)


def voc_set(root: Path, xml: str | bytes) -> LabelledObjects:
    put(root / "Annotations" / "a.xml", xml)
    put_picture(root / "JPEGImages" / "a.jpg", (80, 60))
    return open_objects(root, "train")


def test_voc_counts_from_one_and_difficult_is_a_crowd(tmp_path: Path) -> None:
    data = voc_set(tmp_path, voc_xml("a.jpg", (80, 60), [("car", 0, 0, 80, 60)], "<difficult>1</difficult>"))
    (row,) = data.dataset["annotations"]
    assert (row["bbox"], row["iscrowd"], data.notes) == ([0, 0, 80, 60], 1, ())


def test_voc_without_sizes_or_a_name(tmp_path: Path) -> None:
    corners = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    xml = f"<annotation><object><name>car</name><bndbox>{corners}</bndbox></object></annotation>"
    data = voc_set(tmp_path, xml)
    assert as_lists(data) == {"a.jpg": ((80, 60), [("car", 0, 0, 9, 9)])}
    assert data.notes == ("pictures without a size in the annotations, read from the files: 1 (JPEGImages/a.jpg)",)


def test_broken_voc(tmp_path: Path) -> None:
    put(tmp_path / "Annotations" / "b.xml", "<annotation>")
    put(tmp_path / "Annotations" / "c.xml", voc_xml("c.jpg", (9, 9), []))
    bad = "<object><name>car</name></object><object><bndbox><xmin>x</xmin></bndbox></object>"
    data = voc_set(
        tmp_path,
        voc_xml("../../a.jpg", (80, 60), [("car", 0, 0, 9, 9)]).replace("</annotation>", f"{bad}</annotation>"),
    )
    assert as_lists(data) == {"a.jpg": ((80, 60), [("car", 0, 0, 9, 9)])}
    assert data.notes == (
        "boxes that are not finite numbers, left out: 1 (Annotations/a.xml object 2)",
        "boxes of a class that is not listed, left out: 1 (Annotations/a.xml object 3)",
        "files of labels that cannot be read, their pictures left out: 1 (Annotations/b.xml)",
        "pictures that are not there, left out: 1 (c.jpg)",
    )


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;&x;">]>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://localhost/a.dtd">',
    ],
)
def test_xml_with_a_doctype_is_refused(tmp_path: Path, doctype: str) -> None:
    with pytest.raises(InputError, match="a.xml has a DOCTYPE"):
        voc_set(tmp_path, doctype + voc_xml("a.jpg", (80, 60), [("&x;", 0, 0, 9, 9)]))


def test_deep_xml(tmp_path: Path) -> None:
    data = voc_set(tmp_path, "<annotation>" + "<object>" * 50_000 + "</object>" * 50_000 + "</annotation>")
    assert as_lists(data) == {"a.jpg": ((80, 60), [])}


def test_a_broken_member_of_a_zip(tmp_path: Path) -> None:
    yolo_of_roboflow(tmp_path / "set")
    path = zipped(tmp_path / "set")
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("train/labels/a.txt").header_offset + 40
    put(path, data[:start] + b"\xff" * 30 + data[start + 30 :])
    with pytest.raises(InputError, match=r"train/labels/a\.txt cannot be read"):
        open_objects(path, "train")


# Sizes from headers


def with_orientation(jpeg: bytes, orientation: int, order: str = ">") -> bytes:
    mark = b"MM" if order == ">" else b"II"
    tiff = mark + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(10))
def test_exif_turns_a_picture_as_the_decoder_does(tmp_path: Path, orientation: int, order: str) -> None:
    data = with_orientation(encoded((80, 60)), orientation, order)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert header_wh(data) in (None, decoded.shape[1::-1])
    assert (header_wh(data) is None) == (orientation not in range(1, 9))
    row = yolo_set(tmp_path, "0 .5 .5 .2 .2", picture=data).dataset["images"][0]
    assert (row["width"], row["height"]) == decoded.shape[1::-1]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("wh", [(1, 1), (7, 300), (300, 7), (4097, 3)])
def test_a_header_says_what_the_decoder_gives(suffix: str, wh: tuple[int, int]) -> None:
    assert header_wh(encoded(wh, suffix)) == wh


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind the pixels"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_turns_a_png_as_the_decoder_does(tmp_path: Path, orientation: int, behind: bool) -> None:
    exif = with_orientation(b"\xff\xd8", orientation)[12:]
    kind = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + kind + struct.pack(">I", zlib.crc32(kind))
    png = encoded((80, 60), ".png")
    place = len(png) - 12 if behind else 33  # before IEND, or behind IHDR
    picture = png[:place] + chunk + png[place:]
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    row = yolo_set(tmp_path, "", picture=picture).dataset["images"][0]
    assert (row["width"], row["height"]) == decoded.shape[1::-1]


def test_a_split_without_a_single_txt_is_not_labelled(tmp_path: Path) -> None:
    yolo_of_roboflow(tmp_path)
    put_picture(tmp_path / "test" / "images" / "t.jpg", (9, 9))
    assert object_splits(tmp_path) == ("train", "val")


def test_other_kinds_of_pictures(tmp_path: Path) -> None:
    progressive = cv2.imencode(".jpg", np.zeros((50, 70, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    lossless = cv2.imencode(".webp", np.zeros((50, 70, 4), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    padded = encoded((70, 50))[:2] + (b"\xff\xe2\xff\xff" + b"\0" * 65533) * 2 + encoded((70, 50))[2:]
    assert header_wh(progressive) == header_wh(lossless) == header_wh(padded) == (70, 50)
    assert header_wh(padded[: 1 << 16]) is None
    for picture in (padded, encoded((70, 50), ".tiff"), encoded((70, 50), ".ppm")):
        assert yolo_set(tmp_path, "0 .5 .5 .2 .2", picture=picture).dataset["images"][0]["width"] == 70


@FUZZ
@given(
    st.sampled_from([encoded((70, 50), suffix) for suffix in (".jpg", ".png", ".bmp", ".webp")]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255))),
    st.integers(0, 400),
)
def test_a_broken_header_ends(data: bytes, changes: list[tuple[int, int]], length: int) -> None:
    broken = bytearray(data)
    for place, value in changes:
        if place < len(broken):
            broken[place] = value
    for candidate in (bytes(broken), bytes(broken[:length])):
        found = header_wh(candidate)
        assert found is None or min(found) > 0


# Noise


def reads_or_refuses(path: Path) -> None:
    """Whatever is read makes sense; whatever is not is refused in one line."""
    try:
        for split in object_splits(path):
            data = open_objects(path, split)
            sizes = {row["id"]: (row["width"], row["height"]) for row in data.dataset["images"]}
            names = {row["id"] for row in data.dataset["categories"]}
            for row in data.dataset["annotations"]:
                x, y, w, h = row["bbox"]
                width, height = sizes[row["image_id"]]
                assert 0 <= x < width and 0 <= y < height and 0 < w <= width and 0 < h <= height
                assert row["category_id"] in names
            json.dumps(data.dataset, allow_nan=False).encode()
            "".join(data.notes).encode()
    except InputError as error:
        assert "\n" not in str(error)


numbers = st.one_of(
    st.floats().map(str),
    st.integers(-3, 3).map(str),
    st.sampled_from(["0.5", ".25", "1e400", "1_0", "x", "0x1", "", "١"]),
)


@FUZZ
@given(st.one_of(st.binary(), st.lists(st.lists(numbers, max_size=9).map(" ".join)).map("\n".join)))
def test_noise_in_a_txt(tmp_path_factory: pytest.TempPathFactory, labels: str | bytes) -> None:
    root = tmp_path_factory.getbasetemp() / "noise-txt"
    try:
        yolo_set(root, labels)
    except InputError:
        pytest.fail("a line is never a reason to refuse a set")
    reads_or_refuses(root)


words = st.sampled_from(
    ["names", "nc", "path", "train", "val", "train/images", "..", "/", "C:\\x", "[", "]", "{", "}", ":", " ", "\n",
     "- ", ",", "&a", "*a", "!!int", "'", '"', "0", "1", "-1", "car", "|", ">", "? ", "<<", "#", "\t", "~", "é",
     "\ud83d", "\0", "%"]
)  # fmt: skip


@FUZZ
@given(st.one_of(st.binary(), st.lists(words).map("".join).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_noise_in_a_yaml(tmp_path_factory: pytest.TempPathFactory, config: bytes) -> None:
    root = tmp_path_factory.getbasetemp() / "noise-yaml"
    for start in (b"", b"names: [car]\n", b"names:\n  "):
        put(root / "data.yaml", start + config)
        put_picture(root / "train" / "images" / "a.jpg", (9, 9))
        put(root / "train" / "labels" / "a.txt", "0 .5 .5 .2 .2")
        reads_or_refuses(root)


tags = st.sampled_from(
    ["<annotation>", "</annotation>", "<object>", "</object>", "<name>", "</name>", "<bndbox>", "</bndbox>", "<xmin>",
     "</xmin>", "<size>", "</size>", "<width>", "</width>", "<filename>", "</filename>", "<!DOCTYPE a>", "<!-- -->",
     "<![CDATA[", "]]>", "&amp;", "&x;", "&#0;", "<?xml version='1.0' encoding='utf-16'?>", "../a.jpg", "7", "nan",
     "car", "a.jpg", "<a b='c'/>", "\ud83d"]
)  # fmt: skip


@FUZZ
@given(st.one_of(st.binary(), st.lists(tags).map("".join).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_noise_in_an_xml(tmp_path_factory: pytest.TempPathFactory, xml: bytes) -> None:
    root = tmp_path_factory.getbasetemp() / "noise-xml"
    for data in (xml, b"<annotation>" + xml + b"</annotation>"):
        put(root / "Annotations" / "a.xml", data)
        put_picture(root / "JPEGImages" / "a.jpg", (9, 9))
        reads_or_refuses(root)


@FUZZ
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from("id file_name width height image_id category_id bbox area iscrowd name".split()), inner
            )
        ),
    ),
    st.sampled_from(["images", "annotations", "categories", "image", "box", "category"]),
)
def test_noise_in_coco(tmp_path_factory: pytest.TempPathFactory, value: Any, place: str) -> None:
    root = tmp_path_factory.getbasetemp() / "noise-coco"
    dataset = json.loads(coco_json({"a.jpg": ((9, 9), [("car", 0, 0, 5, 5)])}))
    if place in dataset:
        dataset[place] = value
    else:
        row = {"image": "images", "box": "annotations", "category": "categories"}[place]
        dataset[row][0] |= value if isinstance(value, dict) else {"bbox": value, "width": value, "area": value}
    put(root / "train" / "_annotations.coco.json", json.dumps(dataset))
    put_picture(root / "train" / "a.jpg", (9, 9))
    reads_or_refuses(root)


# Real sets


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("highway_320", {"train": (1703, 3851), "val": (481, 844), "test": (241, 521)}),
        ("vn_traffic_cctv", {"train": (576, 6057), "val": (108, 1007)}),
        ("vehicles_openimages_320", {"train": (439, 838), "val": (125, 227), "test": (63, 129)}),
        ("tiny_coco_416", {"train": (50, 470), "val": (50, 382)}),
    ],
)
def test_real_sets(shared_data: Callable[[str], Path], name: str, counts: dict[str, tuple[int, int]]) -> None:
    path = shared_data(f"det/{name}.zip")
    assert object_splits(path) == tuple(counts)
    for split, (images, boxes) in counts.items():
        data = open_objects(path, split)
        assert (len(data.dataset["images"]), len(data.dataset["annotations"])) == (images, boxes)
        assert data.notes == ()
        with data.reader() as read:
            for row in data.dataset["images"]:
                assert header_wh(read(row["file_name"])) == (row["width"], row["height"])


def test_a_real_set_in_other_forms(tiny_coco: Path, tmp_path: Path) -> None:
    """What COCO says of 50 real pictures, YOLO and VOC say as well."""
    truth = open_objects(tiny_coco, "val")
    names = {row["id"]: row["name"] for row in truth.dataset["categories"]}
    order = list(names)
    put(tmp_path / "yolo" / "data.yaml", json.dumps({"names": list(names.values())}))
    with truth.reader() as read:
        for image in truth.dataset["images"]:
            w, h, stem = image["width"], image["height"], Path(image["file_name"]).stem
            boxes = [row for row in truth.dataset["annotations"] if row["image_id"] == image["id"]]
            lines, rows = [], []
            for row in boxes:
                x, y, bw, bh = row["bbox"]
                lines.append(
                    f"{order.index(row['category_id'])} {(x + bw / 2) / w} {(y + bh / 2) / h} {bw / w} {bh / h}"
                )
                rows.append((names[row["category_id"]], x, y, x + bw, y + bh))
            for folder in (tmp_path / "yolo" / "valid" / "images", tmp_path / "voc" / "valid"):
                put(folder / f"{stem}.jpg", read(image["file_name"]))
            put(tmp_path / "yolo" / "valid" / "labels" / f"{stem}.txt", "\n".join(lines))
            put(tmp_path / "voc" / "valid" / f"{stem}.xml", voc_xml(f"{stem}.jpg", (w, h), rows))
    for form in ("yolo", "voc"):
        found, expected = as_lists(open_objects(tmp_path / form, "val")), as_lists(truth)
        assert found.keys() == expected.keys()
        for name, (wh, boxes) in expected.items():
            assert found[name][0] == wh
            assert [box[0] for box in found[name][1]] == [box[0] for box in boxes]
            got = np.array([box[1:] for box in found[name][1]]).reshape(-1, 4)
            np.testing.assert_allclose(got, np.array([box[1:] for box in boxes]).reshape(-1, 4), atol=1e-4)


def test_an_annotation_numbered_zero_among_odd_ones(tmp_path: Path) -> None:
    """An id of 0 would never count as found; ids that are no numbers do not hinder that it is changed."""
    rows = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]} for i in ("x", 0, 5)]
    dataset = {"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1, "name": "b"}], "annotations": rows}
    put(tmp_path / "a.json", json.dumps(dataset))
    assert [row["id"] for row in load_instances(tmp_path / "a.json")["annotations"]] == [1, 2, 3]


def test_an_empty_zip(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    put(tmp_path / "a.zip", buffer.getvalue())
    with pytest.raises(InputError, match="found none of them"):
        object_splits(tmp_path / "a.zip")
