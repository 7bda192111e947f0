"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import InputError
from edge.zoo.cache import find_model


def named_model(given: Path | None) -> Path | None:
    """Let a model be given by a path or by the name of a pulled one."""
    return given if given is None else find_model(given)


Model = Annotated[
    Path,
    typer.Option(
        "--model", "-m", callback=named_model, help="The .tflite file, or a pulled model's name.", show_default=False
    ),
]
ModelArgument = Annotated[
    Path,
    typer.Argument(callback=named_model, help="The .tflite file, or a pulled model's name.", show_default=False),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all up to 4 by default.", show_default=False)]
Delegate = Annotated[
    str, typer.Option(help="cpu, gpu[:float32], edgetpu[:usb|:pci|:N], or a delegate's PATH.so?key=value.")
]
Fallback = Annotated[
    bool, typer.Option("--fallback/--no-fallback", help="Where the delegate fails, go on on the CPU, or stop.")
]
Verify = Annotated[bool, typer.Option("--verify", help="Replay the model's self-test first; stop where it fails.")]

_PANEL = "What the model is (for a file that does not say it itself)"

Decoder = Annotated[str | None, typer.Option(help="Head family, e.g. yolov8.", rich_help_panel=_PANEL)]
Labels = Annotated[Path | None, typer.Option(help="Text file, one class name a line.", rich_help_panel=_PANEL)]
InputRange = Annotated[
    str | None, typer.Option(help="0..1, -1..1, 0..255 or imagenet: the values of the input.", rich_help_panel=_PANEL)
]
Color = Annotated[str | None, typer.Option(help="RGB, BGR or GRAY.", rich_help_panel=_PANEL)]
Resize = Annotated[
    str | None,
    typer.Option(help="letterbox-center, letterbox-topleft, stretch or center-crop.", rich_help_panel=_PANEL),
]
Layout = Annotated[str | None, typer.Option(help="NHWC or NCHW.", rich_help_panel=_PANEL)]


def size_wh(text: str | None) -> tuple[int, int] | None:
    """Return width and height of a `--size`.

    Raises:
        InputError: It is no size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    if match is None or 0 in map(int, match.groups()):
        raise InputError(f"--size {text!r}: expected width x height in pixels, like 416x416")
    return int(match[1]), int(match[2])
