"""Recording for months: segments, clips, snapshots, rows; what is kept, and what a full disk or a kill does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media import frames_of, noise, small_disk

from edge.detections import Detections
from edge.errors import OutputError
from edge.frame import Frame
from edge.result import Classification, Result
from edge.sinks import Overlay
from edge.sinks.recording import ClipSink, Events, Folder, RowsSink, SegmentSink, SnapshotSink, View
from edge.sinks.text import csv_header, csv_rows, json_line

LABELS = ("red", "green", "traffic light")
START_WALL_S = datetime(2026, 5, 4, 14, 3, 0).timestamp()
FPS = 10.0


def shot(
    index: int,
    found: dict[int, float] | None = None,
    size_wh: tuple[int, int] = (64, 48),
    image: Any = None,
    step_s: float = 1 / FPS,
    wall_s: float | None = None,
) -> Result:
    """Return a frame of a live camera of brightness 10 * (index % 25), with boxes (class -> score)."""
    at = index * step_s
    if image is None:
        image = np.full((size_wh[1], size_wh[0], 3), 10 * (index % 25), np.uint8)
    wall = START_WALL_S + at if wall_s is None else wall_s
    frame = Frame(image, index, "rtsp://h/cam", at, 1000 + at, wall, FPS, live=True)
    found = found or {}
    xyxy = np.array([[8, 8, 40, 40]] * len(found), np.float32).reshape(-1, 4)
    return Result(
        frame, Detections(xyxy, np.array(list(found.values()), np.float32), np.array(list(found), np.int32)), {}
    )


def brightness(path: Path) -> list[int]:
    """Return which frame each picture of a video shows, as a remainder of 25."""
    return [round(float(np.median(image)) / 10) for image in frames_of(path)]


def marks(*parts: range) -> list[int]:
    return [i % 25 for part in parts for i in part]


def videos(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


CLEAN = View(None)


# Segments


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_segments_follow_each_other_and_no_frame_is_lost(tmp_path: Path, suffix: str) -> None:
    sink = SegmentSink(Folder(tmp_path, "gate"), CLEAN, segment_s=1.0, suffix=suffix)
    for i in range(25):
        sink.write(shot(i))
    sink.close()
    sink.close()
    names = videos(tmp_path)
    assert names == [f"gate/2026-05-04/14-03-0{i}{suffix}" for i in range(3)]
    assert [brightness(tmp_path / name) for name in names] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 25)),
    ]


def test_a_new_size_begins_a_segment(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "gate"), CLEAN)
    for i in range(5):
        sink.write(shot(i))
    for i in range(5, 10):
        sink.write(shot(i, size_wh=(80, 60)))
    sink.close()
    first, second = (tmp_path / name for name in videos(tmp_path))
    assert (first.name, second.name) == ("14-03-00.mkv", "14-03-00_2.mkv")
    assert [frames_of(path)[0].shape for path in (first, second)] == [(48, 64, 3), (60, 80, 3)]


def test_boxes_are_drawn_or_not_and_pictures_scaled(tmp_path: Path) -> None:
    drawn = SegmentSink(Folder(tmp_path, "a"), View(Overlay(LABELS)))
    clean = SegmentSink(Folder(tmp_path, "b"), View(None, max_width=32))
    for i in range(3):
        for sink in (drawn, clean):
            sink.write(shot(10, {0: 0.9}, step_s=0.01 * i))
    drawn.close()
    clean.close()
    assert frames_of(tmp_path / videos(tmp_path)[0])[0].std() > 10
    small = frames_of(tmp_path / videos(tmp_path)[1])[0]
    assert small.shape == (24, 32, 3) and small.std() < 3


def test_a_rate_leaves_frames_out_and_a_gap_repeats_them(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "a"), CLEAN, fps=5)
    for i in (*range(20), 30):
        sink.write(shot(i))
    sink.close()
    assert brightness(tmp_path / videos(tmp_path)[0]) == [*marks(range(0, 20, 2)), *[30 % 25] * 6]


def test_a_kill_leaves_segments_that_play(tmp_path: Path) -> None:
    script = """
import sys, time
sys.path[:0] = [{here!r}, {tests!r}]
from pathlib import Path
from test_recording import CLEAN, shot
from media import noise
from edge.sinks.recording import Folder, SegmentSink
sink = SegmentSink(Folder(Path({root!r}), "gate"), CLEAN, segment_s=5, suffix={suffix!r})
for i in range(10**6):
    sink.write(shot(i, image=noise(i % 50, (320, 240))))
    print(i, flush=True)
