"""Log lines of a service: text, JSON, the journal's priorities, and the last words of a crash."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import pytest

from edge.service import logs

ROOT = Path(__file__).resolve().parents[2]
log = logging.getLogger("edge.test")


@pytest.fixture(autouse=True)
def kept_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Stderr:
    """Takes the place of stderr in a test; pytest puts its own there for each phase, so not before."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream = open(path, "w+", buffering=1)
        self._monkeypatch = monkeypatch

    def configure(self, form: Literal["text", "json"], level: int | None = None, journal: bool = False) -> None:
        self.take_place()
        if journal:
            found = os.fstat(self.stream.fileno())
            self._monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        logs.configure(form, level)

    def take_place(self) -> None:
        self._monkeypatch.setattr(sys, "stderr", self.stream)

    @property
    def said(self) -> list[str]:
        return Path(self.stream.name).read_text().splitlines()


@pytest.fixture
def stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stderr]:
    made = Stderr(tmp_path / "stderr", monkeypatch)
    yield made
    made.stream.close()


def test_text_has_the_time_and_what_is_not_usual(stderr: Stderr) -> None:
    stderr.configure("text")
    log.debug("too much")
    log.info("camera %s: online", "front")
    log.warning("the disk is full")
    first, second = stderr.said
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} camera front: online", first)
    assert second.endswith(" warning: the disk is full")


def test_in_the_journal_each_line_has_its_priority_and_no_time(stderr: Stderr) -> None:
    stderr.configure("text", logging.DEBUG, journal=True)
    log.debug("detail")
    log.info("fine")
    log.warning("one\ntwo")
    log.error("bad")
    log.critical("worse")
    assert stderr.said == [
        "<7>debug: detail",
        "<6>fine",
        "<4>warning: one",
        "<4>two",
        "<3>error: bad",
        "<2>critical: worse",
    ]


@pytest.mark.parametrize("value", ["", "1:2", "nonsense", "1:2:3", ":"])
def test_a_journal_that_stderr_does_not_go_to_is_none(
    value: str, stderr: Stderr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", value)
    stderr.take_place()
    assert not logs.stderr_is_journal()


def test_json_lines(stderr: Stderr) -> None:
    stderr.configure("json")
    log.warning("the disk is %d %% full\nand more: ü", 99)
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("it failed")
    first, second = (json.loads(line) for line in stderr.said)
    assert first.keys() == {"time", "level", "logger", "message"}
    assert (first["level"], first["logger"]) == ("warning", "edge.test")
    assert first["message"] == "the disk is 99 % full\nand more: ü"
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None
    assert "ValueError: why" in second["exception"]


def test_json_in_the_journal_has_priorities_too(stderr: Stderr) -> None:
    stderr.configure("json", journal=True)
    log.error("bad")
    (line,) = stderr.said
    assert line.startswith("<3>{")
    assert json.loads(line[3:])["message"] == "bad"


def test_the_form_can_be_changed_and_nothing_is_said_twice(stderr: Stderr) -> None:
    stderr.take_place()
    logging.basicConfig(level=logging.WARNING, stream=stderr.stream, force=True)  # as the command line begins
    stderr.configure("text")
    stderr.configure("json")
    log.info("once")
    (line,) = stderr.said
    assert json.loads(line)["message"] == "once"


def test_debug_stays_on_where_it_was_asked_for(stderr: Stderr) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    stderr.configure("text")
    log.debug("detail")
    assert len(stderr.said) == 1


def test_lines_follow_stderr_where_it_goes(stderr: Stderr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr.configure("text")
    with open(tmp_path / "other", "w+", buffering=1) as other:
        monkeypatch.setattr(sys, "stderr", other)
        log.info("there")
        assert len((tmp_path / "other").read_text().splitlines()) == 1
    assert stderr.said == []


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "secret",
    ["rtsp://admin:hunter2@10.0.0.5/s", "http://u:hun/ter2@h", "rtsp://u:a@hunter2@h/x", "RTSP+tls://hunter2@h"],
)
def test_credentials_are_masked_whoever_logs_them(form: Literal["text", "json"], secret: str, stderr: Stderr) -> None:
    stderr.configure(form)
    log.error("cannot open %s: mail me@home", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed")
    text = "\n".join(stderr.said)
    assert "ter2" not in text
    assert "***@h" in text or "***@10.0.0.5/s" in text
    assert "me@home" in text


CRASH = """
import logging, os, threading, time
from edge.cli.running import native_silence
from edge.service.logs import configure
logging.basicConfig(level=logging.WARNING)
def waits_for_a_camera(): time.sleep(60)
with native_silence():
    configure("text")
    threading.Thread(target=waits_for_a_camera, daemon=True).start()
    os.kill(os.getpid(), {number})
"""


@pytest.mark.parametrize(("number", "says"), [(signal.SIGABRT, "Aborted"), (signal.SIGSEGV, "Segmentation fault")])
def test_a_crash_says_where_each_thread_was(number: int, says: str) -> None:
    code = CRASH.format(number=int(number))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -number
    assert says in done.stderr
    assert "in waits_for_a_camera" in done.stderr
