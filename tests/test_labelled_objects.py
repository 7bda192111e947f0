"""Labelled objects of every form, as a folder and as a .zip, whole and broken."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import SharedData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import InputError, MissingDependencyError
from edge.labelled.objects import LabelledObjects, object_splits, open_objects
from edge.labelled.objects.header import header_wh
from edge.sources.images import decode_image

W, H = 80, 40
PIXELS = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
XML = """<annotation><folder>x</folder><filename>{name}</filename>
<size><width>80</width><height>40</height><depth>3</depth></size>
<object><name>{label}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>
</annotation>"""

Box = tuple[str, str, list[float], int]


def put(root: Path, files: dict[str, str | bytes | None]) -> Path:
    """Write text and bytes; None is a picture of 80 x 40."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            assert cv2.imwrite(str(path), PIXELS)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def zipped(root: Path) -> Path:
    return Path(shutil.make_archive(str(root), "zip", root))


def xml(name: str, label: str = "dog", box: tuple[Any, ...] = (11, 6, 30, 25), difficult: int = 0) -> str:
    return XML.format(name=name, label=label, box=box, difficult=difficult)


def coco(file_name: str, bbox: Any = (10, 5, 20, 20), **more: Any) -> str:
    """COCO instances of one picture with one dog."""
    dataset = {
        "images": [{"id": 7, "file_name": file_name, "width": W, "height": H}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [{"id": 0, "image_id": 7, "category_id": 18, "bbox": list(bbox)}],
    }
    return json.dumps(dataset | more)


def boxes(data: LabelledObjects) -> list[Box]:
    """Return picture, class, box and crowd of each annotation."""
    name = {row["id"]: row["name"] for row in data.dataset["categories"]}
    file = {row["id"]: row["file_name"] for row in data.dataset["images"]}
    rows = data.dataset["annotations"]
    return [(file[r["image_id"]], name[r["category_id"]], r["bbox"], r["iscrowd"]) for r in rows]


YAML = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['car', 'dog']\n"
ROBOFLOW_YOLO = {
    "data.yaml": YAML + "roboflow:\n  workspace: w\n  license: CC BY 4.0\n",
    "README.roboflow.txt": "x",
    "train/images/a_jpg.rf.1.jpg": None,
    "train/labels/a_jpg.rf.1.txt": "1 0.25 0.375 0.25 0.5",
    "train/images/b.jpg": None,
    "valid/images/v.png": None,
    "valid/labels/v.txt": "1 0.125 0.125 0.375 0.125 0.375 0.625 0.125 0.625\n",
}
ULTRALYTICS = {
    "coco8.yaml": "path: ../datasets/coco8 # root\ntrain: images/train\nval: [images/val]\ntest: # optional\n"
    "names:\n  0: car\n  1: dog\n\ndownload: https://x/coco8.zip\n",
    "images/train/a.jpg": None,
    "labels/train/a.txt": "1 0.25 0.375 0.25 0.5",
    "images/train/b.jpg": None,
    "labels/train/b.txt": "",
    "images/val/v.jpg": None,
    "labels/val/v.txt": "1 0.25 0.375 0.25 0.5",
    "labels/train.cache": "x",
}
LISTS = {
    "data.yaml": "path: .\ntrain: train.txt\nval: lists/val.txt\nnames: {0: car, 1: dog}",
    "train.txt": "./images/a.jpg\n/content/drive/x/images/b.jpg\n",
    "lists/val.txt": "../images/v.jpg\n",
    "images/a.jpg": None,
    "labels/a.txt": "1 0.25 0.375 0.25 0.5",
    "images/b.jpg": None,
    "images/v.jpg": None,
    "labels/v.txt": "1 0.25 0.375 0.25 0.5",
}
VOC = {
    "VOCdevkit/VOC2007/Annotations/a.xml": xml("a.jpg"),
    "VOCdevkit/VOC2007/Annotations/b.xml": "<annotation><filename>b.jpg</filename></annotation>",
    "VOCdevkit/VOC2007/Annotations/v.xml": xml("v.jpg"),
    "VOCdevkit/VOC2007/JPEGImages/a.jpg": None,
    "VOCdevkit/VOC2007/JPEGImages/b.jpg": None,
    "VOCdevkit/VOC2007/JPEGImages/v.jpg": None,
    "VOCdevkit/VOC2007/ImageSets/Main/train.txt": "a\nb\n",
    "VOCdevkit/VOC2007/ImageSets/Main/val.txt": "v\n",
    "VOCdevkit/VOC2007/ImageSets/Main/dog_val.txt": "a  1\n",
}
ROBOFLOW_VOC = {
    "train/a.jpg": None,
    "train/a.xml": xml("a.jpg"),
    "train/b.jpg": None,
    "train/b.xml": "<annotation><filename>b.jpg</filename></annotation>",
    "valid/v.jpg": None,
    "valid/v.xml": xml("v.jpg"),
}
TWO = [{"id": 7, "file_name": "a.jpg", "width": W, "height": H}, {"id": 8, "file_name": "b.jpg"}]
ROBOFLOW_COCO = {
    "train/_annotations.coco.json": coco("a.jpg", images=TWO),
    "train/a.jpg": None,
    "train/b.jpg": None,
    "valid/_annotations.coco.json": coco("v.jpg"),
    "valid/v.jpg": None,
}
COCO_2017 = {
    "tiny/annotations/instances_train2017.json": coco("a.jpg", images=TWO),
    "tiny/annotations/instances_val2017.json": coco("v.jpg"),
    "tiny/annotations/captions_val2017.json": "{}",
    "tiny/train2017/a.jpg": None,
    "tiny/train2017/b.jpg": None,
    "tiny/val2017/v.jpg": None,
}
COCO_IMAGES = {
    "annotations/instances_train.json": coco("train/a.jpg", images=[{**TWO[0], "file_name": "train/a.jpg"}, TWO[1]]),
    "annotations/instances_valid.json": coco("images/valid/v.jpg"),
    "images/train/a.jpg": None,
    "images/b.jpg": None,
    "images/valid/v.jpg": None,
    "__MACOSX/images/._b.jpg": b"x",
    ".DS_Store": b"x",
}
FORMS = {
    "Roboflow YOLO": ROBOFLOW_YOLO,
    "Ultralytics": ULTRALYTICS,
    "lists of pictures": LISTS,
    "Pascal VOC": VOC,
    "Roboflow VOC": ROBOFLOW_VOC,
    "Roboflow COCO": ROBOFLOW_COCO,
    "COCO 2017": COCO_2017,
    "COCO in images": COCO_IMAGES,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pack", [lambda root: root, zipped], ids=["folder", "zip"])
def test_every_form(tmp_path: Path, form: str, pack: Callable[[Path], Path]) -> None:
    path = pack(put(tmp_path / "set", FORMS[form]))
    assert object_splits(path) == ("train", "val")
    train, val = open_objects(path, "train"), open_objects(path, "validation")
    assert (train.path, train.split, val.split) == (path, "train", "val")
    assert [Path(row["file_name"]).name[0] for row in train.dataset["images"]] == ["a", "b"]
    assert {(row["width"], row["height"]) for row in train.dataset["images"] + val.dataset["images"]} == {(W, H)}
    for data in (train, val):
        ((file, name, box, crowd),) = boxes(data)
        assert (Path(file).name[0], name, crowd) == ("v" if data is val else "a", "dog", 0)
        assert box == pytest.approx([10, 5, 20, 20])
        assert [row["id"] for row in data.dataset["annotations"]] == [1]
        assert data.dataset["annotations"][0]["area"] == pytest.approx(400)
        with data.reader() as read:
            for row in data.dataset["images"]:
                assert decode_image(read(row["file_name"]), "it").shape == (H, W, 3)
            for name in ("nothing.jpg", "../set.zip", "/etc/hostname", str(path / "train" / "a.jpg")):
                with pytest.raises(InputError, match="is not there"):
                    read(name)
    assert not val.notes and not [note for note in train.notes if "read from the files" not in note]
    with pytest.raises(InputError, match=r"split 'test'; found train, val"):
        open_objects(path, "test")
    with pytest.raises(InputError, match="one of train, val, test"):
        open_objects(path, "all")


def test_difficult_is_left_open(tmp_path: Path) -> None:
    put(tmp_path, {"train/a.jpg": None, "train/a.xml": xml("other name.jpg", difficult=1)})
    assert [box[3] for box in boxes(open_objects(tmp_path, "train"))] == [1]


def test_voc_that_is_not_split_is_train(tmp_path: Path) -> None:
    put(tmp_path, {"JPEGImages/a.jpg": None, "Annotations/a.xml": xml("a.jpg")})
    assert object_splits(tmp_path) == ("train",)
    assert len(boxes(open_objects(tmp_path, "train"))) == 1


def test_a_class_may_be_called_no(tmp_path: Path) -> None:
    put(tmp_path, ROBOFLOW_YOLO | {"data.yaml": "train: train/images\nnames: [no, 1e3]"})
    names = [row["name"] for row in open_objects(tmp_path, "train").dataset["categories"]]
    assert names == ["no", "1e3"]


def test_points_of_a_pose_are_not_a_polygon(tmp_path: Path) -> None:
    label = "1 0.25 0.375 0.25 0.5 0.1 0.1 0.9 0.9 0.1 0.1"
    yaml = {"data.yaml": YAML + "kpt_shape: [3, 2]\n", "train/labels/a_jpg.rf.1.txt": label}
    put(tmp_path, ROBOFLOW_YOLO | yaml)
    assert boxes(open_objects(tmp_path, "train"))[0][2] == pytest.approx([10, 5, 20, 20])


def test_a_split_without_labels_is_none(tmp_path: Path) -> None:
    put(tmp_path, ROBOFLOW_YOLO | {"test/images/t.jpg": None})
    assert object_splits(tmp_path) == ("train", "val")


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    put(tmp_path / "real", {"a.jpg": None})
    put(tmp_path / "set", {"data.yaml": "train: images\nnames: [dog]", "labels/a.txt": "0 0.5 0.5 1 1"})
    (tmp_path / "set" / "images").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "again").symlink_to(tmp_path / "real")
    assert [box[0] for box in boxes(open_objects(tmp_path / "set", "train"))] == ["images/a.jpg"]


# Broken boxes

_OUTSIDE, _EMPTY, _BROKEN = "wholly outside", "without area", "not finite numbers"
FAULTS = [
    ([100, 5, 20, 20], _OUTSIDE),
    ([10, 5, 0, 20], _EMPTY),
    ([10, 5, -3, 20], _EMPTY),
    ([float("nan"), 5, 20, 20], _BROKEN),
    ([float("inf"), 5, 20, 20], _BROKEN),
    ([60, 5, 40, 20], "clipped"),
]


def write_fault(root: Path, form: str, box: list[float]) -> Path:
    x, y, w, h = box
    if form == "yolo":
        line = f"0 {(x + w / 2) / W} {(y + h / 2) / H} {w / W} {h / H}"
        files = {"data.yaml": "train: images\nnames: [dog]", "images/a.jpg": None, "labels/a.txt": line}
    elif form == "voc":
        files = {"train/a.jpg": None, "train/a.xml": xml("a.jpg", box=(x + 1, y + 1, x + w, y + h))}
    else:
        files = {"annotations/instances_train.json": coco("a.jpg", box), "train/a.jpg": None}
    return put(root, files)


@pytest.mark.parametrize("form", ["yolo", "voc", "coco"])
@pytest.mark.parametrize(("box", "says"), FAULTS)
def test_broken_boxes_are_mended_or_left_out_and_noted(tmp_path: Path, form: str, box: list[float], says: str) -> None:
    data = open_objects(write_fault(tmp_path, form, box), "train")
    (note,) = data.notes
    assert says in note and ": 1 (" in note
    assert [row[2] for row in boxes(data)] == ([pytest.approx([60, 5, 20, 20])] if says == "clipped" else [])


def test_rounding_is_no_fault(tmp_path: Path) -> None:
    data = open_objects(write_fault(tmp_path, "yolo", [-0.4, 5, 20.4, 20]), "train")
    assert not data.notes and boxes(data)[0][2] == pytest.approx([0, 5, 20, 20])


def test_other_faults_are_noted(tmp_path: Path) -> None:
    lines = "5 0.5 0.5 0.1 0.1\n0 0.5\nx\n0 0.5 0.5 0.1 0.1 0.9\n-1 0.5 0.5 0.1 0.1\n0.5 0.5 0.5 0.1 0.1\n"
    put(tmp_path, ROBOFLOW_YOLO | {"train/labels/b.txt": lines, "train/images/c.jpg": b"no picture"})
    notes = open_objects(tmp_path, "train").notes
    assert [note.partition(" (")[0] for note in notes] == [
        "boxes of a class that is not listed, left out: 2",
        "lines of labels that are not understood, left out: 4",
        "pictures that cannot be read, left out: 1",
    ]


def test_faults_of_coco(tmp_path: Path) -> None:
    rows = [
        {"image_id": 7, "category_id": 99, "bbox": [1, 1, 5, 5]},
        {"image_id": 6, "category_id": 3, "bbox": [1, 1, 5, 5]},
        {"image_id": 7, "category_id": 3, "bbox": [1, 1, 5]},
        {"image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 10**400]},
        {"image_id": 7, "category_id": 3},
    ]
    images = [*TWO, {"id": 7, "file_name": "b.jpg"}, {"id": 9, "file_name": "../../gone.jpg"}]
    put(tmp_path, ROBOFLOW_COCO | {"train/_annotations.coco.json": coco("", images=images, annotations=rows)})
    data = open_objects(tmp_path, "train")
    assert [note.partition(" (")[0] for note in data.notes] == [
        "pictures without a size in the annotations, read from the files: 1",
        "pictures that are listed twice, once left out: 1",
        "pictures that are not there, left out: 1",
        "boxes of a class that is not listed, left out: 1",
        "boxes of pictures that are not listed, left out: 1",
        "boxes that are not finite numbers, left out: 3",
    ]
    assert not boxes(data) and len(data.dataset["images"]) == 2


def test_faults_of_voc(tmp_path: Path) -> None:
    broken = {"train/c.jpg": None, "train/c.xml": "<annotation><object>", "train/d.xml": xml("d.jpg")}
    notes = open_objects(put(tmp_path, ROBOFLOW_VOC | broken), "train").notes
    assert any("files of labels that cannot be read" in note and "train/c.xml" in note for note in notes)
    assert any("pictures that are not there" in note and "d.jpg" in note for note in notes)


# What is no data set


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"notes.txt": "x"}, "expected a data set of labelled objects"),
        ({"data.yaml": "names: [a"}, "expected YAML"),
        ({"data.yaml": "train: images"}, "expected `names:`"),
        ({"data.yaml": "names: {a: b}\ntrain: i", "i/a.jpg": None, "i/a.txt": ""}, "expected numbers before"),
        ({"data.yaml": "names: 7\ntrain: i", "i/a.jpg": None, "i/a.txt": ""}, "as a list or as number: name"),
        ({"data.yaml": "names: [a]\ntrain: {x: y}"}, "expected a path or a list of paths"),
        ({"annotations/instances_train.json": "{"}, "expected COCO instances JSON"),
        ({"annotations/instances_train.json": "[1]"}, "found a list at the top"),
        ({"annotations/instances_train.json": coco("gone.jpg")}, "none of them is there"),
        ({"train/a.jpg": None, "train/a.xml": '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}, "has a DOCTYPE"),
        ({"train/a.jpg": None, "train/a.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><a/>".encode("utf-16")}, "a DOCTYPE"),
        ({"train/a.xml": xml("a.jpg")}, "expected pictures in split 'train'; pictures that are not there"),
    ],
)
def test_what_is_no_data_set(tmp_path: Path, files: dict[str, str | bytes | None], says: str) -> None:
    for path in (put(tmp_path / "set", files), zipped(tmp_path / "set")):
        with pytest.raises(InputError, match=says) as raised:
            open_objects(path, "train")
        assert "\n" not in str(raised.value)


