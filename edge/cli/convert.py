"""`edge convert`: a trained model to one self-describing `.tflite`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import options
from edge.cli.workstation import require, working
from edge.cv import require_opencv
from edge.errors import InputError

if TYPE_CHECKING:
    from convert.api import Conversion

_KERAS = "Keras models"


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Darknet .cfg, Keras .keras or .h5, or a SavedModel folder.")
    ],
    weights: Annotated[
        Path | None,
        typer.Argument(metavar="[WEIGHTS]", help="Darknet .weights; the file beside the .cfg by default."),
    ] = None,
    to: Annotated[
        str, typer.Option(help="float32, float16, dynamic, weight-only, int8 or int16x8.", show_default=True)
    ] = "float32",
    out: Annotated[Path | None, typer.Option(help="File to write; <name>_<mode>.tflite here by default.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Text file, one class name a line.", show_default=False)] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of typical pictures, for int8 and int16x8.", show_default=False)
    ] = None,
    io: Annotated[str | None, typer.Option(help="int8 only: int8, uint8 or float32 input and outputs.")] = None,
    size: Annotated[str | None, typer.Option(help="Input WxH in pixels, instead of the model's own.")] = None,
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

    size_wh = options.size_wh(size)
    pairs, steps = _anchors(anchors), _strides(strides)
    with working(f"converting {source} to {to}"), quiet_stderr():
        from convert.api import convert_model
        from convert.describe import Description
        from convert.load import load

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
        target = out or Path(f"{source.stem}_{to}.tflite")
        _keep_inputs(target, (source, weights, source.with_suffix(".weights"), labels, spec))
        done = convert_model(lambda: load(source, weights, given), target, to, calibrate, io, force)
    if as_json:
        typer.echo(json.dumps(_facts(done), indent=2))
    else:
        _show(source, done)


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
        "calibration_images": done.calibration_images,
        "spec": done.spec.model_dump(mode="json", exclude_none=True),
    }


def _show(source: Path, done: Conversion) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    spec, image = done.spec, done.input
    table.add_row("input", str(source))
    table.add_row("output", f"{done.path} ({done.size_bytes:,} bytes)")
    table.add_row("model", f"{spec.name}: {spec.task}, decoder {spec.decoder.name}, {_labels(len(spec.labels))}")
    table.add_row("mode", f"{spec.quantization}" + _calibrated(done.calibration_images))
    table.add_row("takes", f"{_tensor(image)}, {spec.input.color}, {spec.input.resize}")
    for info in done.outputs:
        table.add_row("gives", f"{info.name}: {_tensor(info)}")
    table.add_row("graph", str(done.partitions))
    Console(stderr=True, highlight=False).print(table)


def _labels(count: int) -> str:
    return f"{count} labels" if count else "no labels (--labels FILE)"


def _calibrated(images: int) -> str:
    return f", calibrated on {images} pictures" if images else ""


def _tensor(info: Any) -> str:
    quantized = f", scale {info.scale:.6g} zero {info.zero_point}" if info.quantized else ""
    return f"{info.dtype} {' x '.join(map(str, info.shape))}{quantized}"
