"""A whole measurement: loads what is compared, takes turns, and makes the report of whatever was measured so far."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import edge
from edge.backends.runtime import runtime
from edge.benchmark import cold, document, profile, rows, stats
from edge.benchmark import environment as surroundings
from edge.benchmark.clip import write_clip
from edge.benchmark.environment import Environment, Load
from edge.benchmark.feed import Reel
from edge.benchmark.measure import SINKS, Limit, Turn, invoke_turn, overlapping_turn, sequential_turn
from edge.benchmark.plan import Plan
from edge.benchmark.rounds import interleaved, share
from edge.benchmark.subject import Subject, interpreters
from edge.benchmark.sustained import Recorder, summary
from edge.benchmark.variant import Variant
from edge.device import DeviceReadings, read_device
from edge.errors import BackendError, EdgeError
from edge.pipeline import Infer
from edge.sinks import Sink


class Measurement:
    """A measurement that goes on; `report` may be asked for at any time, also after it was interrupted."""

    def __init__(self, plan: Plan, progress: Callable[[str], None] = lambda text: None) -> None:
        """Prepare.

        Args:
            plan: What to measure.
            progress: Told what is done next.

        Raises:
            InputError: The plan has a number that is out of range.
        """
        plan.check()
        self.plan = plan
        self._progress = progress
        self._created = datetime.now(UTC).isoformat(timespec="seconds")
        self._subjects: dict[str, Subject] = {}
        self._problems: dict[str, str] = {}
        self._warm_ms: dict[str, list[float]] = {}
        self._turns: dict[str, dict[str, list[Turn]]] = {}
        self._cold: dict[str, dict[str, Any]] = {}
        self._profiles: dict[str, dict[str, Any]] = {}
        self._recorder: Recorder | None = None
        self._source: dict[str, Any] = {}
        self._before: Load | None = None
        self._times = surroundings.read_times()
        self._device: DeviceReadings = read_device()
        self._switches = 0
        self._invoke_s = 0.0
        self._done = False

    def run(self) -> None:
        """Measure.

        Raises:
            EdgeError: Nothing can be measured: the source or every model is of no use.
            KeyboardInterrupt: The user wants no more; `report` has what there is.
        """
        plan = self.plan
        with ExitStack() as stack:
            # Before any model is loaded: what is found here is not our doing.
            self._progress("looking at what else runs")
            if plan.idle_s:
                self._before = surroundings.idle_load(plan.idle_s)
            self._times = surroundings.read_times()
            reel = stack.enter_context(_Closing(self._reel(stack)))
            image = reel.next().image
            self._source["size_wh"] = [image.shape[1], image.shape[0]]
            self._load(stack, image)
            sinks = {key: SINKS[plan.sink](subject.spec.labels) for key, subject in self._subjects.items()}
            self._rounds(reel, sinks)
            if plan.starts:
                self._start_cold()
            if plan.profile:
                self._profile()
            if plan.minutes:
                self._sustain(reel, sinks)
        self._done = True

    def _reel(self, stack: ExitStack) -> Reel:
        uri = self.plan.source
        if uri is None:
            self._progress("making a clip")
            uri = str(write_clip(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-benchmark-")))))
        reel = Reel(uri)
        name = "synthetic clip" if self.plan.source is None else reel.name
        self._source = {"name": name, "synthetic": self.plan.source is None, "fps": reel.fps, "size_wh": None}
        return reel

    def _load(self, stack: ExitStack, image: Any) -> None:
        first: EdgeError | None = None
        for variant in self.plan.variants:
            self._progress(f"loading {variant.key}")
            try:
                subject = Subject(variant, self.plan.overrides, image)
                stack.callback(subject.close)
                warm = [subject.invoke() for _ in range(self.plan.warmup)]
            except EdgeError as error:
                first = first or error
                self._problems[variant.key] = str(error)
                continue
            self._subjects[variant.key] = subject
            self._warm_ms[variant.key] = warm
            self._turns[variant.key] = {mode: [] for mode in self.plan.modes}
        if not self._subjects and first is not None:
            raise first

    def _rounds(self, reel: Reel, sinks: dict[str, Sink]) -> None:
        plan = self.plan
        limit = Limit(share(plan.runs, plan.rounds), plan.seconds / plan.rounds)
        keys = list(self._subjects)
        throughput = set({self._subjects[key].variant.group: key for key in reversed(keys)}.values())
        for number, which in interleaved(len(keys), plan.rounds):
            key = keys[which]
            for mode in plan.modes:
                if key in self._problems or (mode == "throughput" and key not in throughput):
                    continue
                self._progress(f"round {number + 1} of {plan.rounds}: {key}, {mode}")
                infers = self._infers(mode, self._subjects[key])
                if infers is None:
                    continue
                # Kept before it is filled: what was measured is there when the user interrupts it.
                turn = Turn()
                self._turns[key][mode].append(turn)
                try:
                    self._take(mode, self._subjects[key], infers, reel, sinks[key], limit, turn)
                except BackendError as error:
                    # One that fails ends its own measurement, not that of the others.
                    self._problems[key] = str(error)
                    break

    def _infers(self, mode: str, subject: Subject) -> list[Infer] | None:
        return subject.several() if mode == "throughput" else [subject.infer]

    def _take(
        self, mode: str, subject: Subject, infers: list[Infer], reel: Reel, sink: Sink, limit: Limit, turn: Turn
    ) -> None:
        """Take one turn in a mode."""
        if mode == "invoke":
            switches, start = surroundings.involuntary_switches(), time.perf_counter()
            invoke_turn(subject.invoke, limit, turn)
            self._switches += surroundings.involuntary_switches() - switches
            self._invoke_s += time.perf_counter() - start
        elif mode == "sequential":
            sequential_turn(subject.infer, reel, sink, limit, turn)
        else:
            overlapping_turn(infers, reel, sink, limit, turn, self._camera_fps(reel) if mode == "live" else None)

    def _camera_fps(self, reel: Reel) -> float:
        return self.plan.fps or reel.fps or 30.0

    def _start_cold(self) -> None:
        given = asdict(self.plan.overrides)
        given["labels"] = None if given["labels"] is None else str(given["labels"])
        for key, subject in self._subjects.items():
            if key in self._problems:
                continue
            self._progress(f"starting {key} in processes of its own")
            variant = subject.variant
            job = {
                "path": str(variant.path),
                "threads": variant.threads,
                "delegate": variant.delegate,
                "size_wh": variant.size_wh,
                "overrides": given,
                "frame_wh": self._source["size_wh"],
            }
            self._cold[key] = cold.cold_starts(job, self.plan.starts)

    def _profile(self) -> None:
        for key, subject in self._subjects.items():
            self._progress(f"timing the operators of {key}")
            self._profiles[key] = profile.profile(subject.variant)

    def _sustain(self, reel: Reel, sinks: dict[str, Sink]) -> None:
        (key, subject), *_ = self._subjects.items()
        infers = subject.several() or [subject.infer]
        minutes = self.plan.minutes
        self._progress(f"{minutes:g} minutes of {key}, {len(infers)} at a time")
        self._recorder = Recorder(time.perf_counter(), read_device)
        limit = Limit(1 << 62, minutes * 60.0, skip=0)
        overlapping_turn(infers, reel, sinks[key], limit, Turn(keep=False), on_result=self._recorder.add)

    def report(self) -> dict[str, Any]:
        """Return what was measured so far, as `docs/benchmark.md` describes it."""
        around = Environment(
            surroundings.usable_cores(),
            self._before,
            surroundings.load_between(self._times, surroundings.read_times(), surroundings.usable_cores()),
            self._switches / self._invoke_s if self._invoke_s > 0.5 else None,
            surroundings.governors(),
            self._device,
            read_device(),
        )
        found = [self._row(variant) for variant in self.plan.variants]
        plan = self.plan
        return {
            "schema": document.SCHEMA,
            "schema_version": document.VERSION,
            "created": self._created,
            "edge_version": edge.__version__,
            "runtime": runtime().label,
            "complete": self._done,
            "machine": surroundings.describe_machine(),
            "environment": around.as_json(),
            "source": self._source,
            "settings": {
                "modes": list(plan.modes),
                "sink": plan.sink,
                "warmup": plan.warmup,
                "runs": plan.runs,
                "seconds": plan.seconds,
                "rounds": plan.rounds,
                "fps": plan.fps,
                "cold_starts": plan.starts,
                "minutes": plan.minutes,
            },
            "warnings": surroundings.warnings(around) + rows.doubts(found),
            "results": found,
        }

    def _row(self, variant: Variant) -> dict[str, Any]:
        key = variant.key
        subject = self._subjects.get(key)
        row: dict[str, Any] = {
            "key": key,
            "label": variant.label or variant.path.name,
            "model": str(variant.path),
            "num_threads": variant.threads,
            "delegate": variant.delegate,
            "swept_wh": None if variant.size_wh is None else list(variant.size_wh),
            "problem": self._problems.get(key),
            "latency": None,
            "modes": {},
            "cold": self._cold.get(key),
            "profile": self._profiles.get(key),
            "sustained": None,
        }
        if subject is None:
            return row
        row |= subject.facts
        if self._recorder is not None:
            row["sustained"] = {**summary(self._recorder.windows), "interpreters": interpreters(variant) or 1}
        row["latency"] = self._latency(key, subject)
        for mode, turns in self._turns[key].items():
            if mode == "throughput" and not turns:
                turns = self._shared_throughput(variant)
            if mode != "invoke" and any(turn.frames for turn in turns):
                row["modes"][mode] = rows.mode_row(turns)
        if "throughput" in row["modes"]:
            row["modes"]["throughput"]["interpreters"] = interpreters(variant)
        return row

    def _shared_throughput(self, variant: Variant) -> list[Turn]:
        """Return the turns of the variant that throughput was measured with: it does not depend on `threads`."""
        for key, subject in self._subjects.items():
            if subject.variant.group == variant.group and self._turns[key].get("throughput"):
                return self._turns[key]["throughput"]
        return []

    def _latency(self, key: str, subject: Subject) -> dict[str, Any]:
        warm = self._warm_ms[key]
        row: dict[str, Any] = {
            "init_ms": subject.init_ms,
            "warmup_first_ms": warm[0] if warm else None,
            "warmup_avg_ms": float(np.mean(warm)) if warm else None,
            "num_warmup_runs": len(warm),
        }
        turns = [turn for turn in self._turns[key].get("invoke", ()) if turn.samples_ms]
        if turns:
            row |= stats.latency([ms for turn in turns for ms in turn.samples_ms])
            row["rounds_ms"] = [float(np.median(turn.samples_ms)) for turn in turns]
            row["spread"] = stats.spread(row["rounds_ms"])
            row["cpu_ms"] = 1e3 * sum(turn.cpu_s for turn in turns) / sum(turn.frames for turn in turns)
        return row


class _Closing:
    """Closes a reel."""

    def __init__(self, reel: Reel) -> None:
        self._reel = reel

    def __enter__(self) -> Reel:
        return self._reel

    def __exit__(self, *error: object) -> None:
        self._reel.close()
