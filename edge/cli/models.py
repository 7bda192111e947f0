"""`edge models`: the networks that `edge train` can build, and what they cost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from edge.cli.workstation import require, working

if TYPE_CHECKING:
    from models.macs import LayerCost

app = typer.Typer(no_args_is_help=True, help="List the networks that can be trained, and show their layers.")

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
