"""The contact sheet: which frames, where they are drawn, and when the file is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media import noise, result, small_disk

from edge.detections import Detections
from edge.errors import OutputError
from edge.result import Classification
from edge.sinks.sheet import FRAMES, KEPT, SheetSink, clock


def grey(value: int, size_wh: tuple[int, int] = (64, 36)) -> npt.NDArray[np.uint8]:
    return np.full((size_wh[1], size_wh[0], 3), value, np.uint8)


def sheet(path: Path, results: list, labels: tuple[str, ...] = ("red",)) -> npt.NDArray[np.uint8]:
    sink = SheetSink(path, labels)
    for one in results:
        sink.write(one)
        assert not path.exists() and sink.outputs == []
    sink.close()
    assert sink.outputs == [path]
    image = cv2.imread(str(path))
    assert image is not None
    return image


def cells(image: npt.NDArray[np.uint8], columns: int, rows: int) -> list[int]:
    """Return the brightness in the middle of each cell, row by row."""
    height, width = image.shape[:2]
    ys, xs = ([(2 * n + 1) * side // (2 * of) for n in range(of)] for side, of in ((height, rows), (width, columns)))
    return [int(image[y, x, 0]) for y in ys for x in xs]


@pytest.mark.parametrize("frames", [12, 13, 60, 245])
def test_a_dozen_frames_evenly_in_order(tmp_path: Path, frames: int) -> None:
    image = sheet(tmp_path / "a.png", [result(i, image=grey(i), boxes=0) for i in range(frames)])
    assert image.shape[1] == 1600
    shown = cells(image, 4, 3)
    assert shown[0] == 0 and shown[-1] >= 0.95 * (frames - 1)
    steps = np.diff(shown)
    assert steps.min() >= 1 and steps.max() <= max(2, 1.5 * steps.min())


@pytest.mark.parametrize(("frames", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (5, 4, 2), (11, 4, 3)])
def test_a_short_run_shows_every_frame(tmp_path: Path, frames: int, columns: int, rows: int) -> None:
    image = sheet(tmp_path / "a.png", [result(i, image=grey(50 + i), boxes=0) for i in range(frames)])
    assert cells(image, columns, rows)[:frames] == list(range(50, 50 + frames))


@settings(max_examples=40, deadline=None)
@given(frames=st.integers(1, 3000))
def test_memory_is_bounded_and_the_run_is_covered(tmp_path_factory: pytest.TempPathFactory, frames: int) -> None:
    sink = SheetSink(tmp_path_factory.mktemp("s") / "a.png", ())
    small = grey(9, (16, 9))
    for i in range(frames):
        sink.write(result(i, image=small, boxes=0))
        assert len(sink._samples[""].tiles) <= KEPT
    kept = [tile.frame.index for tile in sink._samples[""].tiles]
    assert len(kept) == frames or len(kept) >= KEPT // 2
    assert len(set(np.diff(kept))) <= 1
    assert kept[0] == 0 and frames - 1 - kept[-1] < sink._samples[""].stride


def test_cameras_whose_frames_alternate_get_an_equal_share(tmp_path: Path) -> None:
    sink = SheetSink(tmp_path / "a.png", ())
    for i in range(300):
        for camera, value in (("0", 60), ("rtsp://***@gate/stream", 120), ("1", 200)):
            sink.write(result(i, camera, grey(value), boxes=0, live=True))
        assert sum(len(sample.tiles) for sample in sink._samples.values()) <= KEPT
    sink.close()
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image is not None
    assert cells(image, 4, 3) == [60] * 4 + [120] * 4 + [200] * 4


def test_a_long_name_keeps_its_end(tmp_path: Path) -> None:
    names = [f"{'a-name-of-many-letters' * 4}-{i}.jpg" for i in range(2)]
    first, second = (
        sheet(tmp_path / f"{i}.png", [result(0, name, grey(0), 0, fps=None)]) for i, name in enumerate(names)
    )
    assert (first != second).any()


def test_boxes_and_letters_are_drawn_in_the_size_of_the_sheet(tmp_path: Path) -> None:
    # Letters that were drawn in a picture of 4000 pixels and scaled with it would have no white left.
    large = result(image=grey(0, (4000, 2250)), boxes=0)
    found = Detections(np.array([[1000, 1125, 2000, 2250]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    image = sheet(tmp_path / "a.png", [replace(large, detections=found)], ("W",))
    tile = image[8:-30, 8:-8]
    height, width = tile.shape[:2]
    green = np.argwhere((tile[..., 1] > 150) & (tile[..., 0] < 120))
    assert abs(green[:, 1].min() - width / 4) < 3 and abs(green[:, 1].max() - width / 2) < 3
    row = tile[round(height * 0.75)].astype(int)
    assert (row[:, 1] > 150).sum() == 2
    assert large.frame.image.max() == 0
    assert "draw" not in large.stage_ms


def test_the_box_of_a_localiser_is_scaled_too(tmp_path: Path) -> None:
    one = result(
        image=grey(0, (4000, 2250)), boxes=0, classification=Classification((0,), (0.9,), (2000, 0, 4000, 2250))
    )
    tile = sheet(tmp_path / "a.png", [one])[8:-30, 8:-8]
    row = tile[round(tile.shape[0] * 0.75)]
    assert abs(np.flatnonzero(row[:, 1] > 150)[0] - tile.shape[1] / 2) < 3


def test_the_time_of_a_frame_stands_below_it_and_not_on_it(tmp_path: Path) -> None:
    images = [
        sheet(tmp_path / f"{i}.png", [result(image=grey(0), boxes=0, timestamp_s=t)]) for i, t in enumerate((7.3, 67.3))
    ]
    differ = np.flatnonzero((images[0] != images[1]).any((1, 2)))
    height = images[0].shape[0]
    assert len(differ) and differ.min() > height - 32


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.0"),
        (7.26, "0:07.3"),
        (59.96, "1:00.0"),
        (61.5, "1:01.5"),
        (3727.3, "1:02:07.3"),
        (36000, "10:00:00.0"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_pictures_and_videos_of_every_shape_share_a_sheet(tmp_path: Path) -> None:
    shapes = [(64, 36), (36, 64), (400, 4), (4, 400), (1, 1), (3000, 2000)]
    results = [result(0, f"{n}/猫.png", grey(200, size), 0, fps=None) for n, size in enumerate(shapes)]
    results += [result(n, "0", grey(120, (64, 48)), 1, live=True) for n in range(3)]
    image = sheet(tmp_path / "a.jpg", results)
    assert image.shape[1] == 1600 and image.max() > 190


def test_portrait_frames_stand_six_in_a_row(tmp_path: Path) -> None:
    image = sheet(tmp_path / "a.png", [result(i, image=grey(20 * i, (36, 64)), boxes=0) for i in range(12)])
    assert 1590 <= image.shape[1] <= 1600
    assert cells(image, 6, 2) == [20 * i for i in range(12)]


def test_a_run_without_frames_writes_nothing(tmp_path: Path) -> None:
    sink = SheetSink(tmp_path / "new" / "a.png", ())
    sink.close()
    sink.close()
    assert sink.outputs == [] and not list((tmp_path / "new").iterdir())


def test_closing_twice_writes_once(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    sheet_sink = SheetSink(path, ())
    sheet_sink.write(result())
    sheet_sink.close()
    path.unlink()
    sheet_sink.close()
    assert not path.exists()


def test_a_full_disk_keeps_the_sheet_that_was_there(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        path = disk / "a.png"
        path.write_bytes(b"old")
        sink = SheetSink(path, ())
        for i in range(FRAMES):
            sink.write(result(i, image=noise(i)))
        with pytest.raises(OutputError, match="disk is full"):
            sink.close()
        sink.close()
        assert [p.name for p in disk.iterdir()] == ["a.png"]
        assert path.read_bytes() == b"old"


def test_a_folder_that_cannot_be_made_is_said_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be created"):
        SheetSink(tmp_path / "file" / "sub" / "a.png", ())
