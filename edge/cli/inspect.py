"""`edge inspect`: what a model file is and what it says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import options
from edge.cv import require_opencv
from edge.errors import InputError, SpecError

if TYPE_CHECKING:
    from edge.spec import ModelSpec


def inspect(
    model: Annotated[Path, typer.Argument(help="The .tflite file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    attach: Annotated[
        Path | None, typer.Option(help="JSON that describes the model: check it, and write it into the file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --attach: replace what the file says now.")] = False,
    decoder: options.Decoder = None,
    labels: options.Labels = None,
    input_range: options.InputRange = None,
    color: options.Color = None,
    resize: options.Resize = None,
    layout: options.Layout = None,
) -> None:
    """Show what a model is: tensors, preprocessing, decoder, labels, provenance, accuracy.

    For a file that does not say it, give the flags, print --json, and --attach that to the file: from then on it
    runs with no flag.
    """
    from edge.spec.resolve import Overrides

    overrides = Overrides(
        decoder=decoder, labels=labels, input_range=input_range, color=color, resize=resize, layout=layout
    )
    if attach is not None:
        spec = _attach(model, attach, force)
        typer.echo(f"{model}: now describes itself as {spec.name} ({spec.task}, decoder {spec.decoder.name})", err=True)
        return
    facts, problem = _facts(model, overrides)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(facts, problem)


def _facts(path: Path, overrides: Any) -> tuple[dict[str, Any], SpecError | None]:
    """Return everything that is known of a file, and why it cannot run where it cannot."""
    import hashlib

    from edge.backends.litert import LiteRTBackend
    from edge.backends.partitions import partitions
    from edge.spec.archive import read_tail
    from edge.spec.resolve import resolve

    backend = LiteRTBackend(path, threads=1)
    nodes = partitions(path)
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "runtime": backend.description,
        "operators": nodes.operators,
        "delegated": nodes.delegated,
        "partitions": nodes.partitions,
        "inputs": [_tensor(backend.input)],
        "outputs": [_tensor(info) for info in backend.outputs],
        "members": sorted(read_tail(path)),
        "spec": None,
    }
    try:
        spec = resolve(path, backend.input, backend.outputs, overrides)
    except SpecError as error:
        facts["problem"] = str(error)
        return facts, error
    facts["spec"] = spec.model_dump(mode="json", exclude_none=True)
    return facts, None


def _tensor(info: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"name": info.name, "shape": list(info.shape), "dtype": info.dtype.name}
    if info.quantized:
        row |= {"scale": info.scale, "zero_point": info.zero_point}
    return row


def _show(facts: dict[str, Any], problem: SpecError | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, value: object) -> None:
        if value not in (None, "", [], {}):
            table.add_row(name, str(value))

    row("file", f"{facts['file']} ({facts['bytes']:,} bytes)")
    row("sha256", facts["sha256"])
    row("runtime", facts["runtime"])
    row(
        "graph",
        f"{facts['operators']} operators, {facts['delegated']} of them in {facts['partitions']} XNNPACK "
        f"partition{'s' * (facts['partitions'] != 1)}",
    )
    for kind in ("inputs", "outputs"):
        for tensor in facts[kind]:
            quantized = f", scale {tensor['scale']:.6g} zero {tensor['zero_point']}" if "scale" in tensor else ""
            shape = " x ".join(map(str, tensor["shape"])) or "shape known after the first inference"
            row(kind[:-1], f"{tensor['name']}: {tensor['dtype']} {shape}{quantized}")
    row("tail", ", ".join(facts["members"]))
    spec = facts["spec"]
    if spec is not None:
        row("name", spec["name"])
        row("task", spec["task"])
        source = spec["input"]
        row(
            "preprocess",
            f"{source['resize']}, {source['color']}, {source['layout']}, (pixel - {_numbers(source['mean'])}) / "
            f"{_numbers(source['std'])}",
        )
        row("decoder", f"{spec['decoder']['name']} {_short(spec['decoder']['params'])}".strip())
        row("roles", ", ".join(f"{role} = {name}" for role, name in spec["decoder"]["outputs"].items()))
        row("labels", f"{len(spec['labels'])}: {_short(', '.join(spec['labels']))}")
        row("thresholds", f"conf {spec['conf']}" + (f", iou {spec['iou']}" if "iou" in spec else ""))
        row("quantization", spec.get("quantization"))
        for key, value in spec["provenance"].items():
            row(key.replace("_", " "), value)
        for accuracy in spec["accuracy"]:
            row(
                "accuracy",
                f"{accuracy['dataset']}: " + ", ".join(f"{k} {v:.3f}" for k, v in accuracy["metrics"].items()),
            )
    console.print(table)
    if problem is not None:
        console.print(f"\n[yellow]It does not run as it is:[/] {problem}", highlight=False)


def _numbers(values: list[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _short(value: object) -> str:
    text = str(value) if value else ""
    return text if len(text) <= 160 else text[:157] + "..."


def _attach(path: Path, source: Path, force: bool) -> ModelSpec:
    """Write a spec into a file, after the model was really built with it."""
    import os

    require_opencv()
    from edge.classifier import Classifier
    from edge.detector import Detector
    from edge.loader import load_model
    from edge.spec.archive import model_part, read_tail, with_tail
    from edge.spec.resolve import METADATA_NAME, parse_spec

    try:
        text = source.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error
    try:
        parsed = json.loads(text)
        # `edge inspect --json` prints the spec among other things: its output can be attached as it is.
        if isinstance(parsed, dict) and isinstance(parsed.get("spec"), dict):
            text = json.dumps(parsed["spec"]).encode()
    except ValueError as error:
        raise SpecError(f"{source}: expected JSON ({error})") from error
    spec = parse_spec(text, source)
    members = read_tail(path)
    if METADATA_NAME in members and not force:
        raise InputError(f"{path}: describes itself already; pass --force to replace that")
    content = with_tail(
        model_part(path.read_bytes()), {**members, METADATA_NAME: spec.model_dump_json(indent=1).encode()}
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        loaded = load_model(temporary)
        (Detector if spec.task == "detect" else Classifier)(loaded)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return spec
