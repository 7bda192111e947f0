"""`edge detect` and `edge classify` from the command line to the files."""

from __future__ import annotations

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import SIZE_WH, paint, tiny_classifier, tiny_detector
from media import clip, film, frames_of, picture, small_disk
from typer.testing import CliRunner, Result

from edge.cli.app import app
from edge.cv import explain, require_opencv
from edge.errors import InputError, MissingDependencyError
from edge.spec.labels import pick_classes

Edge = Callable[..., Result]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector().save(tmp_path_factory.mktemp("model") / "tiny.tflite")


@pytest.fixture
def edge(model: Path) -> Edge:
    """Run the command in this process."""

    def run(*words: object, command: str = "detect", named: bool = True) -> Result:
        given = ["--model", str(model)] if named else []
        return CliRunner().invoke(app, [command, *given, *map(str, words)])

    return run


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A video in which a red cell goes through a picture with a blue one."""
    scenes = (paint([("red", i % 4, 1), ("blue", 3, 0)]) for i in range(24))
    return film(tmp_path / "street.mkv", scenes, 12.5, SIZE_WH, "FFV1")


def refused(result: Result, *said: str, code: int = 2) -> None:
    """Check for one line on stderr and nothing else."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("edge: ")
    for word in said:
        assert word in lines[0]


def test_a_picture_to_json_on_standard_output(edge: Edge, tmp_path: Path) -> None:
    path = tmp_path / "cells.png"
    cv2.imwrite(str(path), paint([("green", 2, 1), ("red", 0, 0)]))
    result = edge("--source", path, "--json", "-")
    assert result.exit_code == 0, result.output
    (row,) = [json.loads(line) for line in result.stdout.splitlines()]
    found = {d["name"]: [round(v) for v in d["box"].values()] for d in row["detections"]}
    assert found == {"green": [64, 32, 96, 64], "red": [0, 0, 32, 32]}
    assert row["source"] == str(path)
    assert "1 frame in" in result.stderr
    assert "green" in result.stderr


