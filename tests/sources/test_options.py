"""What options do to any source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media import clip, film, picture

from edge.errors import InputError, SourceError
from edge.sources import SourceOptions, expand_sources, is_live, open_source
from edge.sources.adjust import Thinning, turned


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"every": 0}, "every 0: expected 1 or more"),
        ({"max_fps": 0}, "max_fps 0"),
        ({"fps": float("nan")}, "fps nan"),
        ({"open_timeout_s": -1}, "open_timeout_s -1"),
        ({"read_timeout_s": float("inf")}, "read_timeout_s inf"),
        ({"rotate": 45}, "rotate 45: expected one of 0, 90, 180, 270"),
        ({"flip": "left"}, "flip 'left': expected one of horizontal, vertical, both"),
        ({"transport": "sctp"}, "transport 'sctp'"),
        ({"size_wh": (0, 5)}, "size 0x5"),
        ({"format": "MP"}, "format 'MP'"),
    ],
)
def test_options_out_of_range_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SourceOptions(**given)


@pytest.mark.parametrize(("given", "letters"), [("mjpeg", "MJPG"), ("YUY2", "YUYV"), ("nv12", "NV12"), (None, None)])
def test_names_of_formats(given: str | None, letters: str | None) -> None:
    assert SourceOptions(format=given).format == letters


def kept(options: SourceOptions, fps: float, frames: int = 60) -> list[int]:
    thinning = Thinning(options)
    return [i for i in range(frames) if thinning.keeps(i, round(i / fps, 3))]


def test_thinning() -> None:
    assert kept(SourceOptions(every=4), 30, 12) == [0, 4, 8]
    assert kept(SourceOptions(max_fps=30), 30) == list(range(60))
    assert kept(SourceOptions(max_fps=1000), 30) == list(range(60))
    assert kept(SourceOptions(max_fps=10), 30) == list(range(0, 60, 3))
    assert len(kept(SourceOptions(max_fps=20), 30)) == 40  # and not each second one
    assert len(kept(SourceOptions(max_fps=29.97), 30, 3000)) == pytest.approx(2997, abs=2)
    assert kept(SourceOptions(max_fps=0.5), 30, 130) == [0, 60, 120]
    assert kept(SourceOptions(every=2, max_fps=5), 30, 30) == [0, 6, 12, 18, 24]


def test_a_camera_that_is_not_punctual_loses_nothing() -> None:
    thinning = Thinning(SourceOptions(max_fps=30))
    assert all(thinning.keeps(i, i / 30 + (0, 0.009, -0.009, 0.004)[i % 4]) for i in range(300))


def test_a_source_that_pauses_does_not_catch_up() -> None:
    thinning = Thinning(SourceOptions(max_fps=10))
    times = [0.0, 0.03, 5.0, 5.02, 5.06, 5.11, 5.16]
    assert [thinning.keeps(i, t) for i, t in enumerate(times)] == [True, False, True, False, True, False, True]


PICTURE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (SourceOptions(), PICTURE),
        (SourceOptions(rotate=90), np.rot90(PICTURE, -1)),
        (SourceOptions(rotate=180), PICTURE[::-1, ::-1]),
        (SourceOptions(rotate=270), np.rot90(PICTURE)),
        (SourceOptions(flip="horizontal"), PICTURE[:, ::-1]),
        (SourceOptions(flip="vertical"), PICTURE[::-1]),
        (SourceOptions(flip="both"), PICTURE[::-1, ::-1]),
        (SourceOptions(rotate=90, flip="horizontal"), np.rot90(PICTURE, -1)[:, ::-1]),
    ],
)
def test_turning(options: SourceOptions, expected: np.ndarray) -> None:
    result = turned(PICTURE, options)
    assert np.array_equal(result, expected)
    assert result.dtype == np.uint8 and result.flags["C_CONTIGUOUS"]


def counting(path: Path, frames: int = 30, fps: float = 10.0) -> Path:
    """Make a video whose frames are as bright as eight times their number."""
    return film(path, (np.full((48, 64, 3), 8 * i, np.uint8) for i in range(frames)), fps, (64, 48), "FFV1")


@pytest.mark.parametrize(
    ("options", "indices", "fps"),
    [
        (SourceOptions(every=7), range(0, 30, 7), 10 / 7),
        (SourceOptions(max_fps=5), range(0, 30, 2), 5.0),
        (SourceOptions(max_fps=50), range(30), 10.0),
    ],
)
def test_frames_of_a_video_are_left_out(tmp_path: Path, options: SourceOptions, indices: range, fps: float) -> None:
    with open_source(str(counting(tmp_path / "a.mkv")), options) as source:
        assert source.fps == pytest.approx(fps)
        frames = list(source)
        assert source.skipped_frames == 30 - len(indices)
        assert source.frame_count == len(indices)
    assert [frame.index for frame in frames] == list(indices)
    assert [round(float(frame.image.mean()) / 8) for frame in frames] == list(indices)
    assert [frame.timestamp_s for frame in frames] == pytest.approx([i / 10 for i in indices], abs=2e-3)
    assert frames[0].fps == pytest.approx(fps)


def test_a_video_that_is_thinned_is_not_taken_for_a_short_one(tmp_path: Path, caplog) -> None:
    with open_source(str(counting(tmp_path / "a.mkv")), SourceOptions(every=10)) as source:
        assert len(list(source)) == 3
    assert not caplog.records


def test_videos_and_pictures_are_turned(tmp_path: Path) -> None:
    options = SourceOptions(rotate=90)
    image = picture(tmp_path / "in" / "1.png", size_wh=(64, 48))
    clip(tmp_path / "in" / "2.mp4", 5, size_wh=(64, 48))
    with open_source(str(image), options) as source:
        (frame,) = source
        assert (source.size_wh, frame.size_wh) == ((48, 64), (48, 64))
        assert np.array_equal(frame.image, np.rot90(cv2.imread(str(image)), -1))
    with open_source(str(tmp_path / "in" / "2.mp4"), options) as source:
        assert source.size_wh == (48, 64)
    with open_source(str(tmp_path / "in"), options) as source:
        assert {frame.size_wh for frame in source} == {(48, 64)}


def test_pictures_of_a_folder_are_left_out(tmp_path: Path) -> None:
    for number in range(7):
        picture(tmp_path / f"{number}.png")
    with open_source(str(tmp_path), SourceOptions(every=3, max_fps=0.1)) as source:
        assert source.frame_count == 3
        assert [frame.index for frame in source] == [0, 3, 6]
        assert source.skipped_frames == 4
    clip(tmp_path / "8.mp4", 10)
    with open_source(str(tmp_path), SourceOptions(every=3)) as source:
        assert [frame.index for frame in source] == [0, 3, 6, 0, 3, 6, 9]
        assert source.skipped_frames == 4 + 6


def test_an_interrupt_ends_a_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    clip(tmp_path / "in" / "1.mp4", 10)
    clip(tmp_path / "in" / "2.mp4", 10)
    for path in (tmp_path / "in", tmp_path / "in" / "1.mp4"):
        seen = 0
        with open_source(str(path)) as source:
            for _ in source:
                seen += 1
                if seen == 3:
                    source.interrupt()
        assert seen == 3


def test_a_list_of_sources(tmp_path: Path) -> None:
    path = tmp_path / "all.streams"
    path.write_text("\ufeff# yard\nrtsp://u:p@a/1  # the gate\n\n  0\r\nvideos/a b.mp4\nhttp://x/#frag\n", "utf-8")
    assert expand_sources(["first.mp4", str(path), "1"]) == [
        "first.mp4",
        "rtsp://u:p@a/1",
        "0",
        "videos/a b.mp4",
        "http://x/#frag",
        "1",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"# nothing\n\n", "expected one source a line, found none"),
        (b"b.streams\n", "names another list, b.streams"),
        (b"\xff\xfe\x00\x80", "expected a text"),
        (None, "cannot be read"),
    ],
)
def test_lists_that_are_no_lists(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a.streams"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as caught:
        expand_sources([str(path)])
    assert str(path) in str(caught.value)


def test_a_list_is_not_one_source(tmp_path: Path) -> None:
    (tmp_path / "a.streams").write_text("0\n")
    with pytest.raises(SourceError, match="a list of sources"):
        open_source(str(tmp_path / "a.streams"))


@pytest.mark.parametrize(
    ("uri", "live"),
    [("rtsp://x", True), ("csi://0", True), ("gst://a ! b", True), ("3", True), ("a.mp4", False), ("~", False)],
)
def test_what_goes_on_without_us(uri: str, live: bool) -> None:
    assert is_live(uri) is live