def test_no_zip_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK nonsense")
    (tmp_path / "a.yaml").write_text("names: [a]")
    for name, says in (("a.zip", "expected a .zip"), ("a.yaml", "another kind of file"), ("none", "is not there")):
        with pytest.raises(InputError, match=says):
            object_splits(tmp_path / name)


def test_a_cut_zip(tmp_path: Path) -> None:
    path = zipped(put(tmp_path / "set", ROBOFLOW_COCO))
    data = path.read_bytes()
    place = data.index(b"train/a.jpg") + 60
    path.write_bytes(data[:place] + bytes(40) + data[place + 40 :])
    with open_objects(path, "train").reader() as read, pytest.raises(InputError, match="cannot be read"):
        read("train/a.jpg")


def test_names_that_lead_out_of_a_zip_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("annotations/instances_train.json", coco("../../evil.jpg"))
        archive.writestr("../../evil.jpg", b"x")
        archive.writestr("train\\a.jpg", b"x")
    with pytest.raises(InputError, match="none of them is there"):
        open_objects(path, "train")


def test_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"edge-pipeline\[evaluate\]"):
        object_splits(put(tmp_path / "yolo", ROBOFLOW_YOLO))
    assert object_splits(put(tmp_path / "voc", ROBOFLOW_VOC)) == ("train", "val")


