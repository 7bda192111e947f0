"""`edge verify`: does a model compute on this device what it computed when it was made?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import options, running
from edge.cv import require_opencv

if TYPE_CHECKING:
    from edge.selftest import Verification


def verify(
    model: options.ModelArgument,
    threads: options.Threads = None,
    delegate: options.Delegate = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Replay the self-test inside a model file: the same pictures must give the same answers here.

    Exit code 0: passed. 4: it runs and computes something else. 2: no self-test in the file, or a damaged file.
    """
    require_opencv()
    from edge.loader import load_model
    from edge.selftest import verify as replay

    with running.native_silence():
        loaded = load_model(model, None, threads, delegate)
        found = replay(loaded, delegate)
    if as_json:
        typer.echo(json.dumps(_facts(model, found), indent=2))
    else:
        _show(found)
    found.require(model)
    if not as_json:
        typer.echo(f"{model}: {found.summary()}")


def _facts(path: Path, found: Verification) -> dict[str, Any]:
    return {
        "file": str(path),
        "passed": found.passed,
        "where": found.where,
        "pictures": found.pictures,
        "tensors": [
            {
                "name": each.name,
                "passed": each.passed,
                "range": each.range,
                "max_error": _number(each.max_error),
                "max_allowed": each.max_allowed,
                "mean_error": _number(each.mean_error),
                "mean_allowed": each.mean_allowed,
                "float_error": _number(each.float_error),
                "float_error_made": each.float_error_made,
            }
            for each in found.tensors
        ],
        "boxes": {"agreed": found.boxes.agreed, "total": found.boxes.total, "min_share": found.min_agreement},
        "float_boxes": {"agreed": found.float_boxes.agreed, "total": found.float_boxes.total},
    }


def _number(error: float) -> float | None:
    """Return an error as JSON takes it: null for one that is not finite."""
    return error if abs(error) < float("inf") else None


def _show(found: Verification) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("tensor", overflow="fold")
    for name in ("max error (allowed)", "mean error (allowed)", "from float (made)", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found.tensors:
        pairs = (
            (each.max_error, each.max_allowed),
            (each.mean_error, each.mean_allowed),
            (each.float_error, each.float_error_made),
        )
        table.add_row(
            Text(each.name),
            *(f"{each.relative(error):.3%} ({each.relative(other):.3%})" for error, other in pairs),
            "[green]ok[/]" if each.passed else "[red]FAILED[/]",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print("Errors as shares of each tensor's range.", style="dim")
    if found.boxes.total or found.float_boxes.total:
        console.print(
            f"answers (boxes or best classes): {found.boxes} as when it was made, {found.min_agreement:.0%} needed; "
            f"{found.float_boxes} as the float model"
        )
