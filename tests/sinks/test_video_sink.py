"""Annotated video: rate, size, time, and files that play although they were never finished."""

from __future__ import annotations

import shutil
import struct
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import frames_of, noise, result, small_disk

from edge.errors import OutputError
from edge.sinks import Overlay
from edge.sinks.mp4 import finalize
from edge.sinks.video import VIDEO_FORMATS, VideoSink


def write(path: Path, results: list, close: bool = True) -> VideoSink:
    sink = VideoSink(path, Overlay(("red",)))
    for one in results:
        sink.write(one)
    if close:
        sink.close()
    return sink


def facts(path: Path) -> tuple[float, int, int, int]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    keys = (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    fps, *rest = [capture.get(key) for key in keys]
    return (fps, *map(int, rest))  # type: ignore[return-value]


def boxes(path: Path) -> list[str]:
    """Return the types of the top boxes of an MP4."""
    data, at, kinds = path.read_bytes(), 0, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        kinds.append(kind.decode())
        at += length
    assert at == len(data)
    return kinds


@pytest.mark.parametrize("suffix", list(VIDEO_FORMATS))
@pytest.mark.parametrize("fps", [0.5, 12.5, 30000 / 1001, 66.6667, 119.923])
def test_rate_size_and_pictures(tmp_path: Path, suffix: str, fps: float) -> None:
    path = tmp_path / "new" / f"out{suffix}"
    images = [np.full((48, 64, 3), 20 + 9 * i, np.uint8) for i in range(20)]
    sink = write(path, [result(i, image=image, fps=fps, boxes=0) for i, image in enumerate(images)])
    sink.close()
    assert sink.outputs == [path]
    assert facts(path) == (pytest.approx(fps, rel=0.001), 20, 64, 48)
    means = [frame.mean() for frame in frames_of(path)]
    assert means == pytest.approx([20 + 9 * i for i in range(20)], abs=4)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_result_is_drawn_on_a_copy(tmp_path: Path) -> None:
    one = result(boxes=1)
    write(tmp_path / "a.mp4", [one])
    assert (one.frame.image == 90).all()
    assert np.ptp(frames_of(tmp_path / "a.mp4")[0]) > 100
    assert one.stage_ms["draw"] > 0


@pytest.mark.parametrize("size_wh", [(63, 47), (1, 1), (64, 33), (5, 1000)])
def test_an_odd_size_grows_by_a_pixel(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    path = tmp_path / "a.mp4"
    write(path, [result(i, image=np.full((height, width, 3), 200, np.uint8), boxes=0) for i in range(3)])
    assert facts(path)[1:] == (3, width + width % 2, height + height % 2)
    assert frames_of(path)[0].mean() == pytest.approx(200, abs=4)


def test_frames_of_another_size_are_fitted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    shapes = ((48, 64), (96, 128), (20, 10), (48, 64))
    write(path, [result(i, image=np.full((*s, 3), 200, np.uint8), boxes=0) for i, s in enumerate(shapes)])
    frames = frames_of(path)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    assert frames[1].mean() == pytest.approx(200, abs=4)
    # 10 x 20 becomes 24 x 48 in the middle.
    assert frames[2][:, :18].max() < 30
    assert frames[2][:, 24:40].mean() == pytest.approx(200, abs=6)


def test_a_live_source_takes_as_long_as_it_took(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    # Half of the frames are missing, then a gap of 100 s.
    times = [100 + i / 5 for i in range(10)] + [202.0]
    write(path, [result(2 * i, fps=10.0, live=True, timestamp_s=t, boxes=0) for i, t in enumerate(times)])
    assert facts(path)[:2] == (10.0, 19 + 50)


def test_more_frames_than_the_rate_allows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write(path, [result(i, fps=10.0, live=True, timestamp_s=i / 40, boxes=0) for i in range(41)])
    assert facts(path)[1] == pytest.approx(11, abs=1)


def test_pictures_make_a_slide_show(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write(path, [result(i, f"{i}.png", fps=None) for i in range(4)])
    assert facts(path)[:2] == (10.0, 4)


def test_an_mp4_that_was_never_finished_plays(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.mp4", tmp_path / "seen.mp4"
    sink = write(path, [result(i, image=noise(i, (128, 96)), boxes=0) for i in range(90)], close=False)
    # What a kill or a power cut would leave behind.
    shutil.copy(path, seen)
    sink.close()
    assert 40 <= len(frames_of(seen)) <= 90
    assert len(frames_of(path)) == 90


def test_a_finished_mp4_is_an_ordinary_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    sink = write(path, [result(i, image=noise(i), boxes=0, fps=12.5) for i in range(50)], close=False)
    before = tmp_path / "before.mp4"
    sink._file._release()
    shutil.copy(path, before)
    assert boxes(path).count("moof") > 2
    assert finalize(path)
    kinds = boxes(path)
    assert kinds[0] == "ftyp"
    assert kinds[-1] == "moov"
    assert set(kinds) == {"ftyp", "free", "mdat", "moov"}
    assert kinds.count("moov") == 1
    assert b"isml" not in path.read_bytes()[:64]
    one, other = frames_of(path), frames_of(before)
    assert len(one) == 50
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    # Its index leads to every picture.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_POS_FRAMES, 37)
    assert np.array_equal(capture.read()[1], one[37])
    assert capture.get(cv2.CAP_PROP_POS_MSEC) == pytest.approx(37 * 80)
    # Once more there is nothing to do.
    whole = path.read_bytes()
    assert not finalize(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("part", [0.1, 0.4, 0.7, 0.95])
def test_a_cut_file_is_left_alone_or_keeps_its_whole_fragments(tmp_path: Path, part: float) -> None:
    path = tmp_path / "a.mp4"
    sink = write(path, [result(i, image=noise(i), boxes=0) for i in range(50)], close=False)
    sink._file._release()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    before = len(frames_of(path))
    finalize(path)
    assert len(frames_of(path)) >= before - 13


def test_without_room_for_its_index_a_file_keeps_its_fragments(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    sink = write(source, [result(i, image=noise(0, (16, 16)), boxes=0) for i in range(4000)], close=False)
    sink._file._release()
    size = source.stat().st_size
    with small_disk(tmp_path / "disk", size // 1024 + 4) as disk:
        path = disk / "a.mp4"
        shutil.copy(source, path)
        with pytest.raises(OSError, match="No space left"):
            finalize(path)
        assert len(frames_of(path)) == 4000


def test_garbage_is_not_touched(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"x", bytes(100), b"\0\0\0\x10ftypisom\0\0\0\0", noise(1).tobytes())):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(data)
        assert not finalize(path)
        assert path.read_bytes() == data


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
def test_on_a_full_disk_what_was_written_plays(tmp_path: Path, suffix: str) -> None:
    with small_disk(tmp_path / "disk", 1200) as disk:
        path = disk / f"a{suffix}"
        sink = VideoSink(path, Overlay(()))
        with pytest.raises(OutputError, match="disk is full at about frame") as caught:
            for i in range(2000):
                sink.write(result(i, image=noise(i, (160, 120)), boxes=0))
        sink.close()
        assert str(path) in str(caught.value)
        assert 15 < len(frames_of(path)) <= i + 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_without_room_for_anything_no_empty_file_is_left(tmp_path: Path, suffix: str) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        with (disk / "rest").open("wb", buffering=0) as rest, suppress(OSError):
            while rest.write(bytes(4096)):
                pass
        sink = VideoSink(disk / f"a{suffix}", Overlay(()))
        with pytest.raises(OutputError, match="disk is full; there is no room for any of the video"):
            for i in range(2000):
                sink.write(result(i, image=noise(i, (160, 120)), boxes=0))
        sink.close()
        assert [path.name for path in disk.iterdir()] == ["rest"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_disk_that_fills_at_the_very_end_is_noticed(tmp_path: Path, suffix: str) -> None:
    with small_disk(tmp_path / "disk", 300) as disk:
        # The last of it waits in a buffer until the end.
        sink = write(
            disk / f"a{suffix}", [result(i, image=noise(i, (128, 96)), boxes=0) for i in range(9)], close=False
        )
        with pytest.raises(OSError):
            (disk / "other").write_bytes(bytes(400_000))
        with pytest.raises(OutputError, match="disk is full"):
            sink.close()
        sink.close()


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(OutputError, match=r"a\.flv: expected a video name ending in \.mp4"):
        VideoSink(Path("a.flv"), Overlay(()))


def test_a_file_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = VideoSink(tmp_path / "file" / "a.mp4", Overlay(()))
    with pytest.raises(OutputError, match="cannot be created"):
        sink.write(result())
    sink.close()


def test_frames_after_a_long_absence_are_shown_once_each(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mkv", Overlay(()))
    for i in (*range(5), *range(300, 310)):
        sink.write(result(i, "rtsp://h", image=np.full((48, 64, 3), 10 * (i % 25), np.uint8), boxes=0, live=True))
    sink.close()
    shown = [round(float(np.median(image)) / 10) for image in frames_of(tmp_path / "out.mkv")]
    assert shown == [*range(5), *[0] * 50, *range(1, 10)]
