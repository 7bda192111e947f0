"""The progress bar and the closing table, on a terminal and elsewhere."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from collections import Counter, deque
from pathlib import Path

import pytest
from fixtures import tiny_detector
from media import clip, picture, result

from edge.cli.progress import Display
from edge.pipeline import Stats


def stats(**changes: object) -> Stats:
    base = Stats(frames=100, elapsed_s=4.0, found=Counter({0: 7, 5: 2}), stage_ms={"invoke": deque([1.0, 2.0, 9.0])})
    for name, value in changes.items():
        setattr(base, name, value)
    return base


def closing(
    capsys: pytest.CaptureFixture[str], told: Stats, outputs: list[Path], nothing_asked: bool = False
) -> list[str]:
    Display(100, quiet=False).close(told, ["car"], "tiny: LiteRT", outputs, nothing_asked)
    out, err = capsys.readouterr()
    assert out == ""
    return [" ".join(line.split()) for line in err.splitlines()]


def test_the_closing_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = closing(capsys, stats(dropped=3, skipped=1), [Path("a.mp4"), Path("[b].jsonl")])
    assert lines == [
        "tiny: LiteRT",
        "100 frames in 4.0 s, 25.0 fps, 3 dropped, 1 unreadable left out",
        "stage p50 ms p95 ms",
        "invoke 2.00 8.30",
        "class found",
        "car 7",
        "5 2",
        "wrote a.mp4, [b].jsonl",
    ]


def test_it_says_when_nothing_was_found_or_saved(capsys: pytest.CaptureFixture[str]) -> None:
    lines = closing(capsys, stats(found=Counter()), [], nothing_asked=True)
    assert "nothing was found" in lines
    assert lines[-1].startswith("nothing was saved: add --save")


def test_many_classes_and_outputs_are_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    lines = closing(capsys, stats(found=Counter(range(40))), [Path(f"{i}.png") for i in range(9)])
    assert "and 25 more classes" in lines
    assert lines[-1] == "wrote 0.png, 1.png, 2.png, 3.png, 4.png and 4 more"


def test_quiet_and_empty_runs_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Display(None, quiet=True).close(stats(), [], "m", [], True)
    Display(None, quiet=False).close(Stats(), [], "m", [], True)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("edge.cli.progress.time.monotonic", lambda: now[0])
    with Display(50, quiet=False) as display:
        for i in range(40):
            now[0] += 1
            display.update(result(i))
    assert capsys.readouterr().err.splitlines() == [
        "edge: 15 of 50 frames, 1.0 fps",
        "edge: 30 of 50 frames, 1.0 fps",
    ]


def test_a_terminal_has_a_bar_that_warnings_do_not_break(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    picture(folder / "1.png")
    (folder / "2.png").write_bytes(b"broken")
    clip(folder / "3.mp4", 30)
    model = tiny_detector().save(tmp_path / "tiny.tflite")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge", "detect", "-m", str(model), "-s", str(folder), "-s", str(folder / "3.mp4")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:
        # The other end was closed: Linux says so with an error.
        pass
    os.close(ours)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "\x1b[" in text
    assert "WARNING: " in text
    assert "2.png" in text
    assert "61" in text
    assert "1 unreadable left out" in text.replace("\x1b[33m", "").replace("\x1b[0m", "")


def test_log_handlers_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    before = logging.getLogger().handlers[:]
    with Display(10, quiet=False):
        assert logging.getLogger().handlers != before
    assert logging.getLogger().handlers == before
