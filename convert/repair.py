"""Repairs of an int8 model, as `edge convert --rescue` asks for them; the steps themselves are in `convert.rescue`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convert.calibration import CalibrationImages
from convert.candidate import Candidate
from convert.gate import Gate, explained, passed, rank, sound
from convert.loaded import LoadedModel, freeze
from convert.quantize import quantize
from convert.rescue import STEPS, Plan, Rescued, Trial, Verdict, check_steps, rescue, rescue_auto
from convert.rescue.heads import split_heads
from convert.rescue.network import Network
from convert.rescue.simulate import forward, named_outputs
from convert.rescue.state import MAX_PICTURES
from convert.variants import Variants
from edge.errors import InputError
from edge.spec import ModelSpec

AUTO = "auto"


@dataclass(frozen=True)
class Repairs:
    """What may be done to a model.

    Attributes:
        steps: Keys of `convert.rescue.STEPS`; (AUTO,) to try them until the gate is passed.
        pictures: Typical ones.
        io: Type of input and outputs.
        plan: How to fine-tune.
    """

    steps: tuple[str, ...]
    pictures: CalibrationImages
    io: str
    plan: Plan = Plan()


def check_repairs(
    steps: Sequence[str], mode: str, target: str | None, measures: bool, minutes: float | None = None
) -> None:
    """Check before the work begins that repairs make sense.

    Args:
        steps: See `Repairs`.
        mode: The quantisation.
        target: The target, if one was named.
        measures: Whether the accuracy will be measured.
        minutes: What fine-tuning may take, if that is bounded.

    Raises:
        InputError: They do not.
    """
    if mode != "int8":
        raise InputError(f"--rescue repairs int8 models, not {mode}; add --to int8 or --target edgetpu")
    if minutes is not None and not 0 <= minutes < math.inf:
        raise InputError(f"--rescue-minutes {minutes:g}: expected minutes from 0 on")
    if tuple(steps) == (AUTO,):
        if not measures:
            raise InputError("--rescue auto measures what each step brings and needs --data, pictures to measure on")
        return
    check_steps(steps)
    mixed = [step for step in steps if not STEPS[step].integer]
    if target is not None and mixed:
        raise InputError(f"--rescue {mixed[0]} leaves layers in float, which the target {target} cannot run")


def more_pictures(folder: Path, model: LoadedModel) -> CalibrationImages:
    """Return as many pictures as repairs make use of."""
    return CalibrationImages(folder, model.spec.input, model.input_shape, MAX_PICTURES)


def repair(model: LoadedModel, candidate: Candidate, repairs: Repairs) -> Candidate:
    """Return a candidate that went through the named steps.

    Raises:
        InputError: A step cannot be applied to this model.
    """
    return _repaired(candidate, rescue(model, repairs.pictures, repairs.steps, repairs.io, repairs.plan), repairs)


def repair_until(
    variants: Variants, candidate: Candidate, gate: Gate, repairs: Repairs
) -> tuple[Candidate, tuple[Trial, ...]]:
    """Try repairs in order of cost until the gate is passed, and not by luck: see `convert.gate.sound`.

    Layers may stay float where input and outputs are: only CPUs take such a file.

    Returns:
        The first candidate that needs no more, else the best one; and what was tried.

    Raises:
        InputError: No step can be applied to this model.
    """

    def judge(content: bytes, spec: ModelSpec) -> Verdict:
        source = spec.model_copy(update={"quantization": candidate.mode})
        measured, verdict = gate.judge(variants.file(content, source))
        return Verdict(measured.value, passed(verdict) and sound(verdict), rank(verdict), explained(verdict))

    mixed = repairs.io == "float32"
    done = rescue_auto(variants.model, repairs.pictures, judge, repairs.io, mixed, repairs.plan)
    return _repaired(candidate, done, repairs), done.trials


def _repaired(candidate: Candidate, done: Rescued, repairs: Repairs) -> Candidate:
    pictures = len(repairs.pictures.files)
    return replace(
        candidate,
        content=done.content,
        source=done.spec.model_copy(update={"quantization": candidate.mode}),
        record=candidate.record.model_copy(update={"steps": done.steps, "calibration_images": pictures}),
    )


def with_outputs_of(candidate: Candidate, model: LoadedModel) -> LoadedModel:
    """Return the float model with the outputs that a repaired one has, to compare them one by one."""
    if candidate.source.decoder.outputs == model.spec.decoder.outputs:
        return model
    network = Network.parse(quantize(model, "float32"))
    network.own_constants()
    names, spec = split_heads(network, model.output_names, model.spec)
    graph = freeze(
        lambda image: list(named_outputs(network, names, forward(network, image)).values()), model.input_shape
    )
    return LoadedModel(graph, names, spec)
