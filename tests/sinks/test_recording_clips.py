"""Videos of events: what came before, how long they last, where they are put together, what is left after a kill."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from media import frames_of, noise, small_disk
from recordings import CLEAN, LABELS, brightness, files, killed, marks, shot

from edge.errors import OutputError
from edge.sinks.recording import ClipSink, Events, Folder
from edge.sinks.recording.scratch import Scratch, memory_folder


@pytest.fixture(params=["memory", "disk"])
def memory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder in memory of the test's own, and none."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    path = tmp_path / "memory"
    path.mkdir()
    found = path if request.param == "memory" else None
    monkeypatch.setattr("edge.sinks.recording.scratch.memory_folder", lambda: found)
    return found


@pytest.fixture
def root(tmp_path: Path, memory: Path | None) -> Path:
    return tmp_path / "clips"


def clips(root: Path, events: Events | None = None, **options: Any) -> ClipSink:
    events = Events(LABELS, [1, 2], 0.5) if events is None else events
    return ClipSink(
        Folder(root, "gate", min_free_gb=0), CLEAN, events, "gate", **{"pre_s": 1.0, "post_s": 0.55, **options}
    )


def videos(root: Path) -> list[Path]:
    return [root / name for name in files(root) if name.endswith((".mkv", ".mp4"))]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_clip_has_what_came_before_and_after(root: Path, memory: Path | None, suffix: str) -> None:
    sink = clips(root, suffix=suffix)
    scores = {5: 0.4, 20: 0.6, 22: 0.75, 24: 0.7}
    for i in range(45):
        sink.write(shot(i, {0: 0.99, **({1: scores[i]} if i in scores else {})}))
    sink.close()
    told, clip = (root / name for name in sorted(files(root), key=lambda name: not name.endswith("json")))
    assert clip.name == f"14-03-01-green{suffix}" and sink.outputs == [clip]
    first = json.loads(told.read_text())
    assert first["labels"] == {"green": {"best": 0.75, "frames": 3}}
    assert brightness(clip) == marks(range(10, 30))
    assert (first["camera"], first["video"], first["first_seen_s"]) == ("gate", clip.name, 1.0)
    assert first["start"].startswith("2026-05-04T14:03:01.0")
    assert first["first_seen"].startswith("2026-05-04T14:03:02.0")
    assert first["last_seen"].startswith("2026-05-04T14:03:02.4")
    assert memory is None or files(memory) == []


def test_what_follows_soon_belongs_to_the_event_and_later_does_not(root: Path, memory: Path | None) -> None:
    sink = clips(root)
    for i in range(60):
        sink.write(shot(i, {1: 0.9} if i in (10, 15, 20, 40) else {}))
    sink.close()
    assert [brightness(path) for path in videos(root)] == [marks(range(26)), marks(range(30, 46))]


def test_a_score_at_the_bound_counts_and_other_classes_do_not(root: Path) -> None:
    sink = clips(root)
    for i in range(30):
        sink.write(shot(i, {0: 0.99, **({1: 0.5} if i == 12 else {2: 0.49})}))
    sink.close()
    (clip,) = videos(root)
    assert brightness(clip) == marks(range(2, 18))


def test_a_long_event_is_cut_into_clips_without_a_gap(root: Path) -> None:
    sink = clips(root, max_s=2.0)
    for i in range(50):
        sink.write(shot(i, {2: 0.9} if i >= 5 else {}))
    sink.close()
    found = videos(root)
    assert found[0].name == "14-03-00-traffic_light.mkv"
    assert [brightness(clip) for clip in found] == [marks(range(25)), marks(range(25, 45)), marks(range(45, 50))]
    told = [json.loads(clip.with_suffix(".json").read_text()) for clip in found]
    assert [t.get("follows") for t in told] == [None, found[0].name, found[1].name]


def test_the_cut_may_fall_behind_the_last_sighting(root: Path) -> None:
    sink = clips(root, max_s=1.0, post_s=1.0)
    for i in range(50):
        sink.write(shot(i, {2: 0.9} if 10 <= i <= 18 else {}))
    sink.close()
    assert [brightness(clip) for clip in videos(root)] == [marks(range(20)), marks(range(20, 29))]


def test_a_camera_that_goes_away_or_changes_its_size_ends_its_clip(root: Path) -> None:
    sink = clips(root)
    for i in range(20):
        sink.write(shot(i, {1: 0.9} if i == 18 else {}))
    for i in range(20, 25):
        sink.write(shot(i, {1: 0.9}, size_wh=(80, 60)))
    sink.tick()
    assert sink._event is not None
    sink._used_s -= 6
    sink.tick()
    assert sink._event is None
    assert [frames_of(clip)[0].shape[:2] for clip in videos(root)] == [(48, 64), (60, 80)]
    assert [brightness(clip) for clip in videos(root)] == [marks(range(8, 20)), marks(range(20, 25))]
    sink.close()


def test_a_gap_in_an_event_is_not_filled_with_a_frozen_picture(root: Path) -> None:
    sink = clips(root, post_s=30.0)
    for i in (*range(20), *range(200, 210)):
        sink.write(shot(i, {1: 0.9} if i == 5 else {}))
    sink.close()
    assert [brightness(clip) for clip in videos(root)] == [marks(range(20)), marks(range(200, 210))]


def test_pictures_from_before_an_outage_do_not_precede_an_event_after_it(root: Path) -> None:
    sink = clips(root, pre_s=20.0)
    for i in (*range(20), *range(100, 110)):
        sink.write(shot(i, {1: 0.9} if i == 105 else {}))
    sink.close()
    assert [brightness(clip) for clip in videos(root)] == [marks(range(100, 110))]


def test_pictures_that_wait_are_bounded_in_time_and_in_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = clips(root, pre_s=2.0)
    for i in range(100):
        sink.write(shot(i))
    assert len(sink._kept) == 21 and sink._bytes == sum(len(kept.jpeg) for kept in sink._kept)
    monkeypatch.setattr("edge.sinks.recording.clips._MOST_WAITING_BYTES", 50_000)
    for i in range(100, 130):
        sink.write(shot(i, image=noise(i, (160, 120))))
    assert sink._bytes <= 50_000 and len(sink._kept) >= 2
    assert files(root) == []
    sink.close()


def test_a_clip_on_a_full_disk_is_an_error_and_what_follows_is_recorded(tmp_path: Path, memory: Path | None) -> None:
    with small_disk(tmp_path / "disk", 900) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(880_000))
        sink = clips(disk, Events(LABELS), post_s=0.5)
        with pytest.raises(OutputError, match="the disk is full"):
            for i in range(50):
                sink.write(shot(i, {1: 0.9} if i < 20 else {}, image=noise(i, (160, 120))))
        for i in range(60, 70):
            with pytest.raises(OutputError):
                sink.tick()
            with pytest.raises(OutputError):
                sink.write(shot(i, {1: 0.9}))
        filler.unlink()
        for i in range(100, 120):
            sink.write(shot(i, {1: 0.9} if i < 103 else {}, image=noise(i, (160, 120))))
        sink.close()
        found = videos(disk)
        assert found[-1].name == "14-03-10-green.mkv" and len(frames_of(found[-1])) == 8
        assert found[-1].with_suffix(".json").exists()
        if memory is not None:
            # It waited in memory.
            assert found[0].name == "14-03-00-green.mkv" and len(frames_of(found[0])) == 25
            assert files(memory) == []
        assert not [name for name in files(disk) if "part" in name]


def test_a_clip_too_large_for_memory_is_cut(root: Path, memory: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.sinks.recording.clips.MOST_BYTES", 400_000)
    sink = clips(root, Events(LABELS))
    for i in range(120):
        sink.write(shot(i, {1: 0.9}, image=noise(i, (160, 120))))
    sink.close()
    found = videos(root)
    assert len(found) > 1 and sum(len(frames_of(path)) for path in found) == 120
    assert all(path.stat().st_size < 1_000_000 for path in found)


# Where they are put together


def test_memory_is_used_only_while_an_event_goes_on_and_by_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "run", 200_000) as run:
        monkeypatch.setenv("RUNTIME_DIRECTORY", f"{run}:/elsewhere")
        assert memory_folder() == run
        sink = clips(tmp_path / "clips")
        for i in range(10):
            sink.write(shot(i, {1: 0.9}))
        assert len([n for n in files(run) if n.endswith("14-03-00-green.mkv")]) == 1
        assert files(tmp_path / "clips") == []
        private = run / f"edge-{os.geteuid()}"
        assert private.stat().st_mode & 0o777 == 0o700
        sink.close()
        assert files(run) == [] and len(videos(tmp_path / "clips")) == 1
        # Another's folder of that name is not used.
        private.chmod(0o777)
        sink = clips(tmp_path / "clips")
        sink.write(shot(100, {1: 0.9}))
        assert files(run) == []
        sink.close()
        assert len(videos(tmp_path / "clips")) == 2


def test_little_memory_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "run", 1000) as run:
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(run))
        target = tmp_path / "clips/gate/2026-05-04/14-03-00-green.mkv"
        assert Scratch(Folder(tmp_path / "clips", "gate")).place(target) == target
        assert files(run) == []


def test_a_folder_on_a_disk_is_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert memory_folder() in (None, Path("/dev/shm"))


SCRIPT = """
from pathlib import Path
from media import noise
from recordings import CLEAN, LABELS, shot
import edge.sinks.recording.scratch as scratch
scratch.memory_folder = lambda: {memory}
from edge.sinks.recording import ClipSink, Events, Folder
sink = ClipSink(Folder(Path({root!r}), {camera!r}, min_free_gb=0), CLEAN, Events(LABELS), "gate", 1.0, 0.5)
for i in range(10**6):
    sink.write(shot(i, {{1: 0.9}}, image=noise(i % 50, (320, 240))))
    print(i, flush=True)
