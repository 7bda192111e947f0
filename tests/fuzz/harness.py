"""Damaged files, made by hypothesis from whole ones, and a process that reads them."""

from __future__ import annotations

import copy
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")

START_S = 120.0
"""For the first answer of a process: it imports what it needs, on a machine that may be busy."""

CASE_S = 20.0
"""For each other; the slowest takes a hundredth of it."""

MAX_GROWTH_KB = 2 << 20
"""What one small file may take of memory; the network of a Darknet file counts as well."""

Seed = Mapping[str, bytes]
"""File name -> content: what a target reads."""

Change = tuple[Any, ...]

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 20)


def seconds() -> float | None:
    """Return how long to look for what is not known yet, from $EDGE_FUZZ_SECONDS; None for the fixed cases of CI."""
    said = os.environ.get("EDGE_FUZZ_SECONDS")
    return float(said) if said else None


class Failure(AssertionError):
    """A file made edge do what it must not do."""


class Reader:
    """A worker process, replaced when it dies or hangs."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet.

        Args:
            folder: Where files for it are written.
        """
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._replies = -1
        self._peak_kb = 0
        self.cases = 0
        self.outcomes: dict[str, int] = {}

    def check(self, target: str, files: Seed, max_growth_kb: int = MAX_GROWTH_KB, limit_s: float = CASE_S) -> str:
        """Let the worker read files.

        Args:
            target: One of `worker.TARGETS`.
            files: What to read.
            max_growth_kb: By how much the most memory that it ever used may grow.
            limit_s: For an answer; the first of a process may take longer.

        Returns:
            "read" or "refused".

        Raises:
            Failure: It crashed, hung, showed a traceback, or took too much memory; the message says which.
        """
        case = self._folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir(parents=True)
        for name, content in files.items():
            path = case / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        fresh = self._process is None
        found = self._ask(target, case, limit_s)
        self.cases += 1
        self.outcomes[found["outcome"]] = self.outcomes.get(found["outcome"], 0) + 1
        growth, self._peak_kb = found["peak_kb"] - self._peak_kb, max(self._peak_kb, found["peak_kb"])
        if not fresh and growth > max_growth_kb:
            raise Failure(f"{target}: took {growth >> 10} MB of memory")
        if found["outcome"] not in ("read", "refused"):
            raise Failure(f"{target}: {found['outcome']}: {found['said']}")
        return str(found["outcome"])

    def _ask(self, target: str, case: Path, limit_s: float) -> dict[str, Any]:
        if self._process is None:
            limit_s = START_S
            self._start()
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps([target, str(case)]).encode() + b"\n")
        self._process.stdin.flush()
        line, end = b"", time.monotonic() + limit_s
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._replies], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.close()
                raise Failure(f"{target}: no answer within {limit_s:g} s")
            part = os.read(self._replies, 1 << 16)
            if not part:
                code = self._process.wait()
                self.close()
                name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                raise Failure(f"{target}: the process died: {name}")
            line += part
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> None:
        self._replies, theirs = os.pipe()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONMALLOC": "malloc"}
        environment |= {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8", "CUDA_VISIBLE_DEVICES": ""}
        # It answers on a descriptor of its own: native libraries write to 1 and 2 as they like.
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs,),
            env=environment,
            cwd=ROOT,
        )
        os.close(theirs)
        self._peak_kb = 0

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.kill()
            self._process.wait()
            os.close(self._replies)
            self._process = None


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """Give a reader; its process ends with the context."""
    made = Reader(folder)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Case:
    """A damaged file: which one, and what was done to it.

    Attributes:
        seed: Name of the whole files.
        file: Which of them is damaged.
        changes: In this order; see `changed`.
    """

    seed: str
    file: str
    changes: tuple[Change, ...] = field(default=())


def changed(data: bytes, changes: tuple[Change, ...]) -> bytes:
    """Damage a file.

    Places are fractions of the file, in millionths, so that a case means something for a file that became shorter.

    Args:
        data: The file.
        changes: ("bit", place, bit), ("byte", place, value), ("word", place, value) at a place that 4 divides,
            ("cut", place), ("delete", place, bytes), ("insert", place, bytes) or ("copy", from, to, bytes).
    """
    out = bytearray(data)
    for kind, millionths, *rest in changes:
        at = millionths * len(out) // 1_000_000
        if kind == "cut":
            del out[at:]
        elif kind == "delete":
            del out[at : at + rest[0]]
        elif kind == "insert":
            out[at:at] = rest[0]
        elif not out:
            continue
        elif kind == "bit":
            out[min(at, len(out) - 1)] ^= 1 << rest[0]
        elif kind == "byte":
            out[min(at, len(out) - 1)] = rest[0]
        elif kind == "word":
            at = min(at, len(out) - 1) & ~3
            out[at : at + 4] = int(rest[0]).to_bytes(4, "little")[: len(out) - at]
        else:
            to, size = rest[0] * len(out) // 1_000_000, rest[1]
            part = out[at : at + size]
            out[to : to + len(part)] = part
    return bytes(out)