"""
    for suffix in (".mkv", ".mp4"):
        root = tmp_path / suffix[1:]
        text = script.format(
            here=str(Path(__file__).parent), tests=str(Path(__file__).parents[1]), root=str(root), suffix=suffix
        )
        process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 130:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        names = videos(root)
        counts = [len(frames_of(root / name)) for name in names]
        assert counts[:2] == [50, 50] and counts[2] >= 1, (suffix, counts)


# What a disk does


def test_a_full_disk_stops_recording_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1500) as disk:
        filler = disk / "filler"
        sink = SegmentSink(Folder(disk, "gate", min_free_gb=0), CLEAN, segment_s=60)
        sink.write(shot(0, image=noise(0, (320, 240))))
        filler.write_bytes(bytes(1_000_000))
        with pytest.raises(OutputError, match="the disk is full"):
            for i in range(1, 500):
                sink.write(shot(i, image=noise(i, (320, 240))))
        first = len(frames_of(disk / videos(disk)[1]))
        assert first >= 5
        with pytest.raises(OutputError):
            sink.write(shot(600, image=noise(0, (320, 240))))
        filler.unlink()
        for i in range(700, 705):
            sink.write(shot(i, image=noise(i, (320, 240))))
        sink.close()
        found = [name for name in videos(disk) if frames_of(disk / name)]
        assert len(frames_of(disk / found[0])) == first
        assert len(frames_of(disk / found[-1])) == 5


def test_a_nearly_full_disk_loses_its_oldest_recordings(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2000) as disk:
        sink = SegmentSink(Folder(disk, "gate", min_free_gb=1.2e-3), CLEAN, segment_s=1)
        for i in range(100):
            sink._folder._swept_s = None
            sink.write(shot(i, image=noise(i, (160, 120))))
        sink.close()
        names = videos(disk)
        assert 1 <= len(names) < 10 and names[-1] == "gate/2026-05-04/14-03-09.mkv"
        assert all(frames_of(disk / name) for name in names)


def touch(path: Path, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_only_own_files_go_by_age_and_links_are_not_followed(tmp_path: Path) -> None:
    now = datetime(2026, 5, 10, 12, 0, 0).timestamp()
    folder = Folder(tmp_path, "gate", max_days=3, min_free_gb=0, now=lambda: now)
    old = touch(tmp_path / "gate/2026-05-04/10-00-00.mkv")
    also = touch(tmp_path / "gate/2026-05-07/11-59-59-person.jpg")
    stay = [
        touch(tmp_path / "gate/2026-05-07/12-00-01.mkv"),
        touch(tmp_path / "gate/2026-05-04/holiday.mkv"),
        touch(tmp_path / "gate/2026-05-04x/10-00-00.mkv"),
        touch(tmp_path / "gate/1970-01-01/00-01-00.mkv"),  # recorded before the clock was right
        touch(tmp_path / "yard/2026-05-04/10-00-00.mkv"),
        touch(tmp_path / "elsewhere/10-00-00.mkv"),
    ]
    (tmp_path / "gate/2026-05-03").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "gate/2026-05-04/10-00-01.mkv").symlink_to(stay[-1])
    writing = touch(tmp_path / "gate/2026-05-04/09-00-00.mkv")
    folder.sweep(writing)
    assert not old.exists() and not also.exists()
    assert all(path.exists() for path in (*stay, writing))
    # Not again within a minute.
    again = touch(old)
    folder.sweep()
    assert again.exists()


def test_before_the_clock_is_right_nothing_is_too_old(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "gate", max_days=1, min_free_gb=0, now=lambda: 3600.0)
    kept = touch(tmp_path / "gate/2026-05-04/10-00-00.mkv")
    folder.sweep()
    assert kept.exists()


def test_the_oldest_go_by_size_and_days_that_are_empty_with_them(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        for hour in range(4):
            touch(tmp_path / f"gate/2026-05-0{day}/0{hour}-00-00.mkv", 100_000)
    Folder(tmp_path, "gate", max_gb=6.5e-4, min_free_gb=0).sweep()
    assert videos(tmp_path) == [
        "gate/2026-05-02/02-00-00.mkv",
        "gate/2026-05-02/03-00-00.mkv",
        *[f"gate/2026-05-03/0{hour}-00-00.mkv" for hour in range(4)],
    ]
    assert not (tmp_path / "gate/2026-05-01").exists()


# Clips


def clips(tmp_path: Path, **options: Any) -> ClipSink:
    events = Events(LABELS, [1, 2], 0.5)
    return ClipSink(Folder(tmp_path, "gate"), CLEAN, events, "gate", **{"pre_s": 1.0, "post_s": 0.55, **options})


def test_a_clip_has_what_came_before_and_after(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    scores = {5: 0.4, 20: 0.6, 22: 0.75, 24: 0.7}
    for i in range(45):
        sink.write(shot(i, {0: 0.99, **({1: scores[i]} if i in scores else {})}))
    sink.close()
    clip, told = (tmp_path / name for name in sorted(videos(tmp_path), reverse=True))
    assert clip.name == "14-03-01-green.mkv"
    first = json.loads(told.read_text())
    assert first["labels"] == {"green": {"best": 0.75, "frames": 3}}
    assert brightness(clip) == marks(range(10, 30))
    assert (first["camera"], first["video"]) == ("gate", clip.name)
    assert first["start"].startswith("2026-05-04T14:03:01.0")
    assert first["first_seen"].startswith("2026-05-04T14:03:02.0")
    assert first["last_seen"].startswith("2026-05-04T14:03:02.4")


def test_a_score_at_the_bound_counts_and_other_classes_do_not(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    for i in range(30):
        sink.write(shot(i, {0: 0.99, **({1: 0.5} if i == 12 else {2: 0.49})}))
    sink.close()
    (clip,) = (tmp_path / name for name in videos(tmp_path) if name.endswith(".mkv"))
    assert brightness(clip) == marks(range(2, 18))


def test_a_long_event_is_cut_into_clips_without_a_gap(tmp_path: Path) -> None:
    sink = clips(tmp_path, max_s=2.0)
    for i in range(50):
        sink.write(shot(i, {2: 0.9} if i >= 5 else {}))
    sink.close()
    found = [tmp_path / name for name in videos(tmp_path) if name.endswith(".mkv")]
    assert found[0].name == "14-03-00-traffic_light.mkv"
    assert [brightness(clip) for clip in found] == [marks(range(25)), marks(range(25, 45)), marks(range(45, 50))]


def test_a_camera_that_goes_away_or_changes_its_size_ends_its_clip(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    for i in range(20):
        sink.write(shot(i, {1: 0.9} if i == 10 else {}))
    for i in range(20, 25):
        sink.write(shot(i, {1: 0.9}, size_wh=(80, 60)))
    sink.tick()
    assert sink._event is None  # the frames' clock is long past
    found = [tmp_path / name for name in videos(tmp_path) if name.endswith(".mkv")]
    assert [frames_of(clip)[0].shape[:2] for clip in found] == [(48, 64), (60, 80)]


def test_pictures_that_wait_are_bounded_in_time_and_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = clips(tmp_path, pre_s=2.0)
    for i in range(100):
        sink.write(shot(i))
    assert len(sink._kept) == 21 and sink._bytes == sum(len(kept.jpeg) for kept in sink._kept)
    monkeypatch.setattr("edge.sinks.recording.clips._MOST_BYTES", 50_000)
    for i in range(100, 130):
        sink.write(shot(i, image=noise(i, (160, 120))))
    assert sink._bytes <= 50_000 and len(sink._kept) >= 2
    assert not videos(tmp_path)


def test_a_clip_on_a_full_disk_is_an_error_and_the_next_event_is_recorded(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 600) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(560_000))
        sink = ClipSink(Folder(disk, "gate", min_free_gb=0), CLEAN, Events(LABELS), "gate", 1.0, 0.5)
        with pytest.raises(OutputError):
            for i in range(50):
                sink.write(shot(i, {1: 0.9}, image=noise(i, (160, 120))))
        filler.unlink()
        for i in range(100, 120):
            sink.write(shot(i, {1: 0.9} if i < 103 else {}, image=noise(i, (160, 120))))
        sink.close()
        assert len(frames_of(max(disk.rglob("*.mkv")))) >= 5
        assert list(disk.rglob("*.json"))


# Snapshots


def snapshots(tmp_path: Path, **options: Any) -> SnapshotSink:
    return SnapshotSink(Folder(tmp_path, "gate"), CLEAN, Events(LABELS, None, 0.5), **{"gap_s": 0.5, **options})


def test_the_best_picture_of_an_event_is_kept(tmp_path: Path) -> None:
    sink = snapshots(tmp_path)
    scores = {10: 0.6, 11: 0.9, 12: 0.7, 30: 0.8}
    for i in range(40):
        sink.write(shot(i, {2: scores[i]} if i in scores else {0: 0.2}))
    assert videos(tmp_path) == [
        "gate/2026-05-04/14-03-01-traffic_light-0.90.jpg",
        "gate/2026-05-04/14-03-03-traffic_light-0.80.jpg",
    ]
    assert round(float(cv2.imread(str(tmp_path / videos(tmp_path)[0])).mean()) / 10) == 11


def test_a_long_event_gives_a_picture_now_and_then(tmp_path: Path) -> None:
    sink = snapshots(tmp_path, every_s=1.0)
    for i in range(35):
        sink.write(shot(i, {0: 0.5 + i / 100}))
    sink.tick()
    assert [name[-12:] for name in videos(tmp_path)] == ["red-0.59.jpg", "red-0.69.jpg", "red-0.79.jpg", "red-0.84.jpg"]


def test_a_crop_shows_the_box(tmp_path: Path) -> None:
    sink = snapshots(tmp_path, crop=True)
    sink.write(shot(0, {1: 0.9}))
    sink.close()
    assert cv2.imread(str(tmp_path / videos(tmp_path)[0])).shape == (38, 38, 3)


def test_a_classification_is_an_event_too(tmp_path: Path) -> None:
    sink = snapshots(tmp_path)
    sink.write(Result(shot(0).frame, Detections.empty(), {}, classification=Classification((1, 0), (0.8, 0.2))))
    sink.close()
    assert videos(tmp_path)[0].endswith("green-0.80.jpg")


# Rows


def rows(path: Path, **options: Any) -> RowsSink:
    return RowsSink(path, lambda result: json_line(result, LABELS, "gate"), **{"flush_s": 0.0, **options})


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["frame"] for line in path.read_text().splitlines()]


def test_rows_are_written_together(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gate.jsonl"
    sink = rows(path, flush_s=3600)
    for i in range(5):
        sink.write(shot(i))
    sink.tick()
    assert not path.exists()
    sink.close()
    assert numbers(path) == list(range(5))


def test_rows_go_on_behind_what_is_there_and_half_a_line_goes(tmp_path: Path) -> None:
    path = tmp_path / "gate.jsonl"
    first = rows(path)
    first.write(shot(1))
    first.close()
    with path.open("a") as file:
        file.write('{"camera": "gate", "fr')
    second = rows(path)
    second.write(shot(2))
    second.close()
    assert numbers(path) == [1, 2]


def test_files_rotate_and_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "gate.jsonl"
    length = len(json_line(shot(10), LABELS, "gate"))
    sink = rows(path, max_mb=3.5 * length / 1e6, keep=2)
    for i in range(10, 23):
        sink.write(shot(i))
    sink.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gate.1.jsonl", "gate.2.jsonl", "gate.jsonl"]
    assert [numbers(tmp_path / name) for name in ("gate.2.jsonl", "gate.1.jsonl", "gate.jsonl")] == [
        [16, 17, 18],
        [19, 20, 21],
        [22],
    ]


def test_without_old_files_the_one_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "gate.csv"
    sink = RowsSink(
        path, lambda r: csv_rows(r, LABELS, "gate"), csv_header(camera=True), max_mb=3e-4, keep=0, flush_s=0
    )
    for i in range(20):
        sink.write(shot(i, {1: 0.75}))
    sink.close()
    header, *lines = path.read_text().splitlines()
    assert header.startswith("camera,time,source,frame,") and 1 <= len(lines) < 6
    assert lines[-1].startswith("gate,") and ",green,0.75," in lines[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["gate.csv"]


def test_rows_wait_for_a_full_disk_and_none_is_lost_or_cut(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        filler, path = disk / "filler", disk / "gate.jsonl"
        sink = rows(path)
        sink.write(shot(0))
        with pytest.raises(OSError):
            filler.write_bytes(bytes(200_000))
        failed = 0
        for i in range(1, 40):
            try:
                sink.write(shot(i))
            except OutputError as error:
                assert "the disk is full" in str(error)
                failed += 1
        assert failed
        assert all(json.loads(line) for line in path.read_text().splitlines())
        filler.unlink()
        sink.write(shot(40))
        sink.close()
        assert numbers(path) == list(range(41))


def test_two_cameras_under_one_root_leave_each_other_alone(tmp_path: Path) -> None:
    sinks = [SegmentSink(Folder(tmp_path, name, max_gb=0), CLEAN, segment_s=0.5) for name in ("a", "b")]
    for i in range(20):
        for sink in sinks:
            sink.write(shot(i))
    for sink in sinks:
        sink.close()
    assert {name.partition("/")[0] for name in videos(tmp_path)} == {"a", "b"}
    shutil.rmtree(tmp_path / "a")
    assert brightness(tmp_path / videos(tmp_path)[-1])
    assert os.path.isdir(tmp_path / "b")
