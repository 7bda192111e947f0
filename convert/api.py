"""`convert_model`: from a trained model to a finished, self-describing `.tflite`."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.calibration import CalibrationImages
from convert.demand import Demand, check_demand, pass_gate
from convert.edgetpu import Compiled, compile_model
from convert.edgetpu.compiler import PROGRAM, compiled_path
from convert.gate import REJECTED_SUFFIX, doubt, sound
from convert.gate_data import GateData, open_gate_data
from convert.loaded import LoadedModel
from convert.quantize import check_mode
from convert.repair import AUTO, Repairs, check_repairs, more_pictures, repair, with_outputs_of
from convert.rescue import Plan, Trial
from convert.selftest import embed_selftest
from convert.target import TARGETS, Choice, check_target_io
from convert.variants import Variants
from convert.verdicts import Report
from convert.writer import check_target, write_model
from edge.backends.partitions import Partitions, partitions
from edge.classifier import Classifier
from edge.detector import Detector
from edge.errors import GateError, InputError, OutputError
from edge.frame import Image
from edge.loader import load_model
from edge.sources.images import read_image
from edge.spec import ConversionRecord, ModelSpec
from edge.tensor import TensorInfo

_TRIAL_IMAGES = 8
"""Pictures to try a model on, of those that it is calibrated on or of noise."""


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        path: The file.
        size_bytes: Its size, metadata included.
        spec: What it says about itself.
        input: Its input tensor.
        outputs: Its output tensors.
        partitions: How its graph falls into XNNPACK partitions on this machine.
        choice: Why this mode; None where it was named.
        forecast: Which operators the target runs; None where it runs all.
        compiled: The file for the Edge TPU; None for another target, and where the compiler is not installed.
        tried: Repairs that were tried, in order.
        notes: What the user should know, a line each.
    """

    path: Path
    size_bytes: int
    spec: ModelSpec
    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    partitions: Partitions
    choice: Choice | None
    forecast: Report | None
    compiled: Compiled | None
    tried: tuple[Trial, ...]
    notes: tuple[str, ...]


def convert_model(
    load: Callable[[], LoadedModel],
    out: Path,
    mode: str = "float32",
    calibrate: Path | None = None,
    io: str | None = None,
    force: bool = False,
    target: str | None = None,
    demand: Demand | None = None,
    rescue: tuple[str, ...] = (),
    rescue_minutes: float | None = None,
    selftest_pictures: bool = True,
) -> Conversion:
    """Load a model, quantise it, measure what that cost, and write it with its metadata.

    The finished file is loaded as `edge detect` or `edge classify` would load it before it gets its name, so that a
    file that does not run is never left behind.

    Args:
        load: Gives the model, see `convert.load`; not called when the arguments cannot work.
        out: The file to write.
        mode: A key of `convert.quantize.MODES`; not read with a target.
        calibrate: Folder of typical pictures, for a mode that needs them; None for those of `demand`.
        io: Type of input and outputs, see `Mode.io`; None for the mode's default.
        force: Whether an existing file may be replaced.
        target: A key of `convert.target.TARGETS`, which chooses the mode.
        demand: What the written model must keep; None not to measure.
        rescue: Repairs of an int8 model, see `convert.repair.Repairs`.
        rescue_minutes: What fine-tuning may take; None for as long as it needs, 0 to leave it out of AUTO.
        selftest_pictures: Whether calibration pictures may become part of the file.

    Returns:
        What was written.

    Raises:
        InputError: An argument is unusable (see `quantize`, `CalibrationImages`, `open_gate_data` and `write_model`).
        SpecError: The metadata contradicts the graph.
        GateError: The model lost more than `demand` allows; it was kept aside under another name.
        EdgeError: The written model does not run; nothing was left behind.
    """
    check_target(out, force)
    compiles = target == "edgetpu" and shutil.which(PROGRAM) is not None
    if compiles:
        check_target(compiled_path(out), force)
    if demand is not None:
        check_demand(demand, force)
    folder, origin = _calibration_folder(calibrate, demand)
    if target is None:
        row, io = check_mode(mode, io, folder is not None)
        calibrated = row.calibrated
    else:
        io, calibrated = check_target_io(target, io, folder is not None)
    if rescue:
        ending = mode if target is None else TARGETS[target].ending
        check_repairs(rescue, ending, target, demand is not None, rescue_minutes)
    elif rescue_minutes is not None:
        raise InputError("--rescue-minutes bounds the training among the repairs; add --rescue auto")
    model = load()
    data = None if demand is None else open_gate_data(demand.data, demand.annotations, model.spec)
    samples = None
    if folder is not None and (calibrated or (demand is not None and demand.report is not None)):
        samples = CalibrationImages(folder, model.spec.input, model.input_shape)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as temporary:
        variants = Variants(model, samples, Path(temporary))
        choice = None
        if target is not None:
            choice = TARGETS[target].choose(variants, _trial_images(model, data, samples))
            mode = choice.mode
        pictures = samples.files if samples is not None and calibrated else []
        record = ConversionRecord.model_validate({"target": target, "calibration_images": len(pictures)})
        candidate = variants.candidate(mode, io, record)
        repairs = None
        if rescue and folder is not None:
            repairs = Repairs(rescue, more_pictures(folder, model), io, Plan(minutes=rescue_minutes))
        if repairs is not None and repairs.steps != (AUTO,):
            candidate, repairs = repair(model, candidate, repairs), None
        tried: tuple[Trial, ...] = ()
        no_report = None
        if demand is not None and data is not None:
            try:
                candidate, tried, no_report = pass_gate(variants, candidate, demand, data, out, repairs)
            except GateError as error:
                raise _with_choice(error, choice, data) from error
        shown = pictures if selftest_pictures else []
        content = embed_selftest(candidate.content, with_outputs_of(candidate, model), candidate.spec, shown)
    notes: tuple[str, ...] = (origin,) if origin and calibrated else ()
    if data is not None and data.labels is None:
        notes += ("agreement with the float model is a weaker measure than accuracy, which needs labels",)
    if shown:
        notes += ("its self-test shows parts of calibration pictures; --no-selftest-pictures draws some instead",)
    if candidate.record.gate is not None and not sound(candidate.record.gate):
        notes += (doubt(candidate.record.gate, bool(tried)),)
    facts = _write(out, content, force)
    with contextlib.suppress(OSError):  # an earlier try's; whatever else has the name stays
        out.with_name(out.name + REJECTED_SUFFIX).unlink()
    if no_report is not None:
        raise OutputError(f"{no_report}; {out} was written")
    predict = TARGETS[target].check if target is not None else None
    forecast = predict(candidate.content) if predict is not None else None
    compiled = compile_model(out, force) if compiles else None
    return Conversion(out, len(content), *facts, choice, forecast, compiled, tried, notes)


