"""What keeps a valid configuration from running is told by the check, all of it, with its lines."""

from __future__ import annotations

from pathlib import Path

from fixtures import tiny_detector
from media import clip

from edge.config.load import load_config
from edge.runner.check import try_config


def told(folder: Path, text: str) -> list[str]:
    path = folder / "edge.toml"
    path.write_text(text)
    return [problem.removeprefix(f"{path}:") for problem in try_config(load_config(path))]


def test_what_runs(tmp_path: Path) -> None:
    tiny_detector().save(tmp_path / "m.tflite")
    clip(tmp_path / "v.mp4", 2)
    text = "[models.m]\npath = 'm.tflite'\n[models.unused]\npath = 'gone.tflite'\n"
    text += "[cameras.a]\nsource = '0'\nclasses = ['red', 1]\n[cameras.b]\nsource = 'rtsp://127.0.0.1:9/x'\n"
    text += "[cameras.c]\nsource = 'v.mp4'\n[cameras.off]\nsource = 'gone.mp4'\nenabled = false\n"
    assert told(tmp_path, text + "[sinks.s]\nkind = 'snapshots'\npath = 's'\nclasses = ['green']\n") == []
    assert not (tmp_path / "s").exists()


def test_everything_that_does_not(tmp_path: Path) -> None:
    tiny_detector().save(tmp_path / "m.tflite")
    (tmp_path / "text.tflite").write_text("no model")
    lines = [
        "[models.m]",
        "path = 'm.tflite'",
        "[models.gone]",
        "path = 'gone.tflite'",
        "[models.text]",
        "path = 'text.tflite'",
        "[models.where]",
        "path = 'm.tflite'",
        "delegate = 'npu'",
        "fallback = false",
        "[cameras.a]",
        "source = 'gone.mp4'",
        "classes = ['rde']",
        "[cameras.b]",
        "source = '0'",
        "model = 'gone'",
        "[cameras.c]",
        "source = '1'",
        "model = 'text'",
        "[cameras.d]",
        "source = '2'",
        "model = 'where'",
        "[sinks.s]",
        "kind = 'snapshots'",
        "path = 's'",
        "classes = ['purple']",
    ]
    found = told(tmp_path, "\n".join(lines))
    begins = [
        "4: models.gone.path: ",
        "6: models.text.path: ",
        "7: models.where: delegate npu: expected cpu, gpu",
        "12: cameras.a.source: there is no such file now",
        "13: cameras.a.classes: classes rde: ",
        "26: sinks.s.classes: classes purple: ",
    ]
    assert len(found) == len(begins)
    for line, begin in zip(found, begins, strict=True):
        assert line.startswith(begin) and "\n" not in line, found


def test_devices_folders_and_places(tmp_path: Path) -> None:
    tiny_detector().save(tmp_path / "m.tflite")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    text = "[models.m]\npath = 'm.tflite'\n[cameras.a]\nsource = '0'\n[cameras.b]\nsource = '/dev/video0'\n"
    text += "[cameras.c]\nsource = 'empty'\n[cameras.d]\nsource = 'text.mp4'\n"
    text += "[sinks.j]\nkind = 'json'\npath = 'm.tflite/{camera}.jsonl'\n"
    text += "[sinks.r]\nkind = 'record'\npath = 'text.mp4/v'\n"
    text += "[sinks.fine]\nkind = 'csv'\npath = 'new/{camera}/text.mp4'\n"
    found = told(tmp_path, text)
    begins = [
        "6: cameras.b.source: cameras.a reads this device",
        "8: cameras.c.source: expected pictures or videos in this folder, found no file",
        "10: cameras.d.source: OpenCV cannot open it: no video",
        f"13: sinks.j.path: {tmp_path / 'm.tflite'} is no folder",
        f"16: sinks.r.path: {tmp_path / 'text.mp4'} is no folder",
    ]
    # Whether there is a /dev/video0 is not asked.
    assert len(found) == len(begins), found
    for line, begin in zip(found, begins, strict=True):
        assert line.startswith(begin) and "\n" not in line, found