# Sizes from headers


def exif(orientation: int, order: str = "<") -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(f"{order}HHIHH", 0x112, 3, 1, orientation, 0)
    return head + struct.pack(f"{order}IH", 8, 1) + value + bytes(4)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encoded(suffix: str, *flags: int) -> bytes:
    return bytes(cv2.imencode(suffix, PIXELS, list(flags))[1])


PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
LOSSLESS = (cv2.IMWRITE_WEBP_QUALITY, 101)


@pytest.mark.parametrize(
    "data",
    [encoded(".jpg"), encoded(".jpg", *PROGRESSIVE), encoded(".png"), encoded(".bmp"), encoded(".webp"),
     encoded(".webp", *LOSSLESS)],
)  # fmt: skip
def test_a_header_gives_the_size(data: bytes) -> None:
    assert header_wh(data) == (W, H)
    assert header_wh(data[:20]) is None


@pytest.mark.parametrize("orientation", range(12))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_turns_the_size_as_the_decoder_does(tmp_path: Path, orientation: int, order: str) -> None:
    jpeg, png = encoded(".jpg"), encoded(".png")
    app1 = b"Exif\0\0" + exif(orientation, order)
    pictures = {
        "a.jpg": jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + jpeg[2:],
        "b.png": png[:33] + png_chunk(b"eXIf", exif(orientation, order)) + png[33:],
        "c.png": png[:-12] + png_chunk(b"eXIf", exif(orientation, order)) + png[-12:],
    }
    labels = {name[:1] + ".txt": "" for name in pictures}
    put(tmp_path, {"data.yaml": "train: .\nnames: [a]", **pictures, **labels})
    for row in open_objects(tmp_path, "train").dataset["images"]:
        expected = decode_image(pictures[row["file_name"]], "it").shape[1::-1]
        assert (row["width"], row["height"]) == expected, row["file_name"]


