"""Data sets of labelled objects that were made to break a reader, and a real one told in every form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import InputError
from edge.labelled.coco import load_instances
from edge.labelled.objects import LabelledObjects, object_splits, open_objects
from edge.labelled.objects.header import header_wh

FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def put(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def encoded(wh: tuple[int, int] = (100, 50), suffix: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(suffix, np.full((wh[1], wh[0], 3), 120, np.uint8))[1])


def yolo_set(root: Path, config: str | bytes) -> LabelledObjects:
    put(root / "data.yaml", config)
    put(root / "train" / "images" / "a.jpg", encoded())
    put(root / "train" / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2")
    return open_objects(root, "train")


def voc_set(root: Path, xml: str) -> LabelledObjects:
    put(root / "Annotations" / "a.xml", xml)
    put(root / "JPEGImages" / "a.jpg", encoded())
    return open_objects(root, "train")


def coco_set(root: Path, annotations: list[dict[str, Any]]) -> LabelledObjects:
    image = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}
    dataset = {"images": [image], "annotations": annotations, "categories": [{"id": 0, "name": "car"}]}
    put(root / "train" / "_annotations.coco.json", json.dumps(dataset))
    put(root / "train" / "a.jpg", encoded())
    return open_objects(root, "train")


# YAML


def test_aliases_do_not_grow(tmp_path: Path) -> None:
    """Thirty lines that stand for 10 to the 29th names."""
    levels = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 30)]
    bomb = "x0: &x0 [y]\n" + "\n".join(levels)
    for use in ("names: *x29", "names: [a]\ntrain: *x29"):
        with pytest.raises(InputError, match=r"as a list or as number|a path or a list of paths") as raised:
            yolo_set(tmp_path, f"{bomb}\n{use}")
        assert len(str(raised.value)) < 1000


def test_an_alias_of_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected YAML"):
        yolo_set(tmp_path, "names: &a [*a]")


def test_tags_run_nothing(tmp_path: Path) -> None:
    data = yolo_set(tmp_path, f"names: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    assert [row["name"] for row in data.dataset["categories"]] == [f"{tmp_path}/made"]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("config", ["[" * 100_000, "? [a]\n: b\n? {c: d}\n: e", "names: [a\n  b: {"])
def test_what_yaml_refuses(tmp_path: Path, config: str) -> None:
    with pytest.raises(InputError, match="expected YAML") as raised:
        yolo_set(tmp_path, config)
    assert "\n" not in str(raised.value)


def test_paths_stay_inside(tmp_path: Path) -> None:
    put(tmp_path / "other" / "images" / "a.jpg", encoded())
    put(tmp_path / "other" / "labels" / "a.txt", "0 .5 .5 .1 .1")
    put(tmp_path / "set" / "data.yaml", f"train: [../other/images, {tmp_path}/other/images]\nnames: [a]")
    with pytest.raises(InputError, match="found none of them"):
        object_splits(tmp_path / "set")
    put(tmp_path / "set" / "train.txt", f"../other/images/a.jpg\n{tmp_path}/other/images/a.jpg\nimages/in.jpg\n")
    put(tmp_path / "set" / "data.yaml", "train: train.txt\nnames: [a]")
    put(tmp_path / "set" / "images" / "in.jpg", encoded())
    put(tmp_path / "set" / "labels" / "in.txt", "")
    data = open_objects(tmp_path / "set", "train")
    assert [row["file_name"] for row in data.dataset["images"]] == ["images/in.jpg"]
    assert data.notes[0].startswith("pictures that are not there, left out: 2 (../other/images/a.jpg")


words = st.sampled_from(
    ["names", "nc", "path", "train", "val", "train/images", "..", "/", "C:\\x", "[", "]", "{", "}", ":", " ", "\n",
     "- ", ",", "&a", "*a", "!!int", "'", '"', "0", "1", "-1", "car", "|", ">", "? ", "<<", "#", "\t", "~", "é",
     "\ud83d", "\0", "%"]
)  # fmt: skip


@FUZZ
@given(st.sampled_from(["", "names: [car]\n", "names:\n  "]), st.lists(words).map("".join))
def test_words_of_yaml(tmp_path: Path, start: str, text: str) -> None:
    try:
        data = yolo_set(tmp_path, (start + text).encode("utf-8", "surrogatepass"))
        json.dumps(data.dataset).encode()
    except InputError as error:
        assert "\n" not in str(error)


# XML


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;&x;">]>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://localhost/a.dtd">',
    ],
)
def test_a_doctype_is_refused(tmp_path: Path, doctype: str) -> None:
    with pytest.raises(InputError, match=r"a\.xml has a DOCTYPE"):
        voc_set(tmp_path, f"{doctype}<annotation><filename>&x;</filename></annotation>")


def test_deep_xml(tmp_path: Path) -> None:
    data = voc_set(tmp_path, "<annotation>" + "<object>" * 50_000 + "</object>" * 50_000 + "</annotation>")
    assert len(data.dataset["images"]) == 1 and not data.dataset["annotations"]


# Numbers


def test_numbers_that_no_float_holds(tmp_path: Path) -> None:
    """Each of these is finite, or an integer; their sums and areas are not."""
    boxes: list[Any] = [[10**308, 0, 10**308, 9], [1e308, 0, 1e308, 9], [10**400, 0, 9, 9], [0, 0, 9, 9]]
    rows = [{"image_id": 7, "category_id": 0, "bbox": box, "area": 10**400} for box in boxes]
    data = coco_set(tmp_path, rows)
    (row,) = data.dataset["annotations"]
    assert (row["bbox"], row["area"]) == ([0, 0, 9, 9], 81)
    assert [note.partition(" (")[0] for note in data.notes] == ["boxes that are not finite numbers, left out: 3"]


def test_the_area_of_a_mask_is_kept(tmp_path: Path) -> None:
    row = {"image_id": 7, "category_id": 0, "bbox": [0, 0, 9, 9], "area": 50}
    assert coco_set(tmp_path, [row]).dataset["annotations"][0]["area"] == 50


def test_an_annotation_numbered_zero_among_odd_ones(tmp_path: Path) -> None:
    """An id of 0 would never count as found; ids that are no numbers do not hinder that it is changed."""
    rows = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]} for i in ("x", 0, 5)]
    dataset = {"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1, "name": "b"}], "annotations": rows}
    put(tmp_path / "a.json", json.dumps(dataset))
    assert [row["id"] for row in load_instances(tmp_path / "a.json")["annotations"]] == [1, 2, 3]


# Headers


@FUZZ
@given(
    st.sampled_from([encoded((70, 50), suffix) for suffix in (".jpg", ".png", ".bmp", ".webp")]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255))),
    st.integers(0, 400),
)
def test_a_damaged_header_ends(data: bytes, changes: list[tuple[int, int]], length: int) -> None:
    broken = bytearray(data)
    for place, value in changes:
        if place < len(broken):
            broken[place] = value
    for candidate in (bytes(broken), bytes(broken[:length])):
        found = header_wh(candidate)
        assert found is None or min(found) > 0


# A real set


def voc_xml(name: str, wh: tuple[int, int], rows: list[tuple[str, float, float, float, float]]) -> str:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2 in rows
    )
    size = f"<size><width>{wh[0]}</width><height>{wh[1]}</height></size>"
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def test_a_real_set_in_every_form(tiny_coco: Path, tmp_path: Path) -> None:
    """What COCO says of 50 real pictures, YOLO and VOC say as well."""
    truth = open_objects(tiny_coco, "val")
    names = {row["id"]: row["name"] for row in truth.dataset["categories"]}
    order = {name: i for i, name in enumerate(names.values())}
    expected: dict[str, Any] = {}
    put(tmp_path / "yolo" / "data.yaml", json.dumps({"names": list(names.values())}))
    with truth.reader() as read:
        for image in truth.dataset["images"]:
            w, h, stem = image["width"], image["height"], Path(image["file_name"]).stem
            rows = [
                (names[row["category_id"]], *(row["bbox"][:2]), *np.add(row["bbox"][:2], row["bbox"][2:]).tolist())
                for row in truth.dataset["annotations"]
                if row["image_id"] == image["id"]
            ]
            lines = [
                f"{order[label]} {(x1 + x2) / 2 / w} {(y1 + y2) / 2 / h} {(x2 - x1) / w} {(y2 - y1) / h}"
                for label, x1, y1, x2, y2 in rows
            ]
            expected[stem] = (w, h), rows
            for folder in (tmp_path / "yolo" / "valid" / "images", tmp_path / "voc" / "valid"):
                put(folder / f"{stem}.jpg", read(image["file_name"]))
            put(tmp_path / "yolo" / "valid" / "labels" / f"{stem}.txt", "\n".join(lines))
            put(tmp_path / "voc" / "valid" / f"{stem}.xml", voc_xml(f"{stem}.jpg", (w, h), rows))
    for form in ("yolo", "voc"):
        dataset = open_objects(tmp_path / form, "val").dataset
        labels = {row["id"]: row["name"] for row in dataset["categories"]}
        assert {Path(image["file_name"]).stem for image in dataset["images"]} == expected.keys()
        for image in dataset["images"]:
            wh, rows = expected[Path(image["file_name"]).stem]
            found = [row for row in dataset["annotations"] if row["image_id"] == image["id"]]
            assert (image["width"], image["height"]) == wh
            assert [labels[row["category_id"]] for row in found] == [row[0] for row in rows]
            xywh = np.array([row["bbox"] for row in found]).reshape(-1, 4)
            xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
            np.testing.assert_allclose(xyxy, np.array([row[1:] for row in rows]).reshape(-1, 4), atol=1e-4)
