"""What is kept: by age, size and free space; only own files, no links, and clocks that jump."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from media import frames_of, noise, small_disk
from recordings import CLEAN, LABELS, files, shot, touch

from edge.sinks.recording import ClipSink, Events, Folder, SegmentSink, SnapshotSink
from edge.sinks.recording.clips import _FILES as CLIPS
from edge.sinks.recording.folder import Files
from edge.sinks.recording.retention import Keeper
from edge.sinks.recording.segments import _FILES as SEGMENTS
from edge.sinks.recording.snapshots import _FILES as SNAPSHOTS

NOON = datetime(2026, 5, 10, 12, 0, 0).timestamp()


class Clock:
    """The time of day, and one that only goes on."""

    def __init__(self, wall_s: float = NOON) -> None:
        self.wall_s = wall_s
        self.elapsed_s = 100.0

    def forward(self, seconds: float) -> None:
        self.wall_s += seconds
        self.elapsed_s += seconds


def folder(
    root: Path, camera: str = "gate", own: Files = SEGMENTS, clock: Clock | None = None, **limits: Any
) -> Folder:
    clock = Clock() if clock is None else clock
    made = Folder(
        root, camera, **{"min_free_gb": 0.0, **limits}, now=lambda: clock.wall_s, elapsed=lambda: clock.elapsed_s
    )
    made.claim(own)
    return made


def keeper(*folders: Folder) -> Keeper:
    """Return a keeper that looks when it is told to, and by no thread."""
    made = Keeper()
    made._thread = threading.current_thread()
    for one in folders:
        made.add(one)
    return made


def test_only_own_files_go_by_age_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = folder(tmp_path, max_days=3)
    old = [
        touch(tmp_path / "gate/2026-05-04/10-00-00.mkv"),
        touch(tmp_path / "gate/2026-05-04/10-00-00_2.mp4"),
        touch(tmp_path / "gate/2026-05-04/10-01-00.mkv.part.mkv"),  # of a process that was killed
        touch(tmp_path / "gate/2026-05-07/11-59-59.mkv"),
    ]
    stay = [
        touch(tmp_path / "gate/2026-05-07/12-00-01.mkv"),
        touch(tmp_path / "gate/2026-05-04/holiday.mkv"),
        touch(tmp_path / "gate/2026-05-04/10-00-00.txt"),
        touch(tmp_path / "gate/2026-05-04/10-00-00-person.mkv"),  # a clip
        touch(tmp_path / "gate/2026-05-04/10-00-00-person-0.90.jpg"),  # a snapshot
        touch(tmp_path / "gate/2026-05-04/deeper/10-00-00.mkv"),
        touch(tmp_path / "gate/2026-05-04x/10-00-00.mkv"),
        touch(tmp_path / "gate/10-00-00.mkv"),
        touch(tmp_path / "gate/1970-01-01/00-01-00.mkv"),  # recorded before the clock was right
        touch(tmp_path / "yard/2026-05-04/10-00-00.mkv"),
        touch(tmp_path / "gate-2/2026-05-04/10-00-00.mkv"),
        touch(tmp_path / "elsewhere/10-00-00.mkv"),
        touch(tmp_path / "gate/2026-05-04/09-00-00.mkv"),
    ]
    (tmp_path / "gate/2026-05-03").symlink_to(tmp_path / "elsewhere")
    link = tmp_path / "gate/2026-05-04/10-00-01.mkv"
    link.symlink_to(tmp_path / "elsewhere/10-00-00.mkv")
    kept.writing = {stay[-1]}
    assert kept.trim() == []  # a clock is believed at the second look
    assert len(kept.trim()) == len(old)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in stay) and link.is_symlink()


def test_a_day_that_became_a_link_is_left_alone(tmp_path: Path) -> None:
    kept = folder(tmp_path, max_gb=1e-9)
    touch(tmp_path / "gate/2026-05-04/10-00-00.mkv")
    elsewhere = touch(tmp_path / "elsewhere/10-00-00.mkv")
    recording = next(kept.recordings())
    (tmp_path / "gate/2026-05-04").rename(tmp_path / "moved")
    (tmp_path / "gate/2026-05-04").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        kept.remove(recording)
    assert elsewhere.exists()


@pytest.mark.parametrize(
    "own, name, mine",
    [
        (SEGMENTS, "14-03-00.mkv", True),
        (SEGMENTS, "14-03-00_12.mp4", True),
        (SEGMENTS, "14-03-00.jpg", False),
        (SEGMENTS, "14-03-00-cat.mkv", False),
        (SEGMENTS, "14-03-00.mkv.bak", False),
        (SEGMENTS, "114-03-00.mkv", False),
        (CLIPS, "14-03-00-traffic_light.mkv", True),
        (CLIPS, "14-03-00-traffic_light.json", True),
        (CLIPS, "14-03-00-größe_2.mp4", True),
        (CLIPS, ".14-03-00-cat.json.part", True),
        (CLIPS, "14-03-00.mkv", False),
        (CLIPS, "14-03-00-cat-0.90.jpg", False),
        (CLIPS, "notes.json", False),
        (SNAPSHOTS, "14-03-00-cat-0.90.jpg", True),
        (SNAPSHOTS, ".14-03-00-cat-0.90.jpg.part", True),
        (SNAPSHOTS, "14-03-00-cat.mkv", False),
        (SNAPSHOTS, "IMG_0001.jpg", False),
    ],
)
def test_which_names_are_a_sinks_own(own: Files, name: str, mine: bool) -> None:
    assert (own.own(name) is not None) == mine


def test_clips_go_with_what_is_said_about_them(tmp_path: Path) -> None:
    for hour in range(4):
        touch(tmp_path / f"gate/2026-05-04/0{hour}-00-00-cat.mkv", 100_000)
        touch(tmp_path / f"gate/2026-05-04/0{hour}-00-00-cat.json", 100)
    folder(tmp_path, own=CLIPS, max_gb=2.5e-4).trim()
    assert files(tmp_path) == [f"gate/2026-05-04/0{h}-00-00-cat.{s}" for h in (2, 3) for s in ("json", "mkv")]


@pytest.mark.parametrize("wall_s", [3600.0, datetime(2023, 12, 31).timestamp()])
def test_before_the_clock_is_right_nothing_is_too_old(tmp_path: Path, wall_s: float) -> None:
    clock = Clock(wall_s)
    kept = folder(tmp_path, clock=clock, max_days=1)
    path = touch(tmp_path / "gate/2026-05-04/10-00-00.mkv")
    kept.trim()
    assert kept.trim() == [] and path.exists()
    # The network has told the time.
    clock.wall_s = NOON
    assert kept.trim() == []
    clock.forward(60)
    assert len(kept.trim()) == 1


def test_a_clock_that_is_wrong_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    clock = Clock()
    kept = folder(tmp_path, clock=clock, max_days=30)
    path = touch(tmp_path / "gate/2026-05-04/10-00-00.mkv")
    for jump_s in (0, 0, 10 * 365 * 86400, -10 * 365 * 86400, 0):
        clock.wall_s += jump_s
        kept.trim()
        clock.forward(60)
    assert path.exists()


def test_files_of_1970_are_the_first_to_go_by_size(tmp_path: Path) -> None:
    for day in ("1970-01-01", "2026-05-04"):
        touch(tmp_path / f"gate/{day}/10-00-00.mkv", 100_000)
    folder(tmp_path, max_gb=1.5e-4).trim()
    assert files(tmp_path) == ["gate/2026-05-04/10-00-00.mkv"]


def test_the_oldest_go_by_size_and_days_that_are_empty_with_them(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        for hour in range(4):
            touch(tmp_path / f"gate/2026-05-0{day}/0{hour}-00-00.mkv", 100_000)
    (tmp_path / "gate/2026-04-30").mkdir()
    folder(tmp_path, max_gb=6.5e-4).trim()
    assert files(tmp_path) == [
        "gate/2026-05-02/02-00-00.mkv",
        "gate/2026-05-02/03-00-00.mkv",
        *[f"gate/2026-05-03/0{hour}-00-00.mkv" for hour in range(4)],
    ]
    assert sorted(p.name for p in (tmp_path / "gate").iterdir()) == ["2026-05-02", "2026-05-03"]


def test_sizes_are_right_however_often_and_whatever_came_and_went(tmp_path: Path) -> None:
    kept = folder(tmp_path, max_gb=1.0)
    paths = [touch(tmp_path / f"gate/2026-05-0{day}/10-00-00.mkv", 50_000 * day) for day in (1, 2, 3)]

    def truth() -> int:
        return sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*.mkv"))

    assert kept._total_bytes() == kept._total_bytes() == truth()
    # A file that is being written grows, which its folder does not show.
    kept.writing = {paths[2]}
    assert kept._total_bytes() == truth()
    touch(paths[2], 900_000)
    assert kept._total_bytes() == truth()
    touch(paths[2], 1_900_000)
    kept.writing = set()
    assert kept._total_bytes() == truth()
    os.unlink(paths[0])
    touch(tmp_path / "gate/2026-05-02/11-00-00.mkv", 70_000)
    assert kept._total_bytes() == truth()


def test_the_file_that_is_written_stays_even_where_it_is_too_much(tmp_path: Path) -> None:
    kept = folder(tmp_path, max_gb=1e-9)
    path = touch(tmp_path / "gate/2026-05-04/10-00-00.mkv")
    kept.writing = {path}
    assert kept.trim() == [] and path.exists()


def test_a_nearly_full_disk_loses_its_oldest_recordings(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2000) as disk:
        kept = Folder(disk, "gate", min_free_gb=1.2e-3)
        sink = SegmentSink(kept, CLEAN, segment_s=1)
        watch = keeper(kept)
        for i in range(100):
            sink.write(shot(i, image=noise(i, (160, 120))))
            watch.sweep()
        sink.close()
        names = files(disk)
        assert 1 <= len(names) < 10 and names[-1] == "gate/2026-05-04/14-03-09.mkv"
        assert all(frames_of(disk / name) for name in names)


def test_room_is_made_by_age_across_cameras(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1200) as disk:
        for minute in range(10):
            touch(disk / f"video/{'ab'[minute % 2]}/2026-05-04/10-{minute:02}-00.mkv", 100_000)
        greedy = folder(disk / "video", "c", min_free_gb=0.0)
        folders = [folder(disk / "video", name, min_free_gb=6e-4) for name in "ab"]
        keeper(greedy, *folders).sweep()
        assert [Path(name).name[3:5] for name in sorted(files(disk), key=lambda n: n[-12:])] == [
            f"{m:02}" for m in range(4, 10)
        ]


def test_a_disk_that_others_fill_costs_all_and_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        touch(disk / "gate/2026-05-04/10-00-00.mkv", 100_000)
        writing = touch(disk / "gate/2026-05-04/10-01-00.mkv", 100_000)
        touch(disk / "filler", 600_000)
        kept = folder(disk, min_free_gb=1e-3)
        kept.writing = {writing}
        watch = keeper(kept)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                watch.sweep()
        assert files(disk) == ["filler", "gate/2026-05-04/10-01-00.mkv"]
        (record,) = caplog.records
        assert "there is no recording left to remove" in record.getMessage()


def test_a_folder_that_cannot_be_read_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "gate").write_text("")
    other = touch(tmp_path / "yard/2026-05-04/10-00-00.mkv")
    folders = [folder(tmp_path), folder(tmp_path, "yard", max_gb=1e-9)]
    watch = keeper(*folders)
    with caplog.at_level(logging.WARNING):
        watch.sweep()
        watch.sweep()
    assert [("gate: cannot be tidied up" in r.getMessage()) for r in caplog.records] == [True]
    assert not other.exists()


def test_one_thread_looks_while_there_is_something_to_look_after(tmp_path: Path) -> None:
    watch = Keeper(sweep_s=0.02)
    kept = [folder(tmp_path, name, max_gb=1e-9) for name in "ab"]
    for name in "ab":
        touch(tmp_path / name / "2026-05-04/of-another.txt")  # or the folder would be removed before a file is in it
    for one in kept:
        watch.add(one)
        watch.add(one)
    assert [t.name for t in threading.enumerate()].count("edge-retention") >= 1

    def goes(path: Path) -> None:
        # At once, as no sink leaves half a file that it does not say it is writing.
        touch(tmp_path / "new").rename(path)
        deadline = time.monotonic() + 20
        while path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not path.exists()

    for name in "ab":
        goes(tmp_path / f"{name}/2026-05-04/10-00-00.mkv")
    thread = watch._thread
    assert thread is not None
    watch.discard(kept[0])
    del kept[1]  # dropped and never closed
    del one
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    # It begins again with the next.
    watch.add(kept[0])
    goes(tmp_path / "a/2026-05-04/11-00-00.mkv")
    watch.discard(kept[0])


def test_sinks_are_looked_after_from_their_first_call_to_their_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Path]] = []
    monkeypatch.setattr(Keeper, "add", lambda self, f: seen.append(("add", f.path)))
    monkeypatch.setattr(Keeper, "discard", lambda self, f: seen.append(("discard", f.path)))
    folders = [Folder(tmp_path, name) for name in "abc"]
    sinks = [
        SegmentSink(folders[0], CLEAN),
        ClipSink(folders[1], CLEAN, Events(LABELS), "b"),
        SnapshotSink(folders[2], CLEAN, Events(LABELS)),
    ]
    for sink, one in zip(sinks, folders, strict=True):
        sink.tick()  # also where no frame ever comes
        sink.close()
        assert seen[-2:] == [("add", one.path), ("discard", one.path)]
    assert files(tmp_path) == []