def test_a_long_way_to_the_size(tmp_path: Path) -> None:
    jpeg = encoded(".jpg")
    profile = b"\xff\xe2" + struct.pack(">H", 0xFFF0) + bytes(0xFFEE)
    put(tmp_path, {"data.yaml": "train: .\nnames: [a]", "a.jpg": jpeg[:2] + 3 * profile + jpeg[2:], "a.txt": ""})
    assert open_objects(tmp_path, "train").dataset["images"][0]["width"] == W


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF    WEBPVP8X"]))
def test_any_header(data: bytes, start: bytes) -> None:
    found = header_wh(start + data)
    assert found is None or min(found) > 0


# Nothing but InputError

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def survives(root: Path) -> None:
    try:
        for split in object_splits(root):
            data = open_objects(root, split)
            for _, _, (x, y, w, h), _ in boxes(data):
                assert 0 <= x < x + w <= W + 1e-6 and 0 <= y < y + h <= H + 1e-6
    except InputError as error:
        assert "\n" not in str(error)


NUMBERS = st.one_of(
    st.floats().map(str), st.integers(-3, 10**400).map(str), st.sampled_from(["0.5", "1", "0", "-", "1e999", "٣"])
)


@FUZZ
@given(st.one_of(st.binary(max_size=80), st.lists(st.lists(NUMBERS, max_size=9).map(" ".join)).map("\n".join)))
def test_any_txt(tmp_path: Path, text: bytes | str) -> None:
    survives(put(tmp_path, {"data.yaml": "train: .\nnames: [a, b]", "a.png": None, "a.txt": text}))


