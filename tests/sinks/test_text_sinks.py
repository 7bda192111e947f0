"""JSON lines, CSV and COCO results."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from media import result, small_disk

from edge.coco import CATEGORY_IDS
from edge.errors import OutputError
from edge.result import Classification
from edge.sinks.coco import CocoSink, category_ids
from edge.sinks.text import CSV_COLUMNS, CsvSink, JsonLinesSink, TextSink

LABELS = ("red", "green, light", "blå")


class Stdout:
    """Standard output as the sinks use it."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()


def test_a_json_line_per_frame_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "out.jsonl"
    sink = JsonLinesSink(str(path), LABELS)
    for i in range(3):
        sink.write(result(i, boxes=i))
        assert len(path.read_text(encoding="utf-8").splitlines()) == i + 1
    sink.close()
    sink.close()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[2] == {
        "source": "clip.mp4",
        "frame": 2,
        "timestamp_s": 0.2,
        "width": 64,
        "height": 48,
        "detections": [
            {"name": "red", "class": 0, "confidence": 0.9, "box": {"x1": 4.0, "y1": 5.0, "x2": 20.0, "y2": 25.5}},
            {
                "name": "green, light",
                "class": 1,
                "confidence": 0.5,
                "box": {"x1": 5.0, "y1": 5.0, "x2": 21.0, "y2": 25.5},
            },
        ],
        "stage_ms": {"invoke": 1.5},
    }
    assert rows[0]["detections"] == []
    assert sink.outputs == [path]


def test_a_live_frame_tells_the_time_and_what_was_dropped(tmp_path: Path) -> None:
    sink = JsonLinesSink(str(tmp_path / "a.jsonl"), LABELS)
    sink.write(result(live=True))
    sink.close()
    row = json.loads((tmp_path / "a.jsonl").read_text())
    assert row["time"] > 1e9
    assert row["dropped"] == 0


def test_a_class_without_a_name_is_its_number(tmp_path: Path) -> None:
    sink = JsonLinesSink(str(tmp_path / "a.jsonl"), ("red",))
    sink.write(result(boxes=2))
    sink.close()
    assert [d["name"] for d in json.loads((tmp_path / "a.jsonl").read_text())["detections"]] == ["red", "1"]


def test_a_classification_is_a_list_of_classes(tmp_path: Path) -> None:
    found = result(boxes=0, classification=Classification((2, 0), (0.75, 0.125)))
    for sink in (JsonLinesSink(str(tmp_path / "a.jsonl"), LABELS), CsvSink(str(tmp_path / "a.csv"), LABELS)):
        sink.write(found)
        sink.close()
    row = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    assert row["classes"] == [
        {"name": "blå", "class": 2, "confidence": 0.75},
        {"name": "red", "class": 0, "confidence": 0.125},
    ]
    assert "detections" not in row
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["class"], r["name"], r["confidence"], r["x1"]) for r in rows] == [
        ("2", "blå", "0.75", ""),
        ("0", "red", "0.125", ""),
    ]


def test_a_localisers_box_goes_with_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = Stdout()
    monkeypatch.setattr(sys, "stdout", stdout)
    where = Classification((2, 0), (0.75, 0.125), (1.0, 2.25, 30.123456, 40.0))
    found = result(boxes=0, classification=where)
    sinks = [
        JsonLinesSink(str(tmp_path / "a.jsonl"), LABELS),
        CsvSink(str(tmp_path / "a.csv"), LABELS),
        TextSink("-", LABELS),
    ]
    for sink in sinks:
        sink.write(found)
        sink.close()
    row = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    assert row["box"] == {"x1": 1.0, "y1": 2.25, "x2": 30.12346, "y2": 40.0}
    assert len(row["classes"]) == 2
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [[r[c] for c in ("name", "x1", "y1", "x2", "y2")] for r in rows] == [
        ["blå", "1.0", "2.25", "30.12346", "40.0"],
        ["red", "1.0", "2.25", "30.12346", "40.0"],
    ]
    assert stdout.buffer.getvalue().decode() == "clip.mp4 0: blå 0.750; red 0.125; box 1 2 30 40\n"


def test_csv_has_a_header_and_quotes_what_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    sink = CsvSink(str(path), LABELS)
    sink.write(result(0, boxes=0))
    sink.write(result(7, boxes=2, source='odd, "name".mp4'))
    sink.close()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [r["name"] for r in rows] == ["red", "green, light"]
    assert rows[1]["source"] == 'odd, "name".mp4'
    assert [rows[1][k] for k in ("frame", "timestamp_s", "class", "confidence", "x1", "y2")] == [
        "7",
        "0.7",
        "1",
        "0.5",
        "5.0",
        "25.5",
    ]