"""


def test_a_kill_leaves_a_clip_that_plays(root: Path, memory: Path | None) -> None:
    text = SCRIPT.format(memory="None" if memory is None else f"Path({str(memory)!r})", root=str(root), camera="gate")
    killed(text, 60)
    assert (files(root) == []) == (memory is not None)
    # Another camera's sink leaves it alone; the next of its own moves it.
    other = ClipSink(Folder(root, "yard", min_free_gb=0), CLEAN, Events(LABELS), "yard")
    other.tick()
    other.close()
    assert (files(root) == []) == (memory is not None)
    sink = clips(root)
    sink.tick()
    (clip,) = videos(root)
    assert clip.name == "14-03-00-green.mkv" and len(frames_of(clip)) >= 20
    told = json.loads(clip.with_suffix(".json").read_text())
    assert (told["video"], list(told["labels"])) == (clip.name, ["green"])
    assert memory is None or files(memory) == []
    sink.close()


@pytest.mark.parametrize("memory", ["memory"], indirect=True)
def test_a_clip_of_which_nothing_was_written_is_no_clip(root: Path, memory: Path) -> None:
    text = SCRIPT.format(memory=f"Path({str(memory)!r})", root=str(root), camera="gate")
    killed(text, 60)
    (video,) = memory.rglob("*.mkv")
    video.write_bytes(b"")
    sink = clips(root)
    sink.tick()
    assert files(root) == [] and files(memory) == []
    sink.close()


def test_two_sinks_do_not_take_each_others_clips(root: Path, memory: Path | None) -> None:
    first, second = clips(root), clips(root)
    for i in range(10):
        first.write(shot(i, {1: 0.9}))
    second.tick()
    assert memory is None or files(root) == []
    for i in range(10, 12):
        second.write(shot(i, {2: 0.9}))
    for sink in (first, second):
        sink.close()
    assert [brightness(path) for path in videos(root)] == [list(range(10)), [10, 11]]
    assert memory is None or files(memory) == []


@pytest.mark.parametrize("memory", ["memory"], indirect=True)
def test_a_name_that_was_taken_meanwhile_is_left_alone(root: Path) -> None:
    sink = clips(root)
    for i in range(5):
        sink.write(shot(i, {1: 0.9}))
    taken = root / "gate/2026-05-04/14-03-00-green.mkv"
    taken.parent.mkdir(parents=True)
    taken.write_text("another's")
    sink.close()
    assert taken.read_text() == "another's"
    second = taken.with_name("14-03-00-green_2.mkv")
    assert brightness(second) == list(range(5))
    assert json.loads(second.with_suffix(".json").read_text())["video"] == second.name


def test_what_nobody_comes_for_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.sinks.recording.scratch.memory_folder", lambda: tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    gone = ClipSink(Folder(tmp_path / "clips", "renamed", min_free_gb=0), CLEAN, Events(LABELS), "renamed")
    gone.write(shot(0, {1: 0.9}))
    (path,) = (tmp_path / "memory" / f"edge-{os.geteuid()}").iterdir()

    def look() -> None:
        sink = clips(tmp_path / "clips")
        sink.tick()
        sink.close()

    os.utime(path, (0, time.time() - 8 * 86400))
    look()
    assert path.exists()  # its process lives
    gone._scratch._unlock()
    os.utime(path, (0, time.time() - 6 * 86400))
    look()
    assert path.exists()
    os.utime(path, (0, time.time() - 8 * 86400))
    look()
    assert not path.exists()
