"""An int8 that keeps its accuracy: repairs for a model that naive quantisation ruins.

`rescue` applies named steps, `rescue_auto` tries them in order of cost until a measurement is passed. Both give the
bytes of a `.tflite`, the spec that fits it (a step may rename outputs) and a record of what was done. What each step
brought on real models is in docs/quantisation.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from convert.loaded import LoadedModel
from convert.quantize import Samples
from convert.rescue.finetune import Plan
from convert.rescue.state import State
from convert.rescue.steps import STEPS, Step
from edge.errors import InputError
from edge.spec import ModelSpec

__all__ = ["STEPS", "Judge", "Plan", "Rescued", "Step", "Trial", "Verdict", "rescue", "rescue_auto"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What a measurement says of a model.

    Attributes:
        value: The number that was measured, larger is better.
        passed: Whether it is good enough, so that no more needs to be tried.
        rank: What decides between models of which none is good enough, larger is better; the value where it is empty.
        why: Why it is good enough, or not, in a line.
    """

    value: float
    passed: bool
    rank: tuple[float, ...] = ()
    why: str = ""

    def better_than(self, other: Verdict) -> bool:
        """Whether it is the one to keep."""
        return self.passed or (self.rank, self.value) > (other.rank, other.value)


Judge = Callable[[bytes, ModelSpec], Verdict]
"""Measures a `.tflite` (without metadata) that the spec describes."""


@dataclass(frozen=True)
class Trial:
    """One step that was tried.

    Attributes:
        step: A key of `STEPS`.
        did: What it did, in a line; or why it cannot be applied.
        value: What was measured with it and all before it; None where nothing was, or the step cannot be applied.
        why: Why the search stopped there, or went on.
    """

    step: str
    did: str
    value: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Rescued:
    """A quantised model.

    Attributes:
        content: The `.tflite`, without metadata.
        spec: What it says about itself: the given one, with the decoder's outputs as they are now.
        steps: The steps that it went through.
        trials: Every step that was tried, in order.
        verdict: What was measured of it; None where nothing was.
    """

    content: bytes
    spec: ModelSpec
    steps: tuple[str, ...]
    trials: tuple[Trial, ...]
    verdict: Verdict | None = None


def rescue(
    model: LoadedModel, samples: Samples, steps: Sequence[str], io: str = "int8", plan: Plan | None = None
) -> Rescued:
    """Quantise a model to int8 with repairs.

    Args:
        model: What to convert.
        samples: Typical inputs; a hundred do for all steps but fine-tuning, which uses up to `state.MAX_PICTURES`.
        steps: Keys of `STEPS`; they are applied in the table's order, whatever the order here.
        io: Type of input and outputs: "int8", "uint8" or "float32".
        plan: How to fine-tune.

    Raises:
        InputError: A step is unknown, or cannot be applied to this model; or there are no pictures.
    """
    check_steps(steps)
    state = State(model, samples, plan or Plan())
    trials = tuple(Trial(name, _apply(name, state)) for name in STEPS if name in steps)
    return Rescued(state.content(io), state.spec, tuple(trial.step for trial in trials), trials)


def rescue_auto(
    model: LoadedModel,
    samples: Samples,
    judge: Judge,
    io: str = "int8",
    mixed: bool = False,
    plan: Plan | None = None,
) -> Rescued:
    """Quantise a model to int8, adding repairs in order of cost until a measurement is passed.

    Args:
        model: What to convert.
        samples: As for `rescue`.
        judge: Measures a candidate.
        io: Type of input and outputs: "int8", "uint8" or "float32".
        mixed: Whether layers may stay float; only CPUs run such a model.
        plan: How to fine-tune.

    Returns:
        The first that passed; else the best one, whose `verdict.passed` is false.

    Raises:
        InputError: There are no pictures, or not even the graph can be read.
    """
    state = State(model, samples, plan or Plan())
    done: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    best: Rescued | None = None
    for name, step in STEPS.items():
        if not step.auto or not (step.integer or mixed):
            continue
        attempt = state.copy()
        try:
            did = _apply(name, attempt)
        except InputError as error:
            trials += (Trial(name, str(error)),)
            continue
        state, done = attempt, (*done, name)
        content = state.content(io)
        verdict = judge(content, state.spec)
        trials += (Trial(name, did, verdict.value, verdict.why),)
        log.info("%s: %s; measured %.4f; %s", name, did, verdict.value, verdict.why)
        if best is None or best.verdict is None or verdict.better_than(best.verdict):
            best = Rescued(content, state.spec, done, trials, verdict)
        if verdict.passed:
            break
    if best is None:
        raise InputError(f"{model.spec.name} cannot be rescued: {trials[-1].did}")
    return replace(best, trials=trials)


def check_steps(steps: Sequence[str]) -> None:
    """Check names of steps.

    Raises:
        InputError: One is unknown.
    """
    for name in steps:
        if name not in STEPS:
            raise InputError(f"unknown step {name!r}; expected some of {', '.join(STEPS)}")


def _apply(name: str, state: State) -> str:
    did = STEPS[name].apply(state)
    log.debug("%s: %s", name, did)
    return did