def test_coco_results_are_valid_json_after_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    sink = CocoSink(str(path), LABELS)
    assert json.loads(path.read_text()) == []
    for i in range(4):
        sink.write(result(i, boxes=i % 3))
        assert len(json.loads(path.read_text())) == [0, 1, 3, 3][i]
    sink.close()
    rows = json.loads(path.read_text())
    assert rows[0] == {
        "image_id": 2,
        "file_name": "clip.mp4",
        "category_id": 1,
        "bbox": [4.0, 5.0, 16.0, 20.5],
        "score": 0.9,
    }
    assert [r["image_id"] for r in rows] == [2, 3, 3]


def test_coco_image_ids_are_the_numbers_that_pictures_are_named_by(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    sink = CocoSink(str(path), LABELS)
    sink.write(result(source="val/000000000139.jpg", fps=None))
    sink.write(result(source="val/cat.jpg", fps=None))
    sink.write(result(source="7.mp4", index=12))
    sink.close()
    assert [(r["image_id"], r["file_name"]) for r in json.loads(path.read_text())] == [
        (139, "000000000139.jpg"),
        (2, "cat.jpg"),
        (3, "7.mp4"),
    ]


def test_pycocotools_reads_the_results(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "a.json"
    sink = CocoSink(str(path), ("person", "bicycle", "car"))
    sink.write(result(source="139.jpg", fps=None, boxes=3))
    sink.close()
    truth = coco.COCO()
    truth.dataset = {"images": [{"id": 139}], "annotations": [], "categories": [{"id": i} for i in (1, 2, 3)]}
    truth.createIndex()
    assert len(truth.loadRes(str(path)).getAnnIds(imgIds=[139], catIds=[3])) == 1


def test_category_ids() -> None:
    names = list(CATEGORY_IDS)
    assert category_ids(names) == list(CATEGORY_IDS.values())
    assert category_ids(names)[-1] == 90
    assert category_ids(["motorbike", "TV monitor".replace(" ", ""), "Person"]) == [4, 72, 1]
    assert category_ids(["???", "person", "bicycle"]) == [1, 1, 2]
    assert category_ids(["person", "forklift"]) == [1, 2]
    assert category_ids([]) == []


@pytest.mark.parametrize("kind", [JsonLinesSink, CsvSink, CocoSink])
def test_a_full_disk_keeps_whole_records(tmp_path: Path, kind: type) -> None:
    with small_disk(tmp_path / "disk", 12) as disk:
        path = disk / "out"
        sink = kind(str(path), LABELS)
        with pytest.raises(OutputError, match="disk is full"):
            for i in range(1000):
                sink.write(result(i, boxes=3))
        sink.close()
        text = path.read_text(encoding="utf-8")
    assert len(text) > 10_000
    if kind is CocoSink:
        assert len(json.loads(text)) == 3 * i
    elif kind is CsvSink:
        assert len(text.splitlines()) == 1 + 3 * i
        assert all(len(row) == 10 for row in csv.reader(io.StringIO(text)))
    else:
        assert [json.loads(line)["frame"] for line in text.splitlines()] == list(range(i))


@pytest.mark.parametrize("kind", [JsonLinesSink, CsvSink, CocoSink])
def test_standard_output(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    stdout = Stdout()
    monkeypatch.setattr(sys, "stdout", stdout)
    sink = kind("-", LABELS)
    sink.write(result(boxes=2))
    sink.close()
    sink.close()
    text = stdout.buffer.getvalue().decode()
    assert text.endswith("\n")
    assert sink.outputs == []
    assert "0.9" in text
    if kind is CocoSink:
        assert len(json.loads(text)) == 2


def test_a_named_pipe_takes_the_results(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    sink = CocoSink(str(path), LABELS)
    sink.write(result(boxes=2))
    sink.close()
    reader.join(10)
    assert len(json.loads(read[0])) == 2


def test_a_reader_that_went_away_is_no_output_error(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    sink = JsonLinesSink(f"/proc/self/fd/{write_end}", LABELS)
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        sink.write(result())
    sink.close()
    os.close(write_end)


def test_what_cannot_be_created_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in ((tmp_path, "Is a directory"), (tmp_path / "file" / "a.json", "cannot be created")):
        with pytest.raises(OutputError, match=said) as caught:
            JsonLinesSink(str(path), LABELS)
        assert str(path.parent if said.startswith("cannot") else path) in str(caught.value)
