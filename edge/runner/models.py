"""A model of the configuration, with its interpreters."""

from __future__ import annotations

import logging
import os
import re
import threading
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from edge import selftest
from edge.backends.litert import MOST_THREADS
from edge.bundled import default_model
from edge.classifier import Classifier
from edge.config.schema import CameraConfig, ModelConfig
from edge.detector import Detector
from edge.engine import Job, Pool
from edge.errors import EdgeError, InputError
from edge.loader import LoadedModel, load_model
from edge.pipeline import result_of
from edge.result import Result
from edge.runner.status import INVOKE_BOUNDS_MS, ModelStatus
from edge.spec.labels import pick_classes
from edge.spec.resolve import Overrides
from edge.zoo.cache import find_model

log = logging.getLogger(__name__)

Member = Detector | Classifier
Look = Callable[[Member, Job], Result]
T = TypeVar("T")

_OPTION = re.compile(r"(?<!\S)--([a-z][a-z-]*)")


class Model:
    """One model in several interpreters, each of which has made a first pass.

    Attributes:
        name: As the configuration calls it.
        config: Its section.
        labels: Class names by class index.
        pool: The interpreters, for lanes.
        plan: How many interpreters there are, and how many threads each has.
    """

    def __init__(self, name: str, config: ModelConfig, frames: int) -> None:
        """Load the interpreters, and let each look at a grey picture.

        Args:
            name: As the configuration calls it.
            config: Its section.
            frames: How many there may be at the same time: more interpreters than that would never work.

        Raises:
            ModelFileError: The file is missing or broken, or does not say what it is.
            BackendError: The runtime or the delegate failed, or the self-test did.
        """
        self.name = name
        self.config = config
        self.path = default_model() if config.path is None else find_model(Path(config.path))
        self.signature = file_signature(self.path)
        self.plan = plan(config, frames)
        self._members = self.load(self.plan, verify=config.verify)
        self.labels = self._members[0].spec.labels
        self.pool = Pool(self._members)
        self._lock = threading.Lock()
        self._counts = [0] * (len(INVOKE_BOUNDS_MS) + 1)
        self._sum_ms = 0.0

    def load(self, plan: tuple[int, int], verify: bool = False) -> list[Member]:
        """Return new interpreters: how many and with how many threads as `plan` says.

        Raises:
            EdgeError: As `__init__`.
        """
        interpreters, threads = plan
        return [self._load(threads, verify=verify and not number) for number in range(interpreters)]

    def replace(self, plan: tuple[int, int], members: list[Member]) -> None:
        """Have other interpreters do the work from now on; called under the engine's lock."""
        self.plan, self._members = plan, members
        self.pool.replace(members)

    def _load(self, threads: int, verify: bool) -> Member:
        config = self.config
        overrides = Overrides(
            decoder=config.decoder,
            labels=None if config.labels is None else Path(config.labels),
            input_range=config.input_range,
            color=config.color,
            resize=config.resize,
            layout=config.layout,
        )
        try:
            loaded: LoadedModel = load_model(self.path, overrides, threads, config.delegate, config.fallback)
        except EdgeError as error:
            # What are options of a command elsewhere are keys of the file here.
            raise type(error)(_OPTION.sub(lambda option: option[1].replace("-", "_"), str(error))) from error
        if verify:
            selftest.verify(loaded, config.delegate).require(loaded.path)
        member: Member = Classifier(loaded) if loaded.spec.task == "classify" else Detector(loaded)
        grey = np.full((64, 64, 3), 127, np.uint8)
        if isinstance(member, Detector):
            member.detect(grey)
        else:
            member.classify(grey)
        return member

    def looker(self, camera: str, config: CameraConfig) -> Look:
        """Return what looks at the frames of a camera, with its limits.

        Raises:
            InputError: A limit is out of range, or a class is not one of the model's.
        """
        member = self._members[0]
        try:
            wanted = pick_classes(config.classes or [], self.labels, "classes")
            if isinstance(member, Classifier):
                return self._classify
            limits = member.limits(config.conf, config.iou, config.max_det, wanted, config.agnostic)
        except InputError as error:
            raise InputError(f"cameras.{camera}: {error}") from error

        def detect(member: Member, job: Job) -> Result:
            assert isinstance(member, Detector)
            found, stage_ms = member.detect(job.frame.image, limits)
            self._count(stage_ms["invoke"])
            return result_of(job, found, stage_ms, member.backend.failure is not None)

        return detect

    def _classify(self, member: Member, job: Job) -> Result:
        assert isinstance(member, Classifier)
        found, stage_ms = member.classify(job.frame.image)
        self._count(stage_ms["invoke"])
        return result_of(job, found, stage_ms, member.backend.failure is not None)

    def _count(self, invoke_ms: float) -> None:
        with self._lock:
            self._counts[bisect_left(INVOKE_BOUNDS_MS, invoke_ms)] += 1
            self._sum_ms += invoke_ms

    @property
    def summary(self) -> str:
        """The file, what runs it, and how often: "edge-yolo-n.tflite, LiteRT 2.3.0, CPU, 1 thread, 2 interpreters"."""
        count = self.plan[0]
        return f"{self.path.name}, {self._members[0].backend.description}, {count} interpreter{'s' * (count > 1)}"

    def status(self) -> ModelStatus:
        """Return what is known of it."""
        failures = [member.backend.failure for member in self._members if member.backend.failure is not None]
        with self._lock:
            counts, total_ms = tuple(self._counts), self._sum_ms
        return ModelStatus(
            name=self.name,
            path=str(self.path),
            description=self._members[0].backend.description,
            interpreters=len(self._members),
            failure=failures[0] if failures else None,
            invocations=sum(counts),
            stuck_s=self.pool.longest_s(),
            invoke_ms=counts,
            invoke_sum_ms=total_ms,
        )


def plan(config: ModelConfig, frames: int) -> tuple[int, int]:
    """Return how many interpreters a model gets, and how many threads each.

    With "auto" an accelerator gets one interpreter; on the CPU several cameras, or a file, share as many of one thread
    as there are cores, since frames side by side scale better than threads inside one frame, and a single live camera
    gets one interpreter with several threads, since it has no second frame to work on.

    Args:
        config: The model's section.
        frames: How many there may be at the same time.
    """
    cores = len(os.sched_getaffinity(0))
    if config.interpreters != "auto":
        interpreters = config.interpreters
    elif config.delegate != "cpu":
        interpreters = 1
    else:
        interpreters = max(1, min(cores, frames))
    if config.threads != "auto":
        threads = config.threads
    else:
        threads = max(1, min(MOST_THREADS, cores // interpreters))
    return interpreters, threads


def file_signature(path: Path) -> tuple[int, int]:
    """Return what changes when a file is replaced: its size and the time of its last change in nanoseconds."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
