"""Annotated pictures, and the folder for all sources."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from media import frames_of, noise, result, small_disk

from edge.errors import OutputError
from edge.sinks import Overlay
from edge.sinks.images import FolderSink, PictureSink


def test_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    sink = PictureSink(path, Overlay(("red",)))
    sink.write(result(fps=None))
    sink.close()
    image = cv2.imread(str(path))
    assert image.shape == (48, 64, 3)
    assert (image == 90).all(2).mean() > 0.3
    assert not (image == 90).all()
    assert sink.outputs == [path]


def test_a_folder_names_pictures_and_videos_by_their_sources(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sink = FolderSink(out, Overlay(()))
    for source in ("a/1.png", "b/1.png", "b/1.PNG", "c/x.jp2", "c/y.JPG"):
        sink.write(result(source=source, fps=None))
    for source in ("a/1.mp4", "a/1.avi"):
        for i in range(3):
            sink.write(result(i, source=source))
    sink.close()
    assert sorted(p.name for p in out.iterdir()) == [
        "1.mp4",
        "1.png",
        "1_2.mp4",
        "1_2.png",
        "1_3.PNG",
        "x.jp2.jpg",
        "y.JPG",
    ]
    assert sorted(sink.outputs) == sorted(out.iterdir())
    assert len(frames_of(out / "1_2.mp4")) == 3


def test_live_sources_are_written_side_by_side(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path / "out", Overlay(()))
    for i in range(6):
        for source in ("rtsp://***@cam/one?x=1", "0"):
            sink.write(result(i, source=source, live=True))
    sink.close()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.mp4", "rtsp_cam_one_x_1.mp4"]
    assert all(len(frames_of(p)) == 6 for p in sink.outputs)


def test_a_full_disk_keeps_whole_pictures(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100) as disk:
        sink = FolderSink(disk / "out", Overlay(()))
        with pytest.raises(OutputError, match="disk is full"):
            for i in range(100):
                sink.write(result(source=f"{i}.png", image=noise(i), fps=None))
        sink.close()
        written = sorted((disk / "out").iterdir(), key=lambda p: int(p.stem))
        assert [p.name for p in written] == [f"{n}.png" for n in range(i)]
        assert all(cv2.imread(str(p)).shape == (48, 64, 3) for p in written)


def test_a_picture_is_drawn_once_for_all_sinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = Overlay(())
    calls: list[int] = []
    draw = overlay._painter.draw
    monkeypatch.setattr(overlay._painter, "draw", lambda image, found: (calls.append(1), draw(image, found)))
    sinks = [PictureSink(tmp_path / name, overlay) for name in ("a.png", "b.png")]
    for _ in range(2):
        one = result(fps=None)
        for sink in sinks:
            sink.write(one)
    assert len(calls) == 2
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png")), cv2.imread(str(tmp_path / "b.png")))
