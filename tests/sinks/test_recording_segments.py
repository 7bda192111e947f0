"""Video in segments: names, lengths, gaps, rates; kills, full disks, disks that go away."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import numpy as np
import pytest
from media import frames_of, noise, small_disk
from recordings import CLEAN, LABELS, brightness, files, killed, marks, shot

from edge.detections import Detections
from edge.errors import OutputError
from edge.frame import Frame
from edge.result import Result
from edge.runner.sinks import GuardedSink
from edge.sinks import Overlay
from edge.sinks.recording import Folder, SegmentSink, View


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_segments_follow_each_other_and_no_frame_is_lost(tmp_path: Path, suffix: str) -> None:
    sink = SegmentSink(Folder(tmp_path, "gate"), CLEAN, segment_s=1.0, suffix=suffix)
    for i in range(25):
        sink.write(shot(i))
    sink.close()
    sink.close()
    names = files(tmp_path)
    assert names == [f"gate/2026-05-04/14-03-0{i}{suffix}" for i in range(3)]
    assert [brightness(tmp_path / name) for name in names] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 25)),
    ]


def test_a_closed_sink_may_be_written_to_again(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "gate"), CLEAN)
    for i in range(3):
        sink.write(shot(i))
    sink.close()
    for i in range(20, 25):
        sink.write(shot(i))
    sink.close()
    assert [brightness(tmp_path / name) for name in files(tmp_path)] == [[0, 1, 2], [20, 21, 22, 23, 24]]


def test_a_new_size_begins_a_segment(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "gate"), CLEAN)
    for i in range(5):
        sink.write(shot(i))
    for i in range(5, 10):
        sink.write(shot(i, size_wh=(80, 60)))
    sink.close()
    first, second = (tmp_path / name for name in files(tmp_path))
    assert (first.name, second.name) == ("14-03-00.mkv", "14-03-00_2.mkv")
    assert [frames_of(path)[0].shape for path in (first, second)] == [(48, 64, 3), (60, 80, 3)]


def test_boxes_are_drawn_or_not_and_pictures_scaled(tmp_path: Path) -> None:
    drawn = SegmentSink(Folder(tmp_path, "a"), View(Overlay(LABELS)))
    clean = SegmentSink(Folder(tmp_path, "b"), View(None, max_width=32))
    for i in range(3):
        for sink in (drawn, clean):
            sink.write(shot(10 + i, {0: 0.9}))
    drawn.close()
    clean.close()
    assert frames_of(tmp_path / files(tmp_path)[0])[0].std() > 10
    small = frames_of(tmp_path / files(tmp_path)[1])[0]
    assert small.shape == (24, 32, 3) and small.std() < 3


def test_a_rate_leaves_frames_out_and_a_gap_repeats_them(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "a"), CLEAN, fps=5)
    for i in (*range(20), 30):
        sink.write(shot(i))
    sink.close()
    assert brightness(tmp_path / files(tmp_path)[0]) == [*marks(range(0, 20, 2)), *[30 % 25] * 6]


def test_an_uneven_rate_keeps_the_time(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "a"), CLEAN, segment_s=30)
    random = np.random.default_rng(3)
    at = np.cumsum(random.uniform(0.02, 0.5, 110))
    for i, s in enumerate(at):
        sink.write(shot(i, step_s=float(s) / max(i, 1)))
    sink.close()
    first = frames_of(tmp_path / files(tmp_path)[0])
    assert at[-1] < 30 and abs(len(first) / 10 - (at[-1] - at[0])) < 0.3


def test_a_camera_that_was_away_begins_a_segment_that_tells_when(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "a"), CLEAN)
    for i in (*range(10), *range(310, 320)):
        sink.write(shot(i))
    sink.close()
    assert [Path(name).name for name in files(tmp_path)] == ["14-03-00.mkv", "14-03-31.mkv"]
    assert [brightness(tmp_path / name) for name in files(tmp_path)] == [
        marks(range(10)),
        marks(range(310, 320)),
    ]


def test_a_camera_that_stays_away_ends_its_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = SegmentSink(Folder(tmp_path, "a"), CLEAN)
    sink.write(shot(0))
    sink.tick()
    assert sink._file is not None
    sink._used_s -= 6
    sink.tick()
    assert sink._file is None and len(frames_of(tmp_path / files(tmp_path)[0])) == 1
    sink.close()


def test_a_stream_that_announces_too_much_is_recorded_at_the_rate_that_comes(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "a"), CLEAN, segment_s=10)
    for i in range(200):
        sink.write(shot(i, fps=90_000.0 if i < 150 else 30.0))
    sink.close()
    first, second = (len(frames_of(tmp_path / name)) for name in files(tmp_path))
    assert 245 <= first <= 250  # nothing is known yet: 25 a second
    assert 100 <= second <= 112
    seen = brightness(tmp_path / files(tmp_path)[1])
    assert [v for i, v in enumerate(seen) if i == 0 or seen[i - 1] != v] == marks(range(100, 200))


def test_a_video_file_keeps_its_own_time(tmp_path: Path) -> None:
    sink = SegmentSink(Folder(tmp_path, "a"), CLEAN, segment_s=1)
    for i in range(20):
        image = np.full((48, 64, 3), 10 * i, np.uint8)
        # Read as fast as it goes: 1 ms a frame.
        frame = Frame(image, i, "clip.mp4", i / 10, 5 + i / 1000, shot(i).frame.wall_s, 10.0)
        sink.write(Result(frame, Detections.empty(), {}))
    sink.close()
    assert [brightness(tmp_path / name) for name in files(tmp_path)] == [list(range(10)), list(range(10, 20))]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_kill_leaves_segments_that_play(tmp_path: Path, suffix: str) -> None:
    script = f"""