def test_a_video_to_every_kind_of_file(edge: Edge, street: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    result = edge("-s", street, "--save", out / "a.mp4", "--json", out / "a.jsonl", "--csv", out / "a.csv")
    assert result.exit_code == 0, result.output
    frames = frames_of(out / "a.mp4")
    assert [frame.shape for frame in frames] == [(96, 128, 3)] * 24
    assert cv2.VideoCapture(str(out / "a.mp4")).get(cv2.CAP_PROP_FPS) == 12.5
    rows = [json.loads(line) for line in (out / "a.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(24))
    assert rows[6]["timestamp_s"] == 0.48
    left = [round(min(d["box"]["x1"] for d in row["detections"] if d["name"] == "red")) for row in rows]
    assert left == [32 * (i % 4) for i in range(24)]
    assert list(rows[0]["stage_ms"]) == ["capture", "preprocess", "invoke", "decode", "nms", "draw"]
    with (out / "a.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 48
    # The label of the blue cell is drawn: the cell alone has one colour.
    assert np.ptp(frames[0][2:30, 98:126].reshape(-1, 3), axis=0).max() > 60
    for word in (
        "24 frames",
        "fps",
        "p50 ms",
        "p95 ms",
        "capture",
        "invoke",
        "write",
        "red",
        "blue",
        "a.jsonl",
        "a.mp4",
    ):
        assert word in result.stderr
    assert result.stdout == ""


def test_a_contact_sheet(edge: Edge, street: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "sheet.png"
    result = edge("-s", street, "--sheet", out)
    assert result.exit_code == 0, result.output
    assert str(out) in result.stderr
    assert cv2.imread(str(out)).shape[1] == 1600
    before = out.read_bytes()
    refused(edge("-s", street, "--sheet", out), "--sheet", "exists", "--force")
    assert out.read_bytes() == before
    assert edge("-s", street, "--sheet", out, "--force", "--classes", "red", "-q").exit_code == 0
    assert out.read_bytes() != before


def test_coco_results(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in (7, 41):
        cv2.imwrite(str(tmp_path / "in" / f"{number:012}.png"), paint([("blue", 1, 2)]))
    result = edge("-s", tmp_path / "in", "--json", tmp_path / "out.json", "--format", "coco", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [(r["image_id"], r["category_id"], [round(v) for v in r["bbox"]]) for r in rows] == [
        (7, 3, [32, 64, 32, 32]),
        (41, 3, [32, 64, 32, 32]),
    ]


def test_several_sources_go_to_a_folder(edge: Edge, street: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "p.png", 9)
    out = tmp_path / "out"
    result = edge("-s", street, "-s", image, "-s", tmp_path / "*.png", "--save", out, "--json", "-")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == ["p.png", "street.mp4"]
    assert len(result.stdout.splitlines()) == 26
    again = edge("-s", street, "--save", out)
    refused(again, "--save", "not empty", "--force")
    assert edge("-s", street, "--save", out, "--force").exit_code == 0


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_do_not_change_what_is_found(edge: Edge, street: Path, threads: int) -> None:
    def rows(*options: object) -> list[object]:
        result = edge("-s", street, "--json", "-", "-q", *options)
        return [(row["frame"], row["detections"]) for row in map(json.loads, result.stdout.splitlines())]

    one = rows("--threads", threads)
    assert len(one) == 24
    assert one == rows("--threads", 1)


def test_only_some_classes(edge: Edge, street: Path) -> None:
    for wanted in (["--classes", "blue"], ["--classes", "2"], ["--classes", "Blue , 2"]):
        result = edge("-s", street, "--json", "-", "-q", *wanted)
        names = {d["name"] for line in result.stdout.splitlines() for d in json.loads(line)["detections"]}
        assert names == {"blue"}


def test_pick_classes() -> None:
    labels = ("person", "traffic light", "motorcycle", "10")
    assert pick_classes([], labels) is None
    assert pick_classes(["person,traffic_light", "motorbike"], labels) == [0, 1, 2]
    assert pick_classes(["10", "2"], labels) == [3, 2]
    assert pick_classes(["7"], ()) == [7]
    for word, said in (
        ("trafic light", "did you mean traffic light?"),
        ("4", "classes 0 to 3"),
        ("zzz", "it has person, traffic light"),
    ):
        with pytest.raises(InputError, match=said):
            pick_classes([word], labels)
    with pytest.raises(InputError, match="no labels: give numbers"):
        pick_classes(["cat"], ())


def test_a_classifier_prints_a_line_per_picture(tmp_path: Path) -> None:
    model = tiny_classifier().save(tmp_path / "c.tflite")
    for name in ("red", "blue"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), paint([(name, x, y) for x in range(4) for y in range(3)]))
    command = ["classify", "--model", str(model), "-s", str(tmp_path / "*.png"), "--top", "2"]
    result = CliRunner().invoke(app, [*command, "--save", str(tmp_path / "out"), "--csv", str(tmp_path / "a.csv")])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(tmp_path / n) for n in ("blue.png", "red.png")]
    assert [line.split(": ")[1].split()[0] for line in lines] == ["blue", "red"]
    assert all(line.count(";") == 1 for line in lines)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["blue.png", "red.png"]
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)][::2] == ["blue", "red"]
    as_json = CliRunner().invoke(app, [*command, "--json", "-", "-q"])
    assert [json.loads(line)["classes"][0]["name"] for line in as_json.stdout.splitlines()] == ["blue", "red"]


def test_bad_sources_are_one_line(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "texts").mkdir()
    for source, said in (
        ("nope.mp4", "no such file"),
        (tmp_path / "empty.mp4", "empty"),
        (tmp_path / "texts", "found no file"),
        ("98", "no camera"),
        ("http://u:s3cret@127.0.0.1:9/x", "http://***@127.0.0.1:9/x"),
    ):
        result = edge("-s", source)
        refused(result, said)
        assert "s3cret" not in result.stderr


def test_sources_are_checked_before_the_model(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["detect", "-m", str(tmp_path / "no.tflite"), "-s", str(tmp_path / "no.mp4")])
    refused(result, "no.mp4")
    good = picture(tmp_path / "a.png")
    result = CliRunner().invoke(app, ["detect", "-m", str(tmp_path / "no.tflite"), "-s", str(good)])
    refused(result, "no.tflite")


def test_outputs_that_would_destroy_something_are_refused(edge: Edge, street: Path, tmp_path: Path) -> None:
    before = street.read_bytes()
    (tmp_path / "old.jsonl").write_text("old")
    for options, said in (
        (["--save", street], "a source itself"),
        (["--save", street, "--force"], "a source itself"),
        (["--json", street, "--force"], "a source itself"),
        (["--save", tmp_path, "--force"], "the source lies in this folder"),
        (["--save", "-"], "expected a file or folder"),
        (["--json", tmp_path / "old.jsonl"], "--force"),
        (["--csv", tmp_path], "is a folder"),
        (["--save", tmp_path / "old.jsonl"], "is a file; expected a folder"),
        (["--save", tmp_path / "a.gif"], "cannot write .gif"),
        (["--save", tmp_path / "a.png"], "more than one picture"),
        (["--save", tmp_path / "a.mp4", "-s", street], "2 sources do not fit in one video"),
        (["--sheet", "-"], "expected a picture name"),
        (["--sheet", tmp_path / "a.mp4"], "expected a picture name ending in .bmp, .jpeg, .jpg"),
        (["--sheet", tmp_path / "a.png", "--json", tmp_path / "a.png"], "two outputs"),
        (["--format", "coco"], "--json"),
        (["--json", "-", "--csv", "-"], "two outputs"),
        (["--json", tmp_path / "x", "--csv", tmp_path / "y" / ".." / "x"], "two outputs"),
    ):
        refused(edge("-s", street, *options), said)
    assert street.read_bytes() == before
    assert (tmp_path / "old.jsonl").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.jsonl", "street.mkv"]
    assert edge("-s", street, "--json", tmp_path / "old.jsonl", "--force").exit_code == 0
    assert len((tmp_path / "old.jsonl").read_text().splitlines()) == 24


def test_pictures_that_a_pattern_or_folder_named_are_safe_too(edge: Edge, tmp_path: Path) -> None:
    path = picture(tmp_path / "deep" / "er" / "a.png")
    before = path.read_bytes()
    for source in (tmp_path / "**" / "*.png", path.parent):
        for option, target in (("--save", path.parent), ("--save", path), ("--json", path)):
            refused(edge("-s", source, option, target, "--force"), option, str(target))
    assert path.read_bytes() == before


def test_a_place_without_permission_is_one_line(
    edge: Edge, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere: ask what an ordinary user would be told.
    monkeypatch.setattr(os, "access", lambda path, mode, **options: mode != os.W_OK)
    refused(edge("-s", street, "--save", tmp_path / "out" / "a.mp4"), "no permission", str(tmp_path))


def test_no_display_is_one_line(edge: Edge, street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setattr("edge.sinks.window.cv2.getBuildInformation", lambda: "  GUI:   QT5\n")
    refused(edge("-s", street, "--show"), "--show", "no display")


def test_a_full_disk_in_the_middle_keeps_what_was_written(edge: Edge, street: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        result = edge("-s", street, "--json", disk / "a.jsonl", "--csv", tmp_path / "a.csv")
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith(f"edge: {disk / 'a.jsonl'}: the disk is full")
        rows = [json.loads(line)["frame"] for line in (disk / "a.jsonl").read_text().splitlines()]
    assert rows == list(range(len(rows)))
    assert 5 < len(rows) < 24
    with (tmp_path / "a.csv").open(newline="") as file:
        assert {int(row["frame"]) for row in csv.DictReader(file)} == set(rows)


def test_a_broken_picture_in_a_folder_is_counted(edge: Edge, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "1.png")
    (tmp_path / "in" / "2.png").write_bytes(b"broken")
    result = edge("-s", tmp_path / "in", "--json", "-")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert "1 unreadable left out" in result.stderr


def start(model: Path, *words: object, **options: object) -> subprocess.Popen[str]:
    """Run the command as a process of its own."""
    command = [sys.executable, "-m", "edge", "detect", "--model", str(model), *map(str, words)]

    def listen() -> None:
        # Under nohup the tests ignore SIGHUP, and so would the command.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, preexec_fn=listen, **pipes, **options)  # type: ignore[call-overload,no-any-return]


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP]]
)
def test_an_interrupt_leaves_files_that_can_be_read(model: Path, tmp_path: Path, signals: list[signal.Signals]) -> None:
    long = clip(tmp_path / "long.avi", 3000, size_wh=(320, 240), codec="MJPG")
    video, lines, table, coco = (tmp_path / f"a.{kind}" for kind in ("mp4", "jsonl", "csv", "json"))
    sheet = tmp_path / "a.jpg"
    process = start(model, "-s", long, "--save", video, "--json", lines, "--csv", table, "--sheet", sheet, "-q")
    until(lambda: lines.exists() and len(lines.read_bytes()) > 5000, process)
    for number in signals:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "edge: interrupted\n")
    rows = [json.loads(line)["frame"] for line in lines.read_text().splitlines()]
    assert rows == list(range(len(rows)))
    assert 10 < len(rows) < 3000
    assert len(frames_of(video)) == len(rows)
    assert table.read_text().startswith("source,")
    assert cv2.imread(str(sheet)).shape[1] == 1600


def test_a_reader_that_goes_away_ends_the_run_quietly(model: Path, tmp_path: Path) -> None:
    long = clip(tmp_path / "long.avi", 3000, codec="MJPG")
    process = start(model, "-s", long, "--json", "-", "-q")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("options", [["--json", "-"], ["--csv", "-"], ["--json", "-", "--format", "coco"]])
def test_standard_output_on_a_full_disk_is_one_line(model: Path, tmp_path: Path, options: list[str]) -> None:
    path = picture(tmp_path / "a.png")
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "edge", "detect", "-m", str(model), "-s", str(path), "-q", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["edge: standard output: the disk is full; what was written before is kept"]


def test_a_file_name_that_is_no_utf8(edge: Edge, tmp_path: Path) -> None:
    odd = tmp_path / "caf\udce9.png"
    picture(tmp_path / "plain.png").rename(odd)
    result = edge("-s", odd, "--json", "-", "--save", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["source"] == str(odd)
    assert [p.name for p in (tmp_path / "out").iterdir()] == [odd.name]
    # OpenCV would crash.
    video = tmp_path / "caf\udce9.avi"
    clip(tmp_path / "plain.avi", 3, codec="MJPG").rename(video)
    refused(edge("-s", video), "not valid UTF-8")
    refused(edge("-s", odd, "--save", tmp_path / "b\udce9.mp4"), "not valid UTF-8")


@pytest.mark.parametrize("name", ["12:30:00 [1].mp4", "-x.mp4", "50%d.mp4", "übung 猫.mp4", "a'b\"c.mp4", "0.mp4"])
def test_odd_names_in_the_working_folder(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "plain.mp4", 5).rename(tmp_path / name)
    result = edge(f"--source={name}", f"--save=out {name}", "-q")
    assert (result.exit_code, result.output) == (0, "")
    assert len(frames_of(tmp_path / f"out {name}")) == 5


def test_native_libraries_say_nothing_beside_our_line(model: Path, tmp_path: Path) -> None:
    # libpng and FFmpeg print to file descriptor 2.
    whole = picture(tmp_path / "in" / "a.png", size_wh=(200, 200))
    (tmp_path / "in" / "b.png").write_bytes(whole.read_bytes()[:-40])
    process = start(model, "-s", tmp_path / "in", "-q", env={**os.environ, "OPENCV_LOG_LEVEL": "INFO"})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert [line.split(": ")[:2] for line in err.splitlines()] == [["edge", "WARNING"]]
    assert "b.png" in err


@pytest.mark.parametrize(
    ("library", "package"),
    [("libGL.so.1", "libgl1"), ("libxcb.so.1", "libxcb1"), ("libgthread-2.0.so.0", "libglib2.0-0")],
)
def test_a_missing_system_library_names_its_package(
    monkeypatch: pytest.MonkeyPatch, library: str, package: str
) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"{library}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingDependencyError, match=f"apt install {package}$") as caught:
        require_opencv()
    assert library in str(caught.value)
    assert caught.value.exit_code == 2


def test_other_failures_of_opencv_are_explained() -> None:
    assert "libfoo-2.so.7" in explain(ImportError("libfoo-2.so.7: cannot open shared object file: No such file"))
    assert "pip install opencv-python" in explain(ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    assert "numpy.core" in explain(ImportError("numpy.core.multiarray failed to import\nlong story"))
    assert "\n" not in explain(ImportError("numpy.core.multiarray failed to import\nlong story"))
