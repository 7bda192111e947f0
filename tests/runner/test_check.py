"""What keeps a valid configuration from running is told by the check, all of it, with its lines."""

from __future__ import annotations

from pathlib import Path

from fixtures import tiny_detector

from edge.config.load import load_config
from edge.runner.check import try_config


def told(folder: Path, text: str) -> list[str]:
    path = folder / "edge.toml"
    path.write_text(text)
    return [problem.removeprefix(f"{path}:") for problem in try_config(load_config(path))]


def test_what_runs(tmp_path: Path) -> None:
    tiny_detector().save(tmp_path / "m.tflite")
    (tmp_path / "v.mp4").touch()
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
        "source = '0'",
        "model = 'text'",
        "[cameras.d]",
        "source = '0'",
        "model = 'where'",
        "[sinks.s]",
        "kind = 'snapshots'",
        "path = 's'",
        "classes = ['purple']",
    ]
    found = told(tmp_path, "\n".join(lines))
    begins = [
        "3: models.gone: ",
        "5: models.text: ",
        "7: models.where: delegate npu: expected cpu, gpu",
        "11: cameras.a: classes rde: ",
        "12: cameras.a.source: there is no such file now",
        "23: sinks.s: classes purple: ",
    ]
    assert len(found) == len(begins)
    for line, begin in zip(found, begins, strict=True):
        assert line.startswith(begin) and "\n" not in line, found
