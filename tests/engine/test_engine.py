"""Lanes, pools and the threads between them: order, fairness, bounds, ends."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edge.detections import Detections
from edge.engine import DEPTH, Engine, Job, Lane, Outlet, Pool
from edge.frame import Frame
from edge.result import Result

WAIT_S = 20
IMAGE = np.zeros((2, 2, 3), np.uint8)


def frame(index: int, source: str = "a") -> Frame:
    return Frame(IMAGE, index, source, 0.0, time.monotonic(), time.time())


def look(member: str, job: Job) -> Result:
    return Result(job.frame, Detections.empty(), {}, job.dropped)


class Bench:
    """An engine and what it complained of."""

    def __init__(self, threads: int) -> None:
        self.errors: list[Exception] = []
        self.engine = Engine(0, self.errors.append)
        self._threads = threads

    def start(self) -> None:
        self.engine.grow(self._threads)

    def lane(
        self,
        pool: Pool[str],
        work: Callable[[str, Job], Result] = look,
        newest: bool = False,
        outlet: Outlet | None = None,
    ) -> tuple[Lane, Outlet]:
        outlet = outlet or Outlet(self.engine)
        lane = Lane(self.engine, pool, work, outlet, newest)
        self.engine.add(lane)
        return lane, outlet


@pytest.fixture
def bench() -> Iterator[Callable[[int], Bench]]:
    made: list[Bench] = []

    def make(threads: int) -> Bench:
        made.append(Bench(threads))
        return made[-1]

    yield make
    for one in made:
        assert one.engine.stop(WAIT_S)


def drain(outlet: Outlet) -> list[Result]:
    results = []
    deadline = time.monotonic() + WAIT_S
    while not outlet.finished and time.monotonic() < deadline:
        if (result := outlet.get(0.1)) is not None:
            results.append(result)
    return results


def feed(lane: Lane, count: int, source: str = "a") -> threading.Thread:
    def run() -> None:
        for index in range(count):
            lane.put(frame(index, source), 0.0)
        lane.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_results_keep_the_order_of_frames_however_long_each_takes(bench: Callable[[int], Bench]) -> None:
    rng = random.Random(3)
    busy: Counter[str] = Counter()

    def uneven(member: str, job: Job) -> Result:
        busy[member] += 1
        time.sleep(rng.choice((0.0, 0.001, 0.004)))
        return look(member, job)

    one = bench(4)
    lane, outlet = one.lane(Pool(list("wxyz")), uneven)
    one.start()
    feed(lane, 200)
    assert [r.frame.index for r in drain(outlet)] == list(range(200))
    assert len(busy) == 4


def test_no_member_works_twice_at_once_and_no_more_frames_than_members(bench: Callable[[int], Bench]) -> None:
    inside: Counter[str] = Counter()
    most = [0]
    lock = threading.Lock()

    def watched(member: str, job: Job) -> Result:
        with lock:
            inside[member] += 1
            most[0] = max(most[0], sum(inside.values()))
            assert inside[member] == 1
        time.sleep(0.001)
        with lock:
            inside[member] -= 1
        return look(member, job)

    one = bench(6)
    pool = Pool(["x", "y"])
    lanes = [one.lane(pool, watched) for _ in range(3)]
    one.start()
    for lane, _ in lanes:
        feed(lane, 50)
    assert all([r.frame.index for r in drain(outlet)] == list(range(50)) for _, outlet in lanes)
    assert not one.errors
    assert most[0] == 2


def test_every_lane_has_its_turn_also_beside_a_flood(bench: Callable[[int], Bench]) -> None:
    one = bench(1)
    pool = Pool(["x"])
    order: list[str] = []

    def note(member: str, job: Job) -> Result:
        order.append(job.frame.source)
        time.sleep(0.001)
        return look(member, job)

    lanes = {name: one.lane(pool, note) for name in "abc"}
    feeders = [feed(lane, 60, name) for name, (lane, _) in lanes.items()]
    # All three have frames before the first turn.
    time.sleep(0.05)
    one.start()
    writers = [threading.Thread(target=drain, args=(outlet,)) for _, outlet in lanes.values()]
    for writer in writers:
        writer.start()
    for thread in (*writers, *feeders):
        thread.join(WAIT_S)
    # While all three have frames, each comes once in a row of three.
    assert all(set(order[i : i + 3]) == set("abc") for i in range(0, 60, 3))


def test_a_writer_that_hangs_holds_up_its_own_lane_only(bench: Callable[[int], Bench]) -> None:
    one = bench(1)
    pool = Pool(["x"])
    stuck, _ = one.lane(pool)
    good, outlet = one.lane(pool)
    one.start()
    feed(stuck, 100)
    feed(good, 100)
    assert [r.frame.index for r in drain(outlet)] == list(range(100))
    with one.engine.lock:
        assert stuck._out == DEPTH
    stuck.abandon()


def test_a_newest_lane_counts_what_it_replaced(bench: Callable[[int], Bench]) -> None:
    one = bench(1)
    lane, outlet = one.lane(Pool(["x"]), newest=True)
    for index in range(7):
        assert lane.put(frame(index), 0.0)
    lane.close()
    one.start()
    assert [(r.frame.index, r.dropped) for r in drain(outlet)] == [(6, 6)]
    assert not lane.put(frame(8), 0.0)


@pytest.mark.parametrize(
    "lag_s, waited_s, hold_s",
    [
        # A frame that came at once is good until the next one is there.
        (0.0, 0.9, 0.0),
        # One that was an interval old when it came is not, ...
        (1.0, 0.3, 0.0),
        (1.0, 0.4, 0.85),
        (0.5, 0.9, 0.35),
        # ... unless the next one is overdue.
        (1.0, 1.3, 0.0),
        # A stream that lags by more than that is late anyway; its new frames are looked at.
        (9.0, 0.3, 0.0),
        (9.0, 0.4, 0.85),
    ],
)
def test_an_old_frame_is_held_until_the_next_one_that_is_due(
    bench: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch, lag_s: float, waited_s: float, hold_s: float
) -> None:
    interval_s = 0.25
    clock = [0.0]
    monkeypatch.setattr("edge.engine.lane.time", SimpleNamespace(monotonic=lambda: clock[0]))
    lane, _ = bench(1).lane(Pool(["x"]), newest=True)

    def put(index: int) -> None:
        clock[0] = 100 + index * interval_s
        lane.put(replace(frame(index), captured_s=clock[0] - lag_s * interval_s), 0.0)

    put(0)
    # Nothing is known yet of the next one.
    assert lane._hold_s(clock[0] + 1e9) == 0
    for index in range(1, 5):
        put(index)
    assert lane._hold_s(clock[0] + waited_s * interval_s) == pytest.approx(hold_s * interval_s)
    # After an outage all is forgotten.
    put(100)
    assert lane._hold_s(clock[0] + waited_s * interval_s) == 0
    put(101)
    lane.close()
    assert lane._hold_s(clock[0] + waited_s * interval_s) == 0


def test_a_frame_is_held_alone_and_a_fresher_one_ends_it(
    bench: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench(1)
    pool = Pool(["x"])
    outlet = Outlet(one.engine)
    first, _ = one.lane(pool, newest=True, outlet=outlet)
    second, _ = one.lane(pool, newest=True, outlet=outlet)
    held = threading.Event()

    def hold_s(lane: Lane, now: float) -> float:
        if lane._waiting[0].frame.index:
            return 0.0
        held.set()
        return WAIT_S

    monkeypatch.setattr(Lane, "_hold_s", hold_s)
    first.put(frame(0, "first"), 0.0)
    one.start()
    assert held.wait(WAIT_S)
    first.put(frame(1, "first"), 0.0)
    result = outlet.get(WAIT_S)
    assert result is not None and (result.frame.index, result.dropped) == (1, 1)
    # Both have old frames: the one whose turn it is goes, and then the other is alone.
    with one.engine.lock:
        for lane in (first, second):
            lane._waiting.append(Job(frame(0, "old"), 0.0))
        one.engine._wake()
    result = outlet.get(WAIT_S)
    assert result is not None and result.frame.source == "old"
    assert outlet.get(0.05) is None
    for lane in (first, second):
        lane.close(discard=True)


def test_a_frame_that_is_held_in_vain_is_looked_at_after_all(
    bench: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench(1)
    lane, outlet = one.lane(Pool(["x"]), newest=True)
    until = time.monotonic() + 0.2
    monkeypatch.setattr(Lane, "_hold_s", lambda lane, now: max(0.0, until - now))
    lane.put(frame(0), 0.0)
    one.start()
    # Nothing else wakes the thread.
    assert outlet.get(WAIT_S) is not None and time.monotonic() >= until
    lane.close()


def test_a_frame_that_fails_is_left_out_and_the_next_ones_come(bench: Callable[[int], Bench]) -> None:
    def fails(member: str, job: Job) -> Result:
        if job.frame.index % 3 == 1:
            raise ValueError(str(job.frame.index))
        return look(member, job)

    one = bench(2)
    lane, outlet = one.lane(Pool(["x", "y"]), fails)
    one.start()
    feed(lane, 9)
    assert [r.frame.index for r in drain(outlet)] == [0, 2, 3, 5, 6, 8]
    assert sorted(map(str, one.errors)) == ["1", "4", "7"]


def test_an_outlet_that_lanes_share_ends_with_the_last_of_them(bench: Callable[[int], Bench]) -> None:
    one = bench(1)
    pool = Pool(["x"])
    first, outlet = one.lane(pool)
    second, _ = one.lane(pool, outlet=outlet)
    one.start()
    first.close()
    second.put(frame(5, "b"), 0.0)
    assert not outlet.finished
    second.close()
    assert [r.frame.source for r in drain(outlet)] == ["b"]
    assert outlet.finished


def test_a_lane_that_is_abandoned_lets_its_feeder_and_its_writer_go(bench: Callable[[int], Bench]) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hang(member: str, job: Job) -> Result:
        entered.set()
        assert leave.wait(WAIT_S)
        return look(member, job)

    one = bench(1)
    pool = Pool(["x"])
    lane, outlet = one.lane(pool, hang)
    one.start()
    feeder = feed(lane, 100)
    assert entered.wait(WAIT_S)
    time.sleep(0.02)
    assert pool.longest_s() >= 0.02
    assert not one.engine.stop(0.01)
    lane.abandon()
    feeder.join(WAIT_S)
    assert not feeder.is_alive()
    assert outlet.finished and outlet.get() is None
    leave.set()
    assert one.engine.stop(WAIT_S)
    assert pool.longest_s() == 0


def test_members_are_replaced_under_way(bench: Callable[[int], Bench]) -> None:
    entered, leave = threading.Event(), threading.Event()
    seen: list[str] = []

    def note(member: str, job: Job) -> Result:
        seen.append(member)
        if job.frame.index == 0:
            entered.set()
            assert leave.wait(WAIT_S)
        return look(member, job)

    one = bench(2)
    pool = Pool(["old"])
    lane, outlet = one.lane(pool, note)
    one.start()
    feed(lane, 30)
    assert entered.wait(WAIT_S)
    with one.engine.lock:
        pool.replace(["new", "newer"])
    assert not pool.idle
    leave.set()
    assert [r.frame.index for r in drain(outlet)] == list(range(30))
    assert seen[0] == "old" and set(seen[1:]) <= {"new", "newer"} and len(seen) == 30
    assert one.engine.stop(WAIT_S)
    assert pool.idle and pool.size == 2
