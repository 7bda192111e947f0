"""The watchdog is fed only while nothing hangs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from edge.runner.status import ConfigStatus, Status
from edge.service import watchdog as module
from edge.service.notify import Notifier
from edge.service.watchdog import Watchdog

LOOK_S = 0.01


class Counter(Notifier):
    """Counts how often the watchdog was fed."""

    def __init__(self, limit_s: float | None = 30.0) -> None:
        super().__init__(None)
        self.watchdog_s = limit_s
        self.fed = 0

    def watchdog(self) -> None:
        self.fed += 1


def status(*hung: str) -> Status:
    return Status("0", 1.0, True, hung, (), (), ConfigStatus("edge.toml"))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Looks:
    """A service whose state the test sets, and which counts how often it is asked."""

    def __init__(self) -> None:
        self.state: Status | Exception = status()
        self.asked = 0

    def __call__(self) -> Status:
        self.asked += 1
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def some(self, number: int = 3) -> None:
        target = self.asked + number
        until(lambda: self.asked >= target)


def test_it_is_fed_while_nothing_hangs_and_not_while_something_does(caplog: pytest.LogCaptureFixture) -> None:
    notifier, looks = Counter(), Looks()
    watchdog = Watchdog(notifier, looks, LOOK_S)
    watchdog.start()
    until(lambda: notifier.fed >= 3)
    assert caplog.records == []

    looks.state = status("camera front: no answer for 21 s")
    looks.some()
    fed = notifier.fed
    looks.state = status("camera front: no answer for 22 s")
    looks.some(5)
    assert notifier.fed == fed
    (error,) = caplog.records
    assert error.levelno == logging.ERROR
    assert "camera front" in error.getMessage()
    assert "30 s" in error.getMessage()

    looks.state = status("camera front: no answer for 40 s", "model default: an inference has been running for 21 s")
    looks.some()
    assert [r.levelno for r in caplog.records] == [logging.ERROR] * 2
    assert "model default" in caplog.messages[1]

    looks.state = status()
    until(lambda: notifier.fed > fed)
    until(lambda: len(caplog.records) == 3)
    assert caplog.records[2].levelno == logging.WARNING
    watchdog.stop()
    stopped = looks.asked
    time.sleep(5 * LOOK_S)
    assert looks.asked == stopped


def test_a_state_that_does_not_come_back_starves_it() -> None:
    entered, leave = threading.Event(), threading.Event()

    def stuck() -> Status:
        entered.set()
        leave.wait(30)
        return status()

    notifier = Counter()
    watchdog = Watchdog(notifier, stuck, LOOK_S)
    watchdog.start()
    assert entered.wait(30)
    assert notifier.fed == 0
    watchdog.stop()  # comes back though its thread does not
    leave.set()


def test_a_state_that_cannot_be_told_starves_it_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    notifier, looks = Counter(), Looks()
    looks.state = ZeroDivisionError("a bug")
    watchdog = Watchdog(notifier, looks, LOOK_S)
    watchdog.start()
    looks.some(5)
    assert notifier.fed == 0
    assert sum("a bug" in (r.exc_text or str(r.exc_info)) for r in caplog.records) == 1
    looks.state = status()
    until(lambda: notifier.fed)
    watchdog.stop()


@pytest.mark.parametrize(("limit_s", "look_s"), [(30.0, 5.0), (6.0, 2.0), (None, 5.0)])
def test_it_looks_three_times_within_the_limit(limit_s: float | None, look_s: float) -> None:
    assert Watchdog(Counter(limit_s), status)._look_s == look_s


def test_it_can_be_stopped_before_it_was_started_and_started_again() -> None:
    notifier = Counter()
    watchdog = Watchdog(notifier, status, LOOK_S)
    watchdog.stop()
    for _ in range(2):
        fed = notifier.fed
        watchdog.start()
        until(lambda fed=fed: notifier.fed > fed)
        watchdog.stop()


def test_without_systemd_the_log_still_says_what_hangs(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks()
    looks.state = status("output disk: a write has been going on for 21 s")
    watchdog = Watchdog(Counter(None), looks, LOOK_S)
    watchdog.start()
    until(lambda: caplog.records)
    watchdog.stop()
    assert "output disk" in caplog.text
    assert "systemd" not in caplog.text


def test_a_main_loop_that_stands_still_starves_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAIN_S", 0.3)
    notifier, looks = Counter(), Looks()
    watchdog = Watchdog(notifier, looks, LOOK_S)
    with caplog.at_level(logging.WARNING, "edge"):
        watchdog.start()
        try:
            looks.some()
            assert notifier.fed
            until(lambda: "the main loop: no progress for" in caplog.text)
            fed = notifier.fed
            looks.some()
            assert notifier.fed == fed
            watchdog.beat()
            until(lambda: notifier.fed > fed)
        finally:
            watchdog.stop()
    assert "everything makes progress again" in caplog.text
