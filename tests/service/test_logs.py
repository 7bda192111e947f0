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
from typing import IO

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


@pytest.fixture
def stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IO[str]]:
    with open(tmp_path / "stderr", "w+", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        yield stream


def said(stream: IO[str]) -> list[str]:
    return Path(stream.name).read_text().splitlines()


def is_journal(stream: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")


def test_text_has_the_time_and_what_is_not_usual(stderr: IO[str]) -> None:
    logs.configure("text")
    log.debug("too much")
    log.info("camera %s: online", "front")
    log.warning("the disk is full")
    first, second = said(stderr)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} camera front: online", first)
    assert second.endswith(" warning: the disk is full")


def test_in_the_journal_each_line_has_its_priority_and_no_time(
    stderr: IO[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_journal(stderr, monkeypatch)
    logs.configure("text", logging.DEBUG)
    log.debug("detail")
    log.info("fine")
    log.warning("one\ntwo")
    log.error("bad")
    log.critical("worse")
    assert said(stderr) == [
        "<7>debug: detail",
        "<6>fine",
        "<4>warning: one",
        "<4>two",
        "<3>error: bad",
        "<2>critical: worse",
    ]


@pytest.mark.parametrize("value", ["", "1:2", "nonsense", "1:2:3", ":"])
def test_a_journal_that_stderr_does_not_go_to_is_none(
    value: str, stderr: IO[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", value)
    assert not logs.stderr_is_journal()


def test_json_lines(stderr: IO[str]) -> None:
    logs.configure("json")
    log.warning("the disk is %d %% full\nand more: ü", 99)
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("it failed")
    first, second = (json.loads(line) for line in said(stderr))
    assert first.keys() == {"time", "level", "logger", "message"}
    assert (first["level"], first["logger"]) == ("warning", "edge.test")
    assert first["message"] == "the disk is 99 % full\nand more: ü"
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None
    assert "ValueError: why" in second["exception"]


def test_json_in_the_journal_has_priorities_too(stderr: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    is_journal(stderr, monkeypatch)
    logs.configure("json")
    log.error("bad")
    (line,) = said(stderr)
    assert line.startswith("<3>{")
    assert json.loads(line[3:])["message"] == "bad"


def test_the_form_can_be_changed_and_nothing_is_said_twice(stderr: IO[str]) -> None:
    logging.basicConfig(level=logging.WARNING, stream=stderr, force=True)  # as the command line begins
    logs.configure("text")
    logs.configure("json")
    log.info("once")
    (line,) = said(stderr)
    assert json.loads(line)["message"] == "once"


def test_debug_stays_on_where_it_was_asked_for(stderr: IO[str]) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    logs.configure("text")
    log.debug("detail")
    assert len(said(stderr)) == 1


def test_lines_follow_stderr_where_it_goes(stderr: IO[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("text")
    with open(tmp_path / "other", "w+", buffering=1) as other:
        monkeypatch.setattr(sys, "stderr", other)
        log.info("there")
        assert len(said(other)) == 1
    assert said(stderr) == []


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "secret",
    ["rtsp://admin:hunter2@10.0.0.5/s", "http://u:hun/ter2@h", "rtsp://u:a@hunter2@h/x", "RTSP+tls://hunter2@h"],
)
def test_credentials_are_masked_whoever_logs_them(form: str, secret: str, stderr: IO[str]) -> None:
    logs.configure(form)  # type: ignore[arg-type]
    log.error("cannot open %s: mail me@home", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed")
    text = "\n".join(said(stderr))
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
