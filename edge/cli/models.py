"""`edge models`: the networks that `edge train` can build and what they cost, and public models to fetch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from edge.cli.workstation import require, working

if TYPE_CHECKING:
    from edge.zoo.table import PublicModel, Remote
    from models.macs import LayerCost

app = typer.Typer(
    no_args_is_help=True, help="List the networks that can be trained, show their layers; fetch public models."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Result = TypeVar("Result")


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the networks: task, parameters, multiply-accumulates for one picture, input size."""
    require("edge models")
    from models import MODELS

    def measure_all() -> dict[str, list[LayerCost]]:
        from models.macs import measure

        return {name: measure(name) for name in MODELS}

    costs = _with_tensorflow("building every network once", measure_all)
    rows = [_row(name, layers) for name, layers in costs.items()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _show_list(rows)


@app.command()
def summary(
    name: Annotated[str, typer.Argument(help="See: edge models list.", show_default=False)], as_json: AsJson = False
) -> None:
    """Show the layers of a network: type, output shape, parameters, multiply-accumulates."""
    require("edge models")
    from models import architecture

    architecture(name)  # a misspelt name is told before TensorFlow loads

    def measure_one() -> list[LayerCost]:
        from models.macs import measure

        return measure(name)

    layers = _with_tensorflow(f"building {name}", measure_one)
    facts = _row(name, layers) | {"layers": [layer._asdict() for layer in layers]}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show_summary(facts)


@app.command()
def pull(
    name: Annotated[str | None, typer.Argument(help="A public model; without it they are listed.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List what there is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a public model, ready to run by its name: edge detect --model NAME.

    It lands in $XDG_CACHE_HOME/edge, or ~/.cache/edge. Darknet models are converted, which needs the workstation extra.
    """
    if name is None or listed:
        _list_public(as_json)
        return
    from edge.cv import require_opencv
    from edge.zoo import pull as zoo

    row = zoo.public_model(name)
    there = zoo.is_pulled(name)
    if not there:
        require_opencv()
        if row.cfg is not None:
            require(f"edge models pull {name}")  # before anything is fetched
        typer.echo(f"{name}: {row.attribution}; licence: {row.licence}", err=True)
    with _progress(row.files) as report:
        path = zoo.pull(name, _convert, report, lambda: typer.echo("another pull is under way; waiting", err=True))
    command = f"edge {row.task} --model {name} --source photo.jpg"
    if as_json:
        facts = {"name": name, "file": str(path), "licence": row.licence, "fetched": not there, "command": command}
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(path)
    typer.echo(f"{'already there; ' if there else ''}run it with: {command}", err=True)


def _convert(name: str, row: PublicModel, cfg: Path, weights: Path, labels: Path, out: Path) -> None:
    """Convert a Darknet model that was just fetched; see `edge.zoo.pull.Converter`."""

    def work() -> None:
        from convert.api import convert_model
        from convert.describe import Description
        from convert.load import load

        given = Description(labels=labels, name=name, licence=row.licence, attribution=row.attribution)
        convert_model(lambda: load(cfg, weights, given), out, row.mode, force=True)

    _with_tensorflow(f"converting {name}", work)


def _list_public(as_json: bool) -> None:
    from edge.zoo.pull import is_pulled
    from edge.zoo.table import MODELS

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "task": row.task,
            "classes": row.classes,
            "input": list(row.size_wh),
            "bytes": row.size_bytes,
            "licence": row.licence,
            "converted": row.cfg is not None,
            "pulled": is_pulled(name),
        }
        for name, row in MODELS.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for heading in ("name", "task", "classes", "input", "bytes", "licence", ""):
        right = heading in ("classes", "input", "bytes")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        note = "here" if row["pulled"] else "converts" if row["converted"] else ""
        size = "x".join(map(str, row["input"]))
        table.add_row(row["name"], row["task"], str(row["classes"]), size, f"{row['bytes']:,}", row["licence"], note)
    Console(highlight=False).print(table)
    typer.echo(
        "\nedge models pull NAME fetches one; what converts needs the workstation extra: pip install -e '.[convert]'",
        err=True,
    )


@contextmanager
def _progress(files: tuple[Remote, ...]) -> Iterator[Callable[[Remote, int], None]]:
    """Show how far a download is, on a terminal; give what is called with a file and its bytes."""
    if not sys.stderr.isatty():
        yield lambda file, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    done_bytes = dict.fromkeys(files, 0)
    columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    bar = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5)
    total = sum(file.size_bytes for file in files)
    task = bar.add_task("fetching", total=total)

    def report(file: Remote, done: int) -> None:
        if not bar.live.is_started:
            bar.start()
        done_bytes[file] = done
        all_done = sum(done_bytes.values())
        bar.update(task, description=file.filename, completed=all_done)
        if all_done >= total:
            bar.stop()  # what comes next shows itself

    try:
        yield report
    finally:
        bar.stop()


def _with_tensorflow(text: str, work: Callable[[], Result]) -> Result:
    from edge.backends.litert import quiet_stderr

    # TensorFlow reads it when it loads; its remarks would stand between ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with working(text), quiet_stderr():
        return work()


def _row(name: str, layers: list[LayerCost]) -> dict[str, Any]:
    from models import MODELS

    row = MODELS[name]
    return {
        "name": name,
        "task": row.task,
        "parameters": sum(layer.parameters for layer in layers),
        "trainable": sum(layer.trainable for layer in layers),
        "macs": sum(layer.macs for layer in layers),
        "input_shape": list(row.input_shape),
        "classes": row.classes,
        "pretrained": row.pretrained is not None,
        "source": row.source,
    }


def _show_list(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "task", "parameters", "MACs", "input", "weights"):
        right = heading in ("parameters", "MACs", "input")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            row["task"],
            f"{row['parameters']:,}",
            _amount(row["macs"]),
            _shape(row["input_shape"]),
            "imagenet" if row["pretrained"] else "",
        )
    Console(highlight=False).print(table)


def _show_summary(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "type", "output", "parameters", "MACs"):
        right = heading in ("output", "parameters", "MACs")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for layer in facts["layers"]:
        parameters = f"{layer['parameters']:,}" if layer["parameters"] else ""
        shape = _shape(layer["output_shape"])
        table.add_row(layer["name"], layer["kind"], shape, parameters, _amount(layer["macs"]))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{facts['name']} ({facts['source']}): {facts['parameters']:,} parameters, {facts['trainable']:,} of them "
        f"trainable, {_amount(facts['macs'])} multiply-accumulates, input {_shape(facts['input_shape'])}, "
        f"{facts['classes']} classes"
    )


def _amount(count: int) -> str:
    """Return a number with three significant digits and k, M or G; nothing for none."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.{2 if count < 10 * size else 1 if count < 100 * size else 0}f} {unit}"
    return str(count) if count else ""


def _shape(shape: list[int] | tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
