"""`edge convert`: a trained model to one self-describing `.tflite`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import options
from edge.cli.workstation import require, working
from edge.cv import require_opencv
from edge.errors import InputError, OutputError

if TYPE_CHECKING:
    from convert.api import Conversion
    from edge.spec import ConversionRecord, GateRecord

_KERAS = "Keras models"
_GATE = "What it must keep"


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Darknet .cfg, Keras .keras or .h5, or a SavedModel folder.")
    ],
    weights: Annotated[
        Path | None,
        typer.Argument(metavar="[WEIGHTS]", help="Darknet .weights; the file beside the .cfg by default."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="float32, float16, dynamic, weight-only, int8 or int16x8; float32 by default.", show_default=False
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Instead of --to: the best for cpu, gpu or edgetpu, as measured here.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; <name>_<mode>.tflite by default, or _<target>.", show_default=False),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Text file, one class name a line.", show_default=False)] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Folder of typical pictures, for int8 and int16x8; those of --data by default."),
    ] = None,
    io: Annotated[str | None, typer.Option(help="int8 only: int8, uint8 or float32 input and outputs.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures to measure the accuracy on, labelled or not.", rich_help_panel=_GATE),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="COCO instances JSON of the pictures in --data.", rich_help_panel=_GATE)
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Points of accuracy that may be lost before the file is refused; 1 by default.",
            show_default=False,
            rich_help_panel=_GATE,
        ),
    ] = None,
    rescue: Annotated[
        str,
        typer.Option(
            help="Repairs of an int8 model: auto until --max-drop is met and not by luck, none, or steps with commas.",
            rich_help_panel=_GATE,
        ),
    ] = "none",
    rescue_minutes: Annotated[
        float | None,
        typer.Option(
            help="Bound of the training among the repairs; 0 leaves it out of auto.",
            show_default=False,
            rich_help_panel=_GATE,
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML file that compares all modes.", rich_help_panel=_GATE)
    ] = None,
    size: Annotated[str | None, typer.Option(help="Input WxH in pixels, instead of the model's own.")] = None,
    selftest_pictures: Annotated[
        bool,
        typer.Option(
            "--selftest-pictures/--no-selftest-pictures",
            help="Let the self-test of int8 and int16x8 carry two small calibration pictures, or only drawn ones.",
        ),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON on stdout.")] = False,
    name: Annotated[str | None, typer.Option(help="Model name.", show_default=False)] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier or a sentence.", show_default=False)] = None,
    attribution: Annotated[str | None, typer.Option(help="Text that must travel with it.", show_default=False)] = None,
    resize: options.Resize = None,
    input_range: options.InputRange = None,
    color: options.Color = None,
    decoder: options.Decoder = None,
    anchors: Annotated[
        str | None, typer.Option(help="'w,h w,h; w,h w,h': pixels, ';' between heads.", rich_help_panel=_KERAS)
    ] = None,
    strides: Annotated[
        str | None, typer.Option(help="Strides in the order of --anchors, e.g. 8,16,32.", rich_help_panel=_KERAS)
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="JSON description; <model>.spec.json by default.", rich_help_panel=_KERAS)
    ] = None,
) -> None:
    """Convert a trained model to one .tflite that describes itself.

    The written file carries its preprocessing, decoder and labels: edge detect and edge classify run it with no flag.
    """
    require_opencv()
    require("edge convert")
    # TensorFlow reads these when it loads; its remarks would stand between ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    from edge.backends.litert import quiet_stderr

    if to is not None and target is not None:
        raise InputError("--to names a mode and --target lets one be chosen; give only one of them")
    for flag, given_for_data in (("annotations", annotations), ("report", report), ("max-drop", max_drop)):
        if data is None and given_for_data is not None:
            raise InputError(f"--{flag} needs --data, pictures to measure on")
    size_wh = options.size_wh(size)
    pairs, steps = _anchors(anchors), _strides(strides)
    to = to or "float32"
    with working(f"converting {source}" + (" and measuring" if data else "")), quiet_stderr():
        from convert.api import convert_model
        from convert.demand import Demand
        from convert.describe import Description
        from convert.load import load
        from convert.target import TARGETS

        given = Description(
            spec=spec,
            labels=labels,
            decoder=decoder,
            anchors=pairs,
            strides=steps,
            input_range=input_range,
            color=color,
            resize=resize,
            size_wh=size_wh,
            name=name,
            licence=licence,
            attribution=attribution,
        )
        ending = TARGETS[target].ending if target in TARGETS else to
        path = out or Path(f"{source.stem}_{ending}.tflite")
        _keep_inputs(path, (source, weights, source.with_suffix(".weights"), labels, spec))
        if path.suffix.lower() != ".tflite" and not path.is_dir():
            raise OutputError(f"--out {path}: expected a name that ends in .tflite")
        demand = Demand(data, annotations, 1.0 if max_drop is None else max_drop, report) if data else None
        wanted = () if rescue == "none" else tuple(rescue.split(","))
        done = convert_model(
            lambda: load(source, weights, given),
            path,
            to,
            calibrate,
            io,
            force,
            target,
            demand,
            wanted,
            rescue_minutes,
            selftest_pictures,
        )
    if as_json:
        typer.echo(json.dumps(_facts(done), indent=2))
    else:
        _show(source, done, report)


def _keep_inputs(target: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse an output that is one of the inputs, which --force must not destroy."""
    for path in inputs:
        if path is not None and target.exists() and path.exists() and target.samefile(path):
            raise InputError(f"{target} is an input itself; give another name with --out")


