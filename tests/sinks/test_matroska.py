"""Matroska files: on the disk within a second or two, and with an index when they are complete."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import film, frames_of, noise
from recordings import killed

from edge.sinks.matroska import finalize
from edge.sinks.video import VideoFile


def grey(index: int, size_wh: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.full((size_wh[1], size_wh[0], 3), 10 * (index % 25), np.uint8)


def video(path: Path, frames: int, fps: float = 10.0) -> Path:
    file = VideoFile(path, (64, 48), fps)
    for i in range(frames):
        file.add(grey(i))
    file.close()
    return path


@pytest.mark.parametrize("frames, fps", [(1, 10.0), (2, 25.0), (60, 10.0), (700, 12.5), (3000, 30.0)])
def test_a_complete_file_tells_its_length_and_can_be_jumped_in(tmp_path: Path, frames: int, fps: float) -> None:
    path = video(tmp_path / "a.mkv", frames, fps)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == frames
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, 0.01)
    for wanted in {0, frames // 3, frames // 2, frames - 1}:
        capture.set(cv2.CAP_PROP_POS_FRAMES, wanted)
        assert round(float(np.median(capture.read()[1])) / 10) == wanted % 25
    capture.release()
    assert [round(float(np.median(image)) / 10) for image in frames_of(path)] == [i % 25 for i in range(frames)]


def test_other_programs_agree(tmp_path: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe: install Debian's package ffmpeg")
    path = video(tmp_path / "a.mkv", 125)
    entries = "format=duration:packet=pts_time,flags"
    command = ["ffprobe", "-v", "warning", "-of", "csv=p=0", "-show_entries", entries, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    *packets, duration = done.stdout.split()
    assert float(duration) == 12.5 and len(packets) == 125
    # From the middle, which needs the index.
    done = subprocess.run(
        [*command[:3], "-read_intervals", "8%+#1", *command[3:]], capture_output=True, text=True, check=True
    )
    assert 6.5 < float(done.stdout.split(",")[0]) <= 8.0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_kill_costs_a_quiet_scene_no_more_than_its_last_seconds(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    script = f"""
from pathlib import Path
import time
import numpy as np
from edge.sinks.video import VideoFile
file = VideoFile(Path({str(path)!r}), (320, 180), 5)
for i in range(10**6):
    file.add(np.full((180, 320, 3), 100, np.uint8))
    time.sleep(0.02)
    print(i, flush=True)
"""
    killed(script, 200)
    # FFmpeg alone would keep all of it back: less than 256 KB.
    assert path.stat().st_size < 200_000
    # A second of the clock, at most 50 frames here, a group of twelve pictures, and some for a busy machine.
    assert len(frames_of(path)) >= 80


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_file_that_is_dropped_or_left_to_the_end_of_python_is_whole_and_nothing_hangs(
    tmp_path: Path, suffix: str
) -> None:
    script = f"""
from pathlib import Path
import time
from media import noise
from edge.sinks.video import VideoFile, _Stream
put = _Stream._put
_Stream._put = lambda stream, data: (time.sleep(0.5), put(stream, data))  # a slow disk
kept = []
for name in ("dropped", "left"):
    file = VideoFile(Path({str(tmp_path)!r}) / (name + {suffix!r}), (640, 480), 10)
    for i in range(11):
        file.add(noise(i, (640, 480)))
    if name == "left":
        kept.append(file)
    del file
"""
    tests = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", script], check=True, timeout=60, env={"PYTHONPATH": f"{tests}:{tests.parent}"}
    )
    assert [len(frames_of(tmp_path / f"{name}{suffix}")) for name in ("dropped", "left")] == [11, 11]


def test_no_thread_and_no_pipe_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    for i in range(5):
        video(tmp_path / f"{i}.mkv", 3)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [t for t in threading.enumerate() if t.name == "edge-video"] == []


def test_without_a_place_for_a_pipe_ffmpeg_writes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    for suffix in (".mkv", ".mp4"):
        assert len(frames_of(video(tmp_path / f"a{suffix}", 30))) == 30


def test_a_slow_disk_makes_the_writer_wait_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = VideoFile(tmp_path / "a.mkv", (320, 240), 10)
    assert file._stream is not None
    stream = file._stream
    real = stream._file

    class Slow:
        def __enter__(self) -> None:
            real.__enter__()

        def __exit__(self, *exc: object) -> None:
            real.close()

        def write(self, data: bytes) -> int:
            time.sleep(0.05)
            return real.write(data[:10_000]) or 0

    stream._file = Slow()  # type: ignore[assignment]
    for i in range(40):
        file.add(noise(i, (320, 240)))
    file.close()
    assert len(frames_of(tmp_path / "a.mkv")) == 40


def test_files_of_another_structure_are_left_as_they_are(tmp_path: Path) -> None:
    whole = video(tmp_path / "a.mkv", 30).read_bytes()
    by_ffmpeg = film(tmp_path / "b.mkv", (grey(i) for i in range(30))).read_bytes()
    for data in (b"", b"\x1a\x45\xdf\xa3", bytes(1000), by_ffmpeg, whole, whole[:300], whole[:3000]):
        path = tmp_path / "c.mkv"
        path.write_bytes(data)
        assert not finalize(path, 100)
        assert path.read_bytes() == data


def test_broken_files_raise_nothing_and_stay_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.sinks.video.finalize_matroska", lambda path, frame_ms: False)
    streamed = video(tmp_path / "a.mkv", 40).read_bytes()
    path, done = tmp_path / "b.mkv", 0
    for seed in range(400):
        dice = random.Random(seed)
        data = bytearray(streamed)
        for _ in range(seed % 4):
            data[dice.randrange(len(data) if seed % 3 else 600)] = dice.randrange(256)
        path.write_bytes(data)
        if finalize(path, 100):
            done += 1
        else:
            assert path.read_bytes() == data
    assert done >= 100  # those that nothing was done to