def _places(share: float = 1.0) -> st.SearchStrategy[int]:
    """Return a strategy of places in the first part of a file, in millionths; hypothesis' love of 0 spread evenly."""
    most = int(share * 1_000_000)
    return st.integers(0, 999_999).map(lambda number: (number * 607_093 + 423_557) % 1_000_000 * most // 1_000_000)


def changes(most: int = 4, head: float = 0.3) -> st.SearchStrategy[tuple[Change, ...]]:
    """Return a strategy of damage.

    Args:
        most: Changes to one file.
        head: Half of the places lie in this share at the start of the file, where headers are.
    """
    place = st.one_of(_places(), _places(head))
    sizes = st.integers(1, 64)
    each: st.SearchStrategy[Change] = st.one_of(
        st.tuples(st.just("bit"), place, st.integers(0, 7)),
        st.tuples(st.just("byte"), place, st.integers(0, 255)),
        st.tuples(st.just("word"), place, st.one_of(st.sampled_from(_EDGES), st.integers(0, 0xFFFFFFFF))),
        st.tuples(st.just("cut"), place),
        st.tuples(st.just("delete"), place, sizes),
        st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=32)),
        st.tuples(st.just("copy"), place, place, sizes),
    )
    return st.lists(each, min_size=1, max_size=most).map(tuple)


def cases(seeds: Mapping[str, Seed], files: tuple[str, ...] = (), most: int = 4) -> st.SearchStrategy[Case]:
    """Return a strategy of damaged files.

    Args:
        seeds: Whole files, by name.
        files: Which of a seed's files are damaged; all by default.
        most: Changes to one file.
    """
    pairs = [(name, file) for name, seed in seeds.items() for file in seed if not files or file in files]
    return st.builds(lambda pair, made: Case(*pair, made), st.sampled_from(pairs), changes(most))


def damaged(seeds: Mapping[str, Seed], case: Case) -> Seed:
    """Return the files of a case."""
    files = dict(seeds[case.seed])
    files[case.file] = changed(files[case.file], case.changes)
    return files


_WEIRD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        255,
        1 << 16,
        1 << 31,
        1 << 63,
        10**40,
        -(1 << 70),
        0.0,
        -0.0,
        0.5,
        1e-320,
        1e308,
    ),
    *(
        float("inf"),
        float("nan"),
        "",
        " ",
        "x",
        "0",
        "1e3",
        "\x00",
        "\x1b[31m",
        "\ud800",
        "ü",
        "../../x",
        "/",
        "x" * 5000,
    ),
    *([], {}, [[]], [1, 2], [0, 0], ["a"], {"a": 1}, [None] * 4, [1e9] * 4, [-5.0] * 4),
)
"""Values that are wrong in most places."""


def values(most: int = 2) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    """Return a strategy of replaced values in nested dictionaries and lists; see `revalued`."""
    which = st.integers(0, 1 << 12).map(lambda number: number * 2_654_435_761 % 1_000_003)
    return st.lists(st.tuples(which, st.integers(-1, len(_WEIRD) - 1)), min_size=1, max_size=most).map(tuple)


def revalued(tree: Any, edits: tuple[tuple[int, int], ...]) -> Any:
    """Replace values.

    Args:
        tree: Nested dictionaries and lists; it is not changed.
        edits: Which value, counted over all of them and around again, and a number in the list of weird ones; -1
            takes it away.
    """
    made = copy.deepcopy(tree)
    for which, weird in edits:
        places = list(_places_in(made))
        if not places:
            break
        owner, key = places[which % len(places)]
        if weird < 0:
            del owner[key]
        else:
            owner[key] = copy.deepcopy(_WEIRD[weird])
    return made


def _places_in(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places_in(value)


def fuzz(worker: Reader, target: str, seeds: Mapping[str, Seed], strategy: Any, make: Any, count: int) -> None:
    """Look for a file that makes a target fail; hypothesis then shows the smallest that it finds.

    In CI the same `count` files each time. With $EDGE_FUZZ_SECONDS, others each time until this target's share of
    that time is up.

    Args:
        worker: What reads them.
        target: One of `worker.TARGETS`.
        seeds: Whole files: these must be read without fault.
        strategy: Of whatever `make` takes.
        make: From one example of the strategy to the files.
        count: Files in CI; also this target's share of the time.
    """
    for name, seed in seeds.items():
        assert worker.check(target, seed) == "read", name
    budget = seconds()
    rounds = 0
    end = time.monotonic() + (0.0 if budget is None else budget * count / SHARES)
    common = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    while True:

        @settings(max_examples=count, derandomize=budget is None, phases=phases, print_blob=False, **common)
        @given(example=strategy)
        def run(example: Any) -> None:
            worker.check(target, make(example))

        if budget is None:
            run()
            break
        rounds += 1
        seeded(time.time_ns() + rounds)(run)()
        if time.monotonic() >= end:
            break
    print(f"{target}: {worker.cases} files, {worker.outcomes}")


SHARES = 1000
"""Sum of all targets' counts; tests/fuzz/test_fuzz.py says how they are spread."""