VALUES = st.recursive(
    st.one_of(st.text(max_size=8), st.integers(), st.sampled_from(["images", "../images", "/", ".", "x.txt", ""])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner),
    max_leaves=5,
)


@FUZZ
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60),
        st.dictionaries(st.sampled_from(["train", "val", "test", "path", "names", "nc"]), VALUES).map(json.dumps),
    )
)
def test_any_yaml(tmp_path: Path, text: bytes | str) -> None:
    if isinstance(text, str):
        text = text.encode("utf-8", "replace")
    survives(put(tmp_path, {"data.yaml": text, "images/a.png": None, "labels/a.txt": "0 0.5 0.5 1 1", "x.txt": "a"}))


TAGS = st.sampled_from("annotation object name bndbox xmin ymin xmax ymax size width height filename".split())
XMLS = st.recursive(
    st.one_of(NUMBERS, st.text("dog ", max_size=4), st.sampled_from(["&amp;", "&x;", "<!DOCTYPE a>", "<", "a.png"])),
    lambda inner: st.builds(lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>", TAGS, st.lists(inner, max_size=5)),
    max_leaves=20,
)


@FUZZ
@given(st.one_of(st.binary(max_size=80), XMLS, XMLS.map(lambda part: f"<annotation>{part}</annotation>")))
def test_any_xml(tmp_path: Path, text: bytes | str) -> None:
    survives(put(tmp_path, {"train/a.png": None, "train/a.xml": text, "train/b.png": None, "train/b.xml": xml("b")}))


@FUZZ
@given(st.dictionaries(st.sampled_from(["images", "categories", "annotations"]), VALUES),
       st.lists(st.one_of(VALUES, st.floats(), st.none()), max_size=5))  # fmt: skip
def test_any_coco(tmp_path: Path, sections: dict[str, Any], box: list[Any]) -> None:
    put(tmp_path, {"train/_annotations.coco.json": coco("a.png", box, **sections), "train/a.png": None})
    survives(tmp_path)


# Real sets


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("highway_320", {"train": (1703, 3851), "val": (481, 844), "test": (241, 521)}),
        ("tiny_coco_416", {"train": (50, 470), "val": (50, 382)}),
        ("vehicles_openimages_320", {"train": (439, 838), "val": (125, 227), "test": (63, 129)}),
        ("vn_traffic_cctv", {"train": (576, 6057), "val": (108, 1007)}),
    ],
)
def test_real_sets(shared_data: SharedData, name: str, expected: dict[str, tuple[int, int]]) -> None:
    path = shared_data(f"det/{name}.zip")
    assert object_splits(path) == tuple(expected)
    for split, (pictures, objects) in expected.items():
        data = open_objects(path, split)
        assert (len(data.dataset["images"]), len(data.dataset["annotations"]), data.notes) == (pictures, objects, ())
        row = data.dataset["images"][-1]
        with data.reader() as read:
            encoded_picture = read(row["file_name"])
        assert header_wh(encoded_picture) == (row["width"], row["height"])
        assert decode_image(encoded_picture, "it").shape[1::-1] == (row["width"], row["height"])
