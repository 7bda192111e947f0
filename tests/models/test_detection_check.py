"""The check of detection data: each seeded fault is found, and a clean set has none; the sheet of pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from edge.cli.data_check import show
from edge.errors import InputError
from models.detection.check import Report, check, check_sets
from models.detection.sets import read_sets
from models.detection.sheet import draw_sheet

W, H = 64, 48
COUNT = {"train": 6, "valid": 3, "test": 3}

Dataset = dict[str, Any]


def picture(seed: int) -> np.ndarray:
    """Big random patches, so that no two pictures look alike."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(small, (W, H), interpolation=cv2.INTER_NEAREST))


class Clean:
    """A data set without a fault, Roboflow's COCO form; `save` writes what a test made of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.splits: dict[str, Dataset] = {}
        for s, (split, count) in enumerate(COUNT.items()):
            (root / split).mkdir(parents=True)
            images = [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in range(count)]
            for i in range(count):
                cv2.imwrite(str(root / split / f"{i}.png"), picture(100 * s + i))
            rows = [{"image_id": i, "category_id": c, "bbox": [8 * c, 4, 20, 24]} for i in range(count) for c in (1, 2)]
            names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
            self.splits[split] = {"images": images, "annotations": rows, "categories": names}

    def add(self, split: str, box: list[float], category: int = 1, image: int = 0) -> None:
        self.splits[split]["annotations"].append({"image_id": image, "category_id": category, "bbox": box})

    def drop(self, split: str, keep: Callable[[dict[str, Any]], bool]) -> None:
        self.splits[split]["annotations"] = [row for row in self.splits[split]["annotations"] if keep(row)]

    def file(self, split: str, i: int) -> Path:
        return self.root / split / f"{i}.png"

    def save(self) -> Path:
        for split, dataset in self.splits.items():
            (self.root / split / "_annotations.coco.json").write_text(json.dumps(dataset))
        return self.root


@pytest.fixture
def clean(tmp_path: Path) -> Clean:
    return Clean(tmp_path / "set")


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(finding.severity, finding.kind) for finding in report.findings]


def shown(report: Report) -> str:
    console = Console(file=StringIO(), width=120, color_system=None)
    show(report, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_clean_set(clean: Clean) -> None:
    report = check(clean.save())
    assert report.findings == () and not report.has_errors
    assert [(part.split, part.images, part.boxes, part.empty) for part in report.parts] == [
        ("train", 6, 12, 0),
        ("val", 3, 6, 0),
        ("test", 3, 6, 0),
    ]
    assert report.parts[0].classes == {"cat": (6, 6), "dog": (6, 6)}
    # 20 x 24 of 64 x 48 pixels; 320 / 64 = 5.
    assert report.parts[0].side_px == pytest.approx((109.54,) * 3, abs=0.01)
    assert report.parts[0].aspect == pytest.approx((0.83,) * 3)
    assert "nothing wrong found" in shown(report) and "6 in 6" in shown(report)


def _unreadable(data: Clean) -> None:
    data.file("train", 1).write_bytes(b"no picture")


def _cut(data: Clean) -> None:
    data.file("train", 1).write_bytes(bytes(cv2.imencode(".jpg", picture(3))[1])[:-200])


def _gone(data: Clean) -> None:
    data.file("train", 1).unlink()


def _size(data: Clean) -> None:
    data.splits["valid"]["images"][1]["width"] = W + 1


def _near(data: Clean) -> None:
    brighter = cv2.add(picture(2), np.full((H, W, 3), 3, np.uint8))
    cv2.imwrite(str(data.file("test", 1)), brighter)


def _mirrored(data: Clean) -> None:
    cv2.imwrite(str(data.file("test", 1)), picture(2)[:, ::-1])


def _no_train(data: Clean) -> None:
    del data.splits["train"]


def _no_val(data: Clean) -> None:
    del data.splits["valid"]


def _no_test(data: Clean) -> None:
    del data.splits["test"]


def _rare(data: Clean) -> None:
    for i in range(300):
        data.add("train", [i % 30, i // 30, 20 + i % 7, 22])


def _unused(data: Clean) -> None:
    for dataset in data.splits.values():
        dataset["categories"].append({"id": 3, "name": "bird"})


FAULTS: list[tuple[str, str, str, Callable[[Clean], Any]]] = [
    ("warning", "mended", "wholly outside the picture", lambda d: d.add("train", [70, 5, 10, 10])),
    ("warning", "mended", "without area", lambda d: d.add("valid", [5, 5, 0, 10])),
    ("warning", "mended", "partly outside", lambda d: d.add("test", [50, 5, 30, 10])),
    ("warning", "mended", "class that is not listed", lambda d: d.add("train", [5, 5, 10, 10], category=9)),
    ("error", "mended", "pictures that are not there", _gone),
    ("warning", "tiny-boxes", "train: boxes below 3 px", lambda d: d.add("train", [5, 5, 0.5, 10])),
    ("error", "unreadable", "train: pictures that cannot be read: 1", _unreadable),
    ("error", "unreadable", "train: pictures that cannot be read: 1", _cut),
    ("error", "other-size", "val: pictures of another size", _size),
    ("warning", "same-picture", "train: pictures that are there twice: 1",
     lambda d: shutil.copy(d.file("train", 0), d.file("train", 5))),
    ("error", "leak", "train and test: pictures that are in both: 1",
     lambda d: shutil.copy(d.file("train", 0), d.file("test", 2))),
    ("warning", "near-leak", "test: pictures nearly the same as one of train: 1", _near),
    ("warning", "near-leak", "test: pictures nearly the same as one of train: 1", _mirrored),
    ("warning", "same-box", "train: boxes that are there twice: 1", lambda d: d.add("train", [8, 4, 20, 24])),
    ("warning", "two-classes", "train: one box with two classes: 1", lambda d: d.add("train", [8, 4, 20, 24], 2)),
    ("info", "no-objects", "train: pictures without objects: 1", lambda d: d.drop("train", lambda r: r["image_id"])),
    ("info", "unused-classes", "classes without a box: bird", _unused),
    ("warning", "not-in-train", "dog", lambda d: d.drop("train", lambda r: r["category_id"] == 1)),
    ("warning", "not-measured", "in val", lambda d: d.drop("valid", lambda r: r["category_id"] == 1)),
    ("warning", "rare-classes", "dog (6)", _rare),
    ("warning", "missing-split", "no split val", _no_val),
    ("info", "missing-split", "no split test", _no_test),
]  # fmt: skip


@pytest.mark.parametrize(("severity", "kind", "says", "spoil"), FAULTS)
def test_each_fault_is_found_and_nothing_else(
    clean: Clean, severity: str, kind: str, says: str, spoil: Callable[[Clean], Any]
) -> None:
    spoil(clean)
    report = check(clean.save())
    assert kinds(report) == [(severity, kind)]
    assert says in report.findings[0].text and says in shown(report)
    assert report.has_errors == (severity == "error")
    assert json.loads(json.dumps(report.to_json()))["findings"][0]["kind"] == kind


def test_boxes_are_measured_at_the_size_of_the_input(clean: Clean) -> None:
    clean.add("train", [40, 5, 0.5, 10])
    small, large = check(clean.save(), size=320), check(clean.save(), size=640)
    assert kinds(small) == [("warning", "tiny-boxes")] and "below 3 px at 320 px" in small.findings[0].text
    assert kinds(large) == [] and "box side at 640 px" in shown(large)
    assert large.parts[1].side_px[1] == pytest.approx(2 * small.parts[1].side_px[1], abs=0.02)


def test_regions_that_are_left_open_are_no_faults(clean: Clean) -> None:
    for box in ([40, 5, 0.5, 10], [8, 4, 20, 24]):
        clean.add("train", box)
        clean.splits["train"]["annotations"][-1]["iscrowd"] = 1
    report = check(clean.save())
    assert report.findings == () and (report.parts[0].boxes, report.parts[0].crowds) == (12, 2)


def test_no_train(clean: Clean) -> None:
    _no_train(clean)
    report = check(clean.save())
    assert ("error", "missing-split") in kinds(report)


def test_a_split_that_cannot_be_opened_does_not_hide_the_others(clean: Clean) -> None:
    path = clean.save()
    (path / "valid" / "_annotations.coco.json").write_text("{")
    report = check(path)
    assert ("error", "split") in kinds(report) and [part.split for part in report.parts] == ["train", "test"]


def test_flat_pictures_are_no_twins(clean: Clean) -> None:
    for split, value in (("train", 20), ("valid", 120), ("test", 220)):
        cv2.imwrite(str(clean.file(split, 0)), np.full((H, W, 3), value, np.uint8))
    assert check(clean.save()).findings == ()


def test_every_pair_of_near_twins_is_compared(clean: Clean, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.detection.check._ROWS", 2)
    cv2.imwrite(str(clean.file("test", 2)), cv2.add(picture(5), np.full((H, W, 3), 3, np.uint8)))
    (finding,) = check(clean.save()).findings
    assert finding.examples == ("test/2.png ~ train/5.png",)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a data set"):
        check(tmp_path / "none")


def test_several_sets(clean: Clean, tmp_path: Path) -> None:
    clean.save()
    text = 'classes = ["kitten", "bird"]\n[[set]]\ndata = "set"\nrename = { cat = "kitten" }\n'
    (tmp_path / "a.toml").write_text(text)
    (report,) = check_sets(read_sets(tmp_path / "a.toml"))
    assert sorted(kinds(report)) == [("info", "other-classes"), ("warning", "absent-classes")]
    (tmp_path / "a.toml").write_text(text + 'unlabelled = ["bird"]\n')
    assert kinds(check_sets(read_sets(tmp_path / "a.toml"))[0]) == [("info", "other-classes")]
    assert check_sets(read_sets(clean.root))[0].findings == ()


# The sheet


def test_a_sheet_shows_rare_classes(clean: Clean, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("models.detection.sheet.draw_box", lambda axes, box, color, crowd: drawn.append(color))
    clean.drop("train", lambda row: row["category_id"] == 1 or row["image_id"] == 5)
    draw_sheet(clean.save(), tmp_path / "sheet.png", per_split=1)
    # One picture of each split, and it is the only one of train that shows both classes or none of the rare one's.
    assert len(set(drawn)) == 2
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None and sheet.shape[0] > 300 and sheet.std() > 10


def test_a_sheet_leaves_out_what_cannot_be_read(clean: Clean, tmp_path: Path) -> None:
    _unreadable(clean)
    draw_sheet(clean.save(), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    for split, count in COUNT.items():
        for i in range(count):
            clean.file(split, i).write_bytes(b"no picture")
    with pytest.raises(InputError, match="no picture that can be read"):
        draw_sheet(clean.root, tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_a_real_set(shared_data: Callable[[str], Path]) -> None:
    report = check(shared_data("det/vehicles_openimages_320.zip"))
    assert not report.has_errors and [part.images for part in report.parts] == [439, 125, 63]
    assert report.parts[0].classes["ambulance"] == (85, 59)
