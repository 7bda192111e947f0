"""The sd_notify protocol against a socket of our own."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.service.notify import Notifier


class Manager:
    """The other end: what systemd would read."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def read(self) -> list[str]:
        return self.socket.recv(65536).decode().split("\n")

    def silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(65536)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(5)
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    made = Notifier(manager.socket.getsockname())
    yield made
    made.close()


def test_each_message_is_one_datagram_of_assignments(manager: Manager, notifier: Notifier) -> None:
    notifier.status("loading models")
    assert manager.read() == ["STATUS=loading models"]
    notifier.ready("2 of 3 cameras online")
    assert manager.read() == ["READY=1", "STATUS=2 of 3 cameras online"]
    notifier.watchdog()
    assert manager.read() == ["WATCHDOG=1"]
    notifier.extend(1.5)
    assert manager.read() == ["EXTEND_TIMEOUT_USEC=1500000"]
    notifier.stopping()
    assert manager.read() == ["STOPPING=1", "STATUS=finishing files"]


def test_a_reload_carries_the_monotonic_time_at_which_it_began(manager: Manager, notifier: Notifier) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, second, third = manager.read()
    assert (first, third) == ("RELOADING=1", "STATUS=reloading the configuration")
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= after


def test_a_sentence_is_sent_once_and_again_when_it_changes(manager: Manager, notifier: Notifier) -> None:
    notifier.status("one")
    notifier.status("one")
    assert manager.read() == ["STATUS=one"]
    assert manager.silent()
    notifier.ready("one")
    assert manager.read() == ["READY=1"]
    notifier.status("two")
    assert manager.read() == ["STATUS=two"]


def test_a_sentence_cannot_smuggle_in_another_assignment(manager: Manager, notifier: Notifier) -> None:
    notifier.status("camera\nWATCHDOG=trigger\r\n\x0bMAINPID=1")
    assert manager.read() == ["STATUS=camera WATCHDOG=trigger MAINPID=1"]
    notifier.status("x" * 100_000)
    assert len(manager.read()[0]) < 1000
    notifier.status("ünï \udcff")  # what os.fsdecode makes of a file name that is not UTF-8
    assert manager.read() == ["STATUS=ünï ?"]


def test_an_abstract_socket() -> None:
    name = f"edge-test-{os.getpid()}"
    manager = Manager(b"\0" + name.encode())
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": f"@{name}"})
    notifier.ready()
    assert manager.read() == ["READY=1"]
    notifier.close()
    manager.socket.close()


def test_outside_systemd_nothing_happens() -> None:
    notifier = Notifier.from_environment({})
    assert not notifier.enabled
    assert notifier.watchdog_s is None
    for call in (notifier.ready, notifier.reloading, notifier.stopping, notifier.watchdog, notifier.close):
        call()


def test_what_cannot_be_delivered_is_logged_once_and_said_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = str(tmp_path / "notify")
    notifier = Notifier(address)
    notifier.status("one")
    notifier.watchdog()
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "No such file" in caplog.text
    manager = Manager(address)
    # The sentence that was lost is told now, though it has not changed.
    notifier.status("one")
    assert manager.read() == ["STATUS=one"]
    manager.socket.close()
    os.unlink(address)
    notifier.watchdog()
    assert len(caplog.records) == 2
    notifier.close()
    notifier.watchdog()
    assert len(caplog.records) == 2


def test_a_manager_that_does_not_read_holds_nobody_up(
    manager: Manager, notifier: Notifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert notifier._socket is not None
    notifier._socket.settimeout(0.05)
    for _ in range(2000):  # the queue of a datagram socket holds far fewer
        notifier.watchdog()
        if caplog.records:
            break
    assert "systemd cannot be told" in caplog.text


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative", "/", "@", ""])
def test_an_address_that_is_none_turns_it_off(address: str, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    assert not notifier.enabled
    notifier.ready()
    assert bool(caplog.records) == bool(address)


def test_the_watchdog_is_on_where_it_is_meant_for_this_process(tmp_path: Path) -> None:
    def limit_s(**more: str) -> float | None:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "s"), **more})
        notifier.close()
        return notifier.watchdog_s

    assert limit_s(WATCHDOG_USEC="30000000") == 30
    assert limit_s(WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid())) == 30
    assert limit_s(WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid() + 1)) is None
    assert limit_s() is None
    for nonsense in ("0", "-1", "abc", "1.5", "٣"):
        assert limit_s(WATCHDOG_USEC=nonsense) is None


def test_without_a_socket_there_is_no_watchdog() -> None:
    assert Notifier.from_environment({"WATCHDOG_USEC": "30000000"}).watchdog_s is None
