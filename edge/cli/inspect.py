"""`edge inspect`: what a model file is and what it says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import options
from edge.cv import require_opencv
from edge.errors import InputError, ModelFileError, SpecError

if TYPE_CHECKING:
    from edge.spec import ModelSpec


def inspect(
    model: options.ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    attach: Annotated[
        Path | None,
        typer.Option(
            help="Write a description into the file: JSON, or the .tflite that an Edge TPU file was compiled from."
        ),
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
        if attach.suffix == ".tflite":
            from edge.spec.twin import attach_twin

            spec, lost = attach_twin(model, attach, force), False
        else:
            spec, lost = _attach(model, attach, force)
        typer.echo(f"{model}: now describes itself as {spec.name} ({spec.task}, decoder {spec.decoder.name})", err=True)
        if lost:
            typer.echo(
                f"{model}: its self-test was made with another preprocessing or decoder and is gone; convert the model "
                "again for a new one",
                err=True,
            )
        return
    facts, problem = _facts(model, overrides)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(facts, problem)


def _facts(path: Path, overrides: Any) -> tuple[dict[str, Any], SpecError | None]:
    """Return everything that is known of a file, and why it cannot run where it cannot."""
    import hashlib

    from edge.backends.factory import open_backend
    from edge.backends.partitions import partitions
    from edge.spec.archive import model_sha256, read_tail
    from edge.spec.resolve import resolve
    from edge.spec.seal import stated_sha256
    from edge.spec.twin import cpu_twin

    backend = open_backend(path, threads=1, fallback=True)  # an Edge TPU file is what its CPU twin is
    nodes = partitions(path if backend.failure is None else cpu_twin(path) or path)
    members = read_tail(path)
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "runtime": backend.description,
        "operators": nodes.operators,
        "delegated": nodes.delegated,
        "partitions": nodes.partitions,
        "arena_bytes": nodes.arena_bytes,
        "inputs": [_tensor(backend.input)],
        "outputs": [_tensor(info) for info in backend.outputs],
        "members": sorted(members),
        "model_sha256": {"found": model_sha256(path), "stated": stated_sha256(members)},
        "selftest": _selftest(path),
        "spec": None,
    }
    try:
        spec = resolve(path, backend.input, backend.outputs, overrides)
    except SpecError as error:
        facts["problem"] = str(error)
        return facts, error
    facts["spec"] = spec.model_dump(mode="json", exclude_none=True)
    return facts, None


def _selftest(path: Path) -> str:
    """Say what the self-test of a file holds, or why there is none."""
    from edge.spec.vectors import read_selftest

    try:
        test = read_selftest(path)
    except ModelFileError as error:
        return str(error).removeprefix(f"{path}: ").removeprefix(f"{path}, ")
    return f"{len(test.pictures)} pictures, {len(test.heads)} outputs, {sum(map(len, test.boxes))} boxes"


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
    row("arena", f"{facts['arena_bytes']:,} bytes of activations at once, at least")
    for kind in ("inputs", "outputs"):
        for tensor in facts[kind]:
            quantized = f", scale {tensor['scale']:.6g} zero {tensor['zero_point']}" if "scale" in tensor else ""
            shape = " x ".join(map(str, tensor["shape"])) or "shape known after the first inference"
            row(kind[:-1], f"{tensor['name']}: {tensor['dtype']} {shape}{quantized}")
    row("tail", ", ".join(facts["members"]))
    stated, found = (facts["model_sha256"][key] for key in ("stated", "found"))
    if stated is not None:
        row("model part", "sha256 ok" if stated == found else f"DAMAGED: sha256 {found}, expected {stated[:64]!r}")
    row("self-test", facts["selftest"])
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
        row("conversion", _conversion(spec.get("conversion") or {}))
        row("CPU twin", spec.get("cpu_twin"))
    console.print(table)
    if problem is not None:
        console.print(f"\n[yellow]It does not run as it is:[/] {problem}", highlight=False)


def _conversion(record: dict[str, Any]) -> str:
    said = [f"for {record['target']}"] if "target" in record else []
    said += record.get("steps", [])
    if record.get("calibration_images"):
        said.append(f"calibrated on {record['calibration_images']} pictures")
    if gate := record.get("gate"):
        said.append(
            f"{gate['metric']} {gate['value']:.3f}, {gate['drop']:.2f} points below float on {gate['images']} pictures "
            f"of {gate['dataset']} (at most {gate['max_drop']:g})"
        )
        if gate.get("agreement") is not None:
            said.append(f"agreement with float {gate['agreement']:.3f}")
    return ", ".join(said)


def _numbers(values: list[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _short(value: object) -> str:
    text = str(value) if value else ""
    return text if len(text) <= 160 else text[:157] + "..."


def _attach(path: Path, source: Path, force: bool) -> tuple[ModelSpec, bool]:
    """Write a spec into a file, after the model was really built with it.

    What only the file can know stays: how it was converted, its CPU twin, and its self-test as long as preprocessing
    and decoder are those that it was made with.

    Returns:
        The spec that is in the file now, and whether a self-test was lost.
    """
    import os

    require_opencv()
    from edge.classifier import Classifier
    from edge.detector import Detector
    from edge.loader import load_model
    from edge.spec.archive import read_tail
    from edge.spec.resolve import METADATA_NAME, parse_spec
    from edge.spec.seal import check_sha256, sealed
    from edge.spec.vectors import FOLDER

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
    check_sha256(path)
    try:
        old = parse_spec(members.pop(METADATA_NAME, b""), path)
    except SpecError:
        old = None  # what it says is being replaced
    held = old is not None and old.selftest is not None
    kept = old if held and old is not None and _computes(old) == _computes(spec) else None
    spec = spec.model_copy(
        update={
            "selftest": kept.selftest if kept else None,
            "conversion": old.conversion if old else None,
            "cpu_twin": old.cpu_twin if old else None,
        }
    )
    if kept is None:
        members = {name: content for name, content in members.items() if not name.startswith(FOLDER)}
    content = sealed(path.read_bytes(), spec, members)
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
    return spec, held and kept is None


def _computes(spec: ModelSpec) -> object:
    """Return what decides about a model's answers; name and size of the input are the tensor's."""
    return spec.task, spec.input.model_copy(update={"name": None, "size_wh": None}), spec.decoder, spec.iou