from pathlib import Path
from media import noise
from recordings import CLEAN, shot
from edge.sinks.recording import Folder, SegmentSink
sink = SegmentSink(Folder(Path({str(tmp_path)!r}), "gate"), CLEAN, segment_s=5, suffix={suffix!r})
for i in range(10**6):
    sink.write(shot(i, image=noise(i % 50, (320, 240))))
    print(i, flush=True)
"""
    killed(script, 130)
    counts = [len(frames_of(tmp_path / name)) for name in files(tmp_path)]
    assert counts[:2] == [50, 50] and counts[2] >= 1, counts
    # The next process goes on beside it.
    sink = SegmentSink(Folder(tmp_path, "gate"), CLEAN, suffix=suffix)
    sink.write(shot(100))
    sink.close()
    assert f"gate/2026-05-04/14-03-10_2{suffix}" in files(tmp_path)


def test_a_full_disk_stops_recording_and_it_goes_on_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", 1500) as disk:
        filler = disk / "filler"
        sink = SegmentSink(Folder(disk, "gate", min_free_gb=0), CLEAN, segment_s=60)
        guarded = GuardedSink("gate", "disk", "record", lambda: sink, retry_s=0.0)
        guarded.write(shot(0, image=noise(0, (320, 240))))
        filler.write_bytes(bytes(1_000_000))
        with caplog.at_level(logging.WARNING):
            index = 1
            while guarded.status().error is None and index < 500:
                guarded.write(shot(index, image=noise(index, (320, 240))))
                index += 1
            first = disk / files(disk)[1]
            count = len(frames_of(first))
            assert "the disk is full" in str(guarded.status().error) and count >= 5
            # However often it is tried, and with or without frames: one line for the outage.
            for i in range(500, 520):
                guarded.write(shot(i, image=noise(0, (320, 240))))
                guarded.tick()
            assert guarded.status().lost == 21
            filler.unlink()
            for i in range(700, 705):
                guarded.write(shot(i, image=noise(i, (320, 240))))
            guarded.close()
        assert [r.levelname for r in caplog.records if "gate: sink" in r.message] == ["ERROR", "WARNING"]
        assert len(frames_of(first)) == count
        assert files(disk) == ["gate/2026-05-04/14-03-00.mkv", "gate/2026-05-04/14-04-10.mkv"]
        assert len(frames_of(disk / files(disk)[1])) == 5


def test_a_disk_that_is_pulled_out_is_not_replaced_by_the_one_below(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4000) as disk:
        sink = SegmentSink(Folder(disk, "gate", min_free_gb=0), CLEAN, segment_s=1)
        for i in range(15):
            sink.write(shot(i))
        # Lazily: as for a stick, files stay open.
        subprocess.run(["umount", "-l", str(disk)], check=True)
        with pytest.raises(OutputError):
            for i in range(15, 40):
                sink.write(shot(i))
        with pytest.raises(OutputError, match="the disk that was mounted at .* is gone"):
            sink.write(shot(41))
        with pytest.raises(OutputError, match="is gone"):
            sink.tick()
        assert list(disk.iterdir()) == []
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4000k", "none", str(disk)], check=True)
        for i in range(50, 55):
            sink.write(shot(i))
        sink.close()
        assert [brightness(disk / name) for name in files(disk)] == [marks(range(50, 55))]


def test_a_disk_that_turned_read_only_is_an_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4000) as disk:
        sink = SegmentSink(Folder(disk, "gate", min_free_gb=0), CLEAN, segment_s=1)
        for i in range(10):
            sink.write(shot(i))
        sink._end()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for i in range(10, 13):
            with pytest.raises(OutputError, match="[Rr]ead-only"):
                sink.write(shot(i))
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        sink.write(shot(20))
        sink.close()
        assert [brightness(disk / name) for name in files(disk)] == [list(range(10)), [20]]


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gate").write_text("")
    sink = SegmentSink(Folder(tmp_path, "gate"), CLEAN)
    with pytest.raises(OutputError, match="gate"):
        sink.write(shot(0))
    (tmp_path / "gate").unlink()
    sink.write(shot(1))
    sink.close()
    assert len(files(tmp_path)) == 1


def test_two_cameras_under_one_root_leave_each_other_alone(tmp_path: Path) -> None:
    folders = [Folder(tmp_path, name, max_gb=gb, min_free_gb=0) for name, gb in (("a", 1e-6), ("a-b_1", None))]
    sinks = [SegmentSink(folder, CLEAN, segment_s=0.5) for folder in folders]
    for i in range(20):
        for sink in sinks:
            sink.write(shot(i))
        for folder in folders:
            folder.trim()
    for sink in sinks:
        sink.close()
    kept = [name for name in files(tmp_path) if name.startswith("a-b_1/")]
    assert [brightness(tmp_path / name) for name in kept] == [list(range(i, i + 5)) for i in range(0, 20, 5)]
    assert len([name for name in files(tmp_path) if name.startswith("a/")]) == 1
