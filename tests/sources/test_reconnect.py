"""Sources that go away and come back."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media import clip
from mjpeg import MjpegCamera
from rtsp import NoRtspServerError, RtspCamera

from edge.errors import SourceError, SourceLostError
from edge.frame import Frame
from edge.sources import SourceOptions, open_source, reconnect
from edge.sources.base import SourceBase
from edge.sources.reader import Opening
from edge.sources.reconnect import Backoff, ReconnectingSource, SourceEvent, told

WAIT_S = 30
QUICK = Backoff(first_s=0.05, most_s=0.2)
SHORT = SourceOptions(open_timeout_s=1.0, read_timeout_s=0.5)


class Watch:
    """Reads a source in a thread of its own, as a pipeline does."""

    def __init__(self, source: ReconnectingSource) -> None:
        self.source = source
        self.frames: list[tuple[int, float, tuple[int, int]]] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for frame in self.source:
                assert frame.live and frame.source == self.source.name
                self.frames.append((frame.index, frame.timestamp_s, frame.size_wh))
        except SourceLostError as error:
            self.error = error

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.01)

    def more(self, count: int = 5) -> None:
        """Wait for some more frames."""
        wanted = len(self.frames) + count
        self.until(lambda: len(self.frames) >= wanted)

    def seen(self, index: int) -> None:
        """Wait for a frame: this one, or a newer one that has replaced it."""
        self.until(lambda: self.frames and self.frames[-1][0] >= index)

    def end(self) -> None:
        self.source.interrupt()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self.source.close()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watch]]:
    made: list[Watch] = []

    def start(source: ReconnectingSource) -> Watch:
        made.append(Watch(source))
        return made[-1]

    yield start
    for one in made:
        one.end()
    deadline = time.monotonic() + WAIT_S
    while any(t.name.startswith("edge-") for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("edge-")]


@pytest.fixture
def events() -> list[SourceEvent]:
    return []


@pytest.fixture
def rtsp() -> Iterator[RtspCamera]:
    try:
        camera = RtspCamera()
    except NoRtspServerError as error:
        pytest.skip(str(error))
    with camera:
        yield camera


def turns(events: list[SourceEvent]) -> list[SourceEvent]:
    """Return where the source went away or came back, without the further reasons of an outage."""
    return [event for event in events if event.state == "online" or not event.away_s]


def in_order(frames: list[tuple[int, float, Any]]) -> bool:
    indices, times = [f[0] for f in frames], [f[1] for f in frames]
    return indices == sorted(set(indices)) and times == sorted(times)


def test_a_motion_jpeg_camera_comes_back_with_another_size(watch, events: list[SourceEvent]) -> None:
    with MjpegCamera() as camera:
        source = ReconnectingSource(camera.url, SHORT, QUICK, on_event=events.append)
        assert source.counters.state == "starting"
        one = watch(source)
        one.more()
        assert (source.counters.state, source.counters.outages) == ("online", 0)
        camera.stop()
        one.until(lambda: source.counters.state == "offline")
        before = one.frames[-1]
        one.until(lambda: "Connection refused" in (source.counters.last_error or ""))
        camera.image = np.zeros((96, 128, 3), np.uint8)
        camera.start()
        one.more()
        counters = source.counters
        assert (counters.state, counters.outages, counters.reconnects) == ("online", 1, 1)
    went, came = turns(events)[:2]  # its end may be a third
    assert (went.state, came.state) == ("offline", "online")
    assert "stopped delivering" in went.reason
    assert [told(event) for event in events if event.away_s and "Connection refused" in event.reason][0].startswith(
        "still offline: no connection to 127.0.0.1"
    )
    assert one.frames[0][:2] == (0, 0.0)
    assert in_order(one.frames)
    assert one.frames[-1][1] - before[1] >= came.away_s > 0
    assert {f[2] for f in one.frames} == {(64, 48), (128, 96)}
    assert source.size_wh == (128, 96)


def test_a_motion_jpeg_camera_that_freezes(watch, events: list[SourceEvent]) -> None:
    with MjpegCamera() as camera:
        one = watch(ReconnectingSource(camera.url, SHORT, QUICK, on_event=events.append))
        one.more()
        camera.freeze()
        one.until(lambda: events)
        camera.start()
        one.more()
    assert [event.state for event in turns(events)][:2] == ["offline", "online"]
    assert in_order(one.frames)


def test_an_rtsp_camera_that_is_killed_and_comes_back_larger(watch, events, rtsp: RtspCamera) -> None:
    source = ReconnectingSource(rtsp.url, SHORT, QUICK, on_event=events.append, opened=open_source(rtsp.url, SHORT))
    assert (source.size_wh, source.fps) == ((160, 120), 15.0)
    one = watch(source)
    one.more()
    rtsp.kill()
    one.until(lambda: events)
    rtsp.size_wh = (320, 240)
    rtsp.start()
    one.more()
    assert [event.state for event in turns(events)] == ["offline", "online"]
    assert {f[2] for f in one.frames} == {(160, 120), (320, 240)}
    assert one.frames[0][:2] == (0, 0.0)
    assert in_order(one.frames)


def test_an_rtsp_camera_that_freezes_and_goes_on(watch, events, rtsp: RtspCamera) -> None:
    one = watch(ReconnectingSource(rtsp.url, SHORT, QUICK, on_event=events.append))
    one.more()
    rtsp.freeze()
    one.until(lambda: events)
    # What a frozen host accepts, it does not answer.
    one.until(lambda: "gives no video" in (one.source.counters.last_error or ""))
    assert one.source.counters.outages == 1
    rtsp.start()
    one.more()
    assert [event.state for event in turns(events)] == ["offline", "online"]
    assert in_order(one.frames)


def test_an_rtsp_path_that_is_missing_is_tried_again(watch, rtsp: RtspCamera) -> None:
    source = ReconnectingSource(rtsp.url.replace("//", "//admin:s3cret@").replace("/cam", "/later"), SHORT, QUICK)
    one = watch(source)
    one.until(lambda: source.counters.last_error)
    assert "gives no video" in str(source.counters.last_error)
    assert (source.counters.state, source.counters.outages, one.frames) == ("offline", 1, [])


def test_a_source_that_is_not_there_at_first(
    watch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    monkeypatch.setattr(reconnect, "open_source", lambda uri, options: tries.append(uri) or open_source(uri, options))
    camera = MjpegCamera()
    camera.stop()
    url = camera.url.replace("//", "//admin:s3cret@") + "?token=s3cret"
    with caplog.at_level(logging.DEBUG):
        source = ReconnectingSource(url, SHORT, QUICK)
        one = watch(source)
        one.until(lambda: len(tries) > 3)
        with camera:
            camera.start()
            one.more()
            assert (source.counters.outages, source.counters.reconnects) == (1, 1)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    # What is said again and again is told once.
    assert len([line for line in warnings if "no connection to 127.0.0.1" in line]) == 1
    first, back = [line for line in warnings if ": still offline: " not in line][:2]  # the camera's end may be a third
    assert ": offline: no connection to 127.0.0.1" in first and "tried again until" in first
    assert ": back after " in back
    assert "s3cret" not in caplog.text + source.name + str(source.counters)


def test_a_server_that_accepts_and_is_silent(watch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        options = SourceOptions(open_timeout_s=0.2, read_timeout_s=0.2)
        one = watch(ReconnectingSource(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x", options, QUICK))
        one.until(lambda: one.source.counters.state == "offline")
        one.end()
    assert "gives no video" in str(one.source.counters.last_error)


def test_a_file_behind_http_ends(watch, tmp_path: Path) -> None:
    # Named like a stream; only its content tells that it ends.
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    clip(tmp_path / "a.mp4", 7)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        one = watch(ReconnectingSource(f"http://127.0.0.1:{server.server_port}/a.mp4", SHORT, QUICK))
        one.until(lambda: one.source.counters.state == "ended")
        server.shutdown()
        thread.join()
    assert (one.error, one.source.counters.outages) == (None, 0)
    assert 1 <= len(one.frames) <= 7


class Script(SourceBase):
    """A source of some frames and then an end of some kind; a call may not come back until it is let go."""

    live = True

    def __init__(self, frames: int, end: Exception | threading.Event | None = None, pause_s: float = 0.0) -> None:
        self.name = "cam"
        self.captured = 0
        self.closed = 0
        self._frames, self._end, self._pause_s = frames, end, pause_s

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._frames):
            if self._interrupted:
                return
            time.sleep(self._pause_s)
            self.beat()
            self.captured = index + 1
            yield Frame(np.full((4, 4, 3), index, np.uint8), index, "cam", 0.0, time.monotonic(), time.time())
        if isinstance(self._end, Exception):
            raise self._end
        if self._end is not None:
            self.beat()
            self._end.wait(WAIT_S)

    def close(self) -> None:
        self.closed += 1


class Scripts:
    """Stands in for `open_source`: the scripts one after another, and then nothing more."""

    def __init__(self, *scripts: Script | Exception) -> None:
        self.scripts = list(scripts)
        self.opened = 0

    def __call__(self, uri: str, options: SourceOptions) -> Script:
        self.opened += 1
        if self.opened > len(self.scripts):
            raise SourceError("cam: it is gone for good")
        script = self.scripts[self.opened - 1]
        if isinstance(script, Exception):
            raise script
        return script


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scripts]:
    def use(*scripts: Script | Exception) -> Scripts:
        stand_in = Scripts(*scripts)
        monkeypatch.setattr(reconnect, "open_source", stand_in)
        return stand_in

    return use


LOST = SourceLostError("cam: the source stopped delivering after 3 frames")


def test_whatever_a_driver_raises_is_one_outage(watch, scripted, events: list[SourceEvent]) -> None:
    first, second = Script(3, cv2.error("Unknown C++ exception\nmore"), 0.01), Script(3, MemoryError(), 0.01)
    scripts = scripted(first, SourceError("cam: not yet"), second, Script(2, LOST, 0.01))
    one = watch(ReconnectingSource("cam", backoff=QUICK, on_event=events.append))
    # The last script is followed by nothing, which is another reason to be away, and told once.
    one.until(lambda: len(events) == 7 and scripts.opened > 8)
    assert [(event.state, event.reason) for event in events if event.state == "offline"] == [
        ("offline", "Unknown C++ exception"),
        ("offline", "not yet"),
        ("offline", "MemoryError"),
        ("offline", "the source stopped delivering after 3 frames"),
        ("offline", "it is gone for good"),
    ]
    words = [told(event).partition(":")[0].partition(" after")[0] for event in events]
    assert words == ["offline", "still offline", "back", "offline", "back", "offline", "still offline"]
    assert in_order(one.frames)
    assert one.frames[-1][0] == 7
    assert (first.closed, second.closed) == (1, 1)


def test_a_source_that_is_away_for_too_long_is_lost(watch, scripted) -> None:
    scripted(Script(3, LOST, 0.01))
    one = watch(ReconnectingSource("cam", backoff=QUICK, give_up_s=0.3))
    one.until(lambda: one.error)
    assert str(one.error) == "cam: it is gone for good; it did not come back within 0.3 s"
    assert one.source.counters.state == "ended"
    assert one.frames[-1][0] == 2


def test_one_that_hangs_while_it_is_opened_is_lost_in_time(watch, monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()
    monkeypatch.setattr(reconnect, "open_source", lambda uri, options: leave.wait(WAIT_S) and Script(0))
    one = watch(ReconnectingSource("cam", backoff=QUICK, give_up_s=0.3, opened=Script(1, LOST)))
    one.until(lambda: one.error)
    assert one.source.hanging
    leave.set()
    one.until(lambda: not one.source.hanging)


def test_without_patience_it_is_lost_at_once(watch, scripted, events: list[SourceEvent]) -> None:
    opened = scripted()
    one = watch(ReconnectingSource("cam", give_up_s=0, on_event=events.append, opened=Script(3, LOST, 0.01)))
    one.until(lambda: one.error)
    assert str(one.error) == str(LOST)
    assert (opened.opened, events) == (0, [])


def test_an_interrupt_ends_the_wait_for_a_source(watch, scripted) -> None:
    scripted()
    one = watch(ReconnectingSource("cam", backoff=Backoff(first_s=1000, most_s=1000)))
    one.until(lambda: one.source.counters.state == "offline")
    beat = one.source.beat_s
    one.until(lambda: one.source.beat_s > beat)  # it gives signs of life meanwhile
    one.end()
    assert one.source.counters.state == "ended"
    assert not one.source.hanging


def test_an_interrupt_does_not_wait_for_a_call_that_hangs(watch, scripted) -> None:
    leave = threading.Event()
    script = Script(2, leave, 0.01)
    scripted(script)
    one = watch(ReconnectingSource("cam"))
    one.seen(1)
    beat = one.source.beat_s
    time.sleep(0.3)
    assert one.source.beat_s == beat  # what hangs gives no sign of life
    one.end()
    assert one.source.hanging
    assert script.closed == 0  # not under its reader
    leave.set()
    one.until(lambda: not one.source.hanging)
    assert script.closed == 1


def test_readers_that_hang_are_left_behind_but_not_without_end(
    watch, scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "HANG_S", 0.2)
    leave = threading.Event()
    opened = scripted(*(Script(2, leave, 0.01) for _ in range(9)))
    one = watch(ReconnectingSource("cam", backoff=QUICK))
    one.until(lambda: opened.opened == reconnect.MOST_HANGING + 1)
    one.seen(2 * reconnect.MOST_HANGING + 1)
    assert "has not come back" in str(one.source.counters.last_error)
    # The last one is not left, and gives no signs of life: whoever watches may end the process.
    beat = one.source.beat_s
    time.sleep(1.0)
    assert one.source.beat_s == beat
    assert opened.opened == reconnect.MOST_HANGING + 1
    leave.set()
    one.until(lambda: one.source.counters.state == "ended")  # the script's end is one in good order
    assert in_order(one.frames)


def test_of_the_frames_that_wait_the_newest_is_given(scripted) -> None:
    release = threading.Event()

    class Burst(Script):
        def __iter__(self) -> Iterator[Frame]:
            frames = super().__iter__()
            yield next(frames)
            release.wait(WAIT_S)
            yield from frames

    leave = threading.Event()
    scripted(Burst(6, leave))
    with ReconnectingSource("cam") as source:
        frames = iter(source)
        assert next(frames).index == 0
        release.set()
        deadline = time.monotonic() + WAIT_S
        while source._reader.frames < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert next(frames).index == 5
        leave.set()


def test_one_that_was_opened_before_is_read_meanwhile_and_begins_with_the_newest() -> None:
    leave = threading.Event()
    script = Script(50, leave)
    with ReconnectingSource("cam", opened=script) as source:
        deadline = time.monotonic() + WAIT_S
        while script.captured < 50 and time.monotonic() < deadline:
            time.sleep(0.01)
        frame = next(iter(source))
        leave.set()
    assert (frame.index, frame.timestamp_s, frame.image.max()) == (0, 0.0, 49)
    assert source.counters.dropped == 0


def test_frames_that_are_left_out_are_counted_through_outages(watch) -> None:
    with MjpegCamera(fps=100) as camera:
        source = ReconnectingSource(camera.url, SourceOptions(every=5, read_timeout_s=0.5), QUICK)
        one = watch(source)
        one.more()
        skipped = source.skipped_frames
        assert skipped >= 16
        camera.stop()
        one.until(lambda: source.counters.state == "offline")
        assert source.skipped_frames >= skipped
        camera.start()
        one.more()
        assert source.skipped_frames >= skipped + 16
    assert in_order(one.frames)


def test_signs_of_life_while_no_frame_is_given(watch) -> None:
    with MjpegCamera(fps=50) as camera:
        source = ReconnectingSource(camera.url, SourceOptions(every=100_000))
        one = watch(source)
        one.more(1)
        beat = source.beat_s
        one.until(lambda: source.beat_s > beat)
        assert len(one.frames) == 1


@pytest.mark.parametrize("attempts", [0, 1, 4, 50, 10_000])
def test_the_wait_grows_to_a_limit_and_is_uneven(attempts: int) -> None:
    backoff = Backoff()
    waits = [backoff.wait_s(attempts) for _ in range(200)]
    middle = min(15.0, 0.5 * 2 ** min(attempts, 20))
    assert 0.8 * middle <= min(waits) < 0.9 * middle
    assert 1.1 * middle < max(waits) <= 1.2 * middle


def test_the_wait_grows_with_attempts_in_vain_and_begins_anew_after_a_steady_time(
    watch, scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    monkeypatch.setattr(Backoff, "wait_s", lambda self, attempts: waits.append(attempts) or 0.01)
    gone = SourceError("cam: gone")
    # A source that comes for a moment only is one that does not come.
    scripted(Script(2, LOST, 0.01), gone, Script(2, LOST, 0.01), gone, Script(30, LOST, 0.02), gone, gone)
    one = watch(ReconnectingSource("cam", backoff=Backoff(steady_s=0.3)))
    one.until(lambda: len(waits) >= 8)
    assert waits[:8] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_opening_is_waited_for_and_no_longer() -> None:
    leave, script = threading.Event(), Script(1)
    opening = Opening("rtsp://u:s3cret@cam/x", lambda: leave.wait(WAIT_S) and script)
    with pytest.raises(SourceError, match=r"rtsp://\*\*\*@cam/x: it does not open within 0\.1 s"):
        opening.result(0.1)
    leave.set()
    deadline = time.monotonic() + WAIT_S
    while not script.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert script.closed == 1  # nobody wants it any more


def test_opening_raises_what_went_wrong_and_closes_what_is_not_wanted() -> None:
    def fail() -> Script:
        raise SourceError("cam: gone")

    with pytest.raises(SourceError, match="cam: gone"):
        Opening("cam", fail).result(WAIT_S)
    script = Script(1)
    opening = Opening("cam", lambda: script)
    assert opening.result(WAIT_S) is script
    opening.give_up()
    assert script.closed == 0
    unwanted = Opening("cam", lambda: script)
    deadline = time.monotonic() + WAIT_S
    while unwanted._attempt.hangs and time.monotonic() < deadline:
        time.sleep(0.01)
    unwanted.give_up()
    assert script.closed == 1
