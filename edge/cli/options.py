"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Option("--model", "-m", help="The .tflite file.", show_default=False)]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all up to 4 by default.", show_default=False)]
Delegate = Annotated[str, typer.Option(help="cpu, edgetpu[:usb|:pci|:N], or the path of a delegate's .so.")]

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
