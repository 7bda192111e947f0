"""`edge config`: write, check and describe the configuration of `edge run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import OutputError

app = typer.Typer(no_args_is_help=True, help="The configuration of edge run.", rich_markup_mode="rich")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("edge.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite it where it exists.")] = False,
) -> None:
    """Write a commented example, which runs camera 0 with the bundled model."""
    from edge.config.template import template
    from edge.sinks.base import make_parent, write_atomically

    if path.is_dir():
        raise OutputError(f"{path}: is a folder; expected a file name")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; give another name, or pass --force to overwrite it")
    make_parent(path)
    write_atomically(path, template(str(path)).encode())
    print(f"{path} is written. Set your cameras in it, then: edge run {path} --check, and: edge run {path}")


@app.command()
def schema() -> None:
    """Print the JSON schema, for editors that check TOML."""
    from edge.config.schema import Config

    print(json.dumps(Config.model_json_schema(), indent=2))
