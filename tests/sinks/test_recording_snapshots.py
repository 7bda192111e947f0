"""One picture of each event, the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
from media import noise, small_disk
from recordings import CLEAN, LABELS, files, shot

from edge.detections import Detections
from edge.errors import OutputError
from edge.result import Classification, Result
from edge.sinks import Overlay
from edge.sinks.recording import Events, Folder, SnapshotSink, View


def snapshots(tmp_path: Path, view: View = CLEAN, labels: tuple[str, ...] = LABELS, **options: Any) -> SnapshotSink:
    folder = Folder(tmp_path, "gate", min_free_gb=0)
    return SnapshotSink(folder, view, Events(labels, None, 0.5), **{"gap_s": 0.5, **options})


def test_the_best_picture_of_an_event_is_kept(tmp_path: Path) -> None:
    sink = snapshots(tmp_path)
    scores = {10: 0.6, 11: 0.9, 12: 0.7, 30: 0.8}
    for i in range(40):
        sink.write(shot(i, {2: scores[i]} if i in scores else {0: 0.2}))
    assert files(tmp_path) == [
        "gate/2026-05-04/14-03-01-traffic_light-0.90.jpg",
        "gate/2026-05-04/14-03-03-traffic_light-0.80.jpg",
    ]
    assert round(float(cv2.imread(str(tmp_path / files(tmp_path)[0])).mean()) / 10) == 11
    sink.close()


def test_a_long_event_gives_a_picture_now_and_then(tmp_path: Path) -> None:
    sink = snapshots(tmp_path, every_s=1.0)
    for i in range(35):
        sink.write(shot(i, {0: 0.5 + i / 100}))
    sink.tick()
    assert [name[-12:] for name in files(tmp_path)] == ["red-0.59.jpg", "red-0.69.jpg", "red-0.79.jpg"]
    sink._used_s -= 1  # no frame came for a second
    sink.tick()
    assert [name[-12:] for name in files(tmp_path)][3:] == ["red-0.84.jpg"]
    sink.close()
    assert len(files(tmp_path)) == 4


def test_a_crop_shows_the_box(tmp_path: Path) -> None:
    sink = snapshots(tmp_path, crop=True)
    sink.write(shot(0, {1: 0.9}))
    sink.close()
    assert cv2.imread(str(tmp_path / files(tmp_path)[0])).shape == (38, 38, 3)


def test_a_crop_of_a_scaled_picture_is_scaled(tmp_path: Path) -> None:
    sink = snapshots(tmp_path, View(None, max_width=32), crop=True)
    sink.write(shot(0, {1: 0.9}))
    sink.close()
    assert cv2.imread(str(tmp_path / files(tmp_path)[0])).shape == (20, 20, 3)


def test_boxes_are_drawn_or_not(tmp_path: Path) -> None:
    spread = []
    for name, view in (("drawn", View(Overlay(LABELS))), ("clean", CLEAN)):
        sink = snapshots(tmp_path / name, view)
        sink.write(shot(10, {0: 0.9}))
        sink.close()
        spread.append(cv2.imread(str(tmp_path / name / files(tmp_path / name)[0])).std())
    assert spread[0] > 10 and spread[1] < 3


def test_a_classification_is_an_event_too(tmp_path: Path) -> None:
    sink = snapshots(tmp_path)
    sink.write(Result(shot(0).frame, Detections.empty(), {}, classification=Classification((1, 0), (0.8, 0.2))))
    sink.close()
    assert files(tmp_path)[0].endswith("green-0.80.jpg")


@pytest.mark.parametrize(
    "label", ["../../etc/passwd", "a b/c", "?", "", "person (child)", "größe", "x" * 300, "ü" * 300]
)
def test_any_label_makes_a_name_of_its_own_kind(tmp_path: Path, label: str) -> None:
    sink = snapshots(tmp_path, labels=(label,))
    sink.write(shot(0, {0: 0.9}))
    sink.close()
    (path,) = tmp_path.rglob("*.jpg")
    assert path.parent == tmp_path / "gate/2026-05-04"
    assert len(list(sink._folder.recordings())) == 1  # it can be removed again


def test_a_picture_waits_for_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 400) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(400_000))
        sink = snapshots(disk)
        sink.write(shot(0, {1: 0.9}, image=noise(0, (160, 120))))
        for i in range(10, 13):
            with pytest.raises(OutputError, match="the disk is full"):
                sink.write(shot(i, image=noise(i, (160, 120))))
        assert files(disk) == ["filler"]
        filler.unlink()
        sink.write(shot(20, {2: 0.7}))
        sink.close()
        names = [Path(name).name for name in files(disk)]
        assert names == ["14-03-00-green-0.90.jpg", "14-03-02-traffic_light-0.70.jpg"]
        assert all(cv2.imread(str(path)) is not None for path in disk.rglob("*.jpg"))