def _with_choice(error: GateError, choice: Choice | None, data: GateData) -> GateError:
    """Add to a refusal what nobody asked for by name: the mode, and how the loss was measured."""
    said = str(error)
    if data.labels is None:
        said += "; without labels the measure is the agreement with the float model, a weaker one"
    return GateError(said if choice is None else f"{said} (chosen: {choice.mode}, {choice.reason})")


def _write(out: Path, content: bytes, force: bool) -> tuple[ModelSpec, TensorInfo, tuple[TensorInfo, ...], Partitions]:
    """Write the file; return what it says about itself, its input, its outputs and its partitions."""
    report: list[tuple[ModelSpec, TensorInfo, tuple[TensorInfo, ...], Partitions]] = []

    def check(path: Path) -> None:
        loaded = load_model(path, threads=1)
        (Detector if loaded.spec.task == "detect" else Classifier)(loaded)
        report.append((loaded.spec, loaded.backend.input, loaded.backend.outputs, partitions(path)))
        loaded.backend.close()

    write_model(out, content, force, check)
    return report[0]


def _calibration_folder(calibrate: Path | None, demand: Demand | None) -> tuple[Path | None, str]:
    """Return where calibration pictures come from, and a note where nobody named the folder."""
    if calibrate is not None or demand is None or not demand.data.is_dir():
        return calibrate, ""
    if (train := demand.data / "train").is_dir():
        return train, f"calibrated on {train}; --calibrate DIR takes others"
    flattered = "calibrated on the pictures that it is measured on, which flatters it: give others with --calibrate DIR"
    return demand.data, flattered


def _trial_images(model: LoadedModel, data: GateData | None, samples: CalibrationImages | None) -> list[Image]:
    """Return a few pictures to try a model on: real ones where there are some, else coloured noise."""
    if data is not None:
        return data.some()
    if samples is not None:
        return [read_image(file) for file in samples.files[:_TRIAL_IMAGES]]
    _, height, width, _ = model.input_shape
    return list(np.random.default_rng(0).integers(0, 256, (_TRIAL_IMAGES, height, width, 3), np.uint8))