def _anchors(text: str | None) -> tuple[tuple[tuple[float, float], ...], ...] | None:
    if text is None:
        return None
    try:
        heads = [[float(value) for value in re.split(r"[,\s]+", head.strip())] for head in text.split(";")]
    except ValueError:
        heads = [[]]
    if any(not head or len(head) % 2 or min(head) <= 0 for head in heads):
        raise InputError(f"--anchors {text!r}: expected pairs like '10,13 16,30 33,23; 30,61 62,45 59,119'")
    return tuple(tuple(zip(head[::2], head[1::2], strict=True)) for head in heads)


def _strides(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise InputError(f"--strides {text!r}: expected numbers of pixels like 8,16,32")
    return tuple(int(value) for value in text.split(","))


def _facts(done: Conversion) -> dict[str, Any]:
    return {
        "file": str(done.path),
        "bytes": done.size_bytes,
        "mode": done.spec.quantization,
        "operators": done.partitions.operators,
        "delegated": done.partitions.delegated,
        "partitions": done.partitions.partitions,
        "calibration_images": _record(done).calibration_images,
        "chosen": None if done.choice is None else {"reason": done.choice.reason, "ms": done.choice.ms},
        "mapped": None if done.forecast is None else {"target": done.forecast.mapped, "cpu": done.forecast.on_cpu},
        "commands": list(_commands(done)),
        "compiled": None if done.compiled is None else str(done.compiled.path),
        "tried": [asdict(trial) for trial in done.tried],
        "notes": list(done.notes),
        "spec": done.spec.model_dump(mode="json", exclude_none=True),
    }


def _record(done: Conversion) -> ConversionRecord:
    assert done.spec.conversion is not None  # every file that edge convert writes has it
    return done.spec.conversion


def _show(source: Path, done: Conversion, report: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    spec, image = done.spec, done.input
    table.add_row("input", str(source))
    table.add_row("output", f"{done.path} ({done.size_bytes:,} bytes)")
    table.add_row("model", f"{spec.name}: {spec.task}, decoder {spec.decoder.name}, {_labels(len(spec.labels))}")
    record = _record(done)
    table.add_row("mode", f"{spec.quantization}" + _calibrated(record.calibration_images))
    if done.choice is not None:
        table.add_row("target", escape(f"{record.target}: {done.choice.reason}"))
    for trial in done.tried:
        value = "not applied" if trial.value is None else f"{trial.value:.4f}"
        table.add_row("rescue", escape(": ".join(filter(None, (trial.step, trial.did, value, trial.why)))))
    if record.steps:
        table.add_row("repaired", ", ".join(record.steps))
    if record.gate is not None:
        table.add_row("accuracy", escape(_gate(record.gate)))
    table.add_row("takes", f"{_tensor(image)}, {spec.input.color}, {spec.input.resize}")
    for info in done.outputs:
        table.add_row("gives", f"{info.name}: {_tensor(info)}")
    table.add_row("graph", str(done.partitions))
    for name, line in _target_lines(done):
        table.add_row(name, escape(line))
    if report is not None:
        table.add_row("report", escape(str(report)))
    for note in done.notes:
        table.add_row("note", escape(note))
    console = Console(stderr=True, highlight=False)
    console.print(table)
    if commands := _commands(done):
        console.print("edgetpu_compiler is not installed here; on an x86-64 machine that has it run:")
        for command in commands:
            console.print(f"  {command}", markup=False, soft_wrap=True)  # whole, to be copied


def _target_lines(done: Conversion) -> Iterator[tuple[str, str]]:
    """Give what the target will make of the file, as (name, line)."""
    if done.forecast is None:
        return
    yield "forecast", str(done.forecast)
    on_cpu: dict[str, list[str]] = {}
    for row in done.forecast.rows:
        if row.verdict == "cpu":
            on_cpu.setdefault(row.reason, []).append(row.op)
    for reason, operators in on_cpu.items():
        names = ", ".join(dict.fromkeys(operators))
        yield "", f"{len(operators)} on the CPU ({names}): {reason}"
    for line in (*done.forecast.doubts, *done.forecast.advice):
        yield "", line
    if done.compiled is not None:
        log = done.compiled.log
        mapped = f"{log.mapped} operators on the Edge TPU, {log.on_cpu} on the CPU, {log.subgraphs} parts"
        yield "compiled", f"{done.compiled.path}: {mapped}; {done.path} must stay beside it"


def _commands(done: Conversion) -> tuple[str, ...]:
    """Return what is left to do by hand: compiling for the Edge TPU where the compiler is."""
    if _record(done).target != "edgetpu" or done.compiled is not None:
        return ()
    from convert.edgetpu import by_hand

    return by_hand(done.path)


def _gate(gate: GateRecord) -> str:
    lost = f"{gate.drop:.2f} points lost" if gate.drop > 0 else "nothing lost"
    return (
        f"{gate.metric} {gate.value:.4f}, in float {gate.reference:.4f}: {lost}, {gate.max_drop:g} allowed "
        f"({gate.dataset}, {gate.images} pictures)"
        + ("" if gate.agreement is None else f", agreement with float {gate.agreement:.3f}")
    )


def _labels(count: int) -> str:
    return f"{count} labels" if count else "no labels (--labels FILE)"


def _calibrated(images: int) -> str:
    return f", calibrated on {images} pictures" if images else ""


def _tensor(info: Any) -> str:
    quantized = f", scale {info.scale:.6g} zero {info.zero_point}" if info.quantized else ""
    return f"{info.dtype} {' x '.join(map(str, info.shape))}{quantized}"
