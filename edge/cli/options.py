"""Options that several commands share."""

from __future__ import annotations

import math
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.errors import InputError
from edge.zoo.cache import find_model

if TYPE_CHECKING:
    from edge.sources import SourceOptions


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


class Mode(StrEnum):
    """How frames are worked on."""

    AUTO = "auto"
    LATENCY = "latency"
    THROUGHPUT = "throughput"


ModeOption = Annotated[
    Mode,
    typer.Option(
        "--mode",
        help="latency: one frame at a time, on all threads. throughput: a frame on each. auto: what suits the source.",
    ),
]
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

_CAMERAS = "Cameras and streams"


class FlipChoice(StrEnum):
    """What `--flip` takes."""

    HORIZONTAL = "horizontal"
    VERTICAL = "vertical"
    BOTH = "both"


class RotateChoice(StrEnum):
    """What `--rotate` takes."""

    NONE = "0"
    QUARTER = "90"
    HALF = "180"
    THREE_QUARTERS = "270"


class ReduceChoice(StrEnum):
    """What `--reduce` takes."""

    NONE = "1"
    HALF = "2"
    QUARTER = "4"
    EIGHTH = "8"


class TransportChoice(StrEnum):
    """What `--transport` takes."""

    TCP = "tcp"
    UDP = "udp"


CameraSize = Annotated[
    str | None,
    typer.Option(help="WIDTHxHEIGHT to ask a camera for.", rich_help_panel=_CAMERAS, show_default=False),
]
CameraFps = Annotated[
    float | None,
    typer.Option(help="Frames per second to ask a camera for.", rich_help_panel=_CAMERAS, show_default=False),
]
CameraFormat = Annotated[
    str | None,
    typer.Option(help="Pixel format to ask a USB camera for: MJPG, YUYV.", rich_help_panel=_CAMERAS),
]
FlipOption = Annotated[
    FlipChoice | None, typer.Option("--flip", help="Mirror the picture, of any source.", rich_help_panel=_CAMERAS)
]
RotateOption = Annotated[
    RotateChoice,
    typer.Option("--rotate", help="Turn the picture, of any source, clockwise.", rich_help_panel=_CAMERAS),
]
ReduceOption = Annotated[
    ReduceChoice,
    typer.Option(
        "--reduce", help="Divide width and height of frames, of any source; fast for JPEG.", rich_help_panel=_CAMERAS
    ),
]
Every = Annotated[int, typer.Option(help="Look at every N-th frame only.", rich_help_panel=_CAMERAS)]
MaxFps = Annotated[
    float | None, typer.Option(help="Look at so many frames a second at most.", rich_help_panel=_CAMERAS)
]
GiveUp = Annotated[
    str,
    typer.Option(
        help="Seconds to try a lost camera or stream again; 0: not at all, inf: for ever.", rich_help_panel=_CAMERAS
    ),
]
OpenTimeout = Annotated[float, typer.Option(help="Seconds for a stream to open.", rich_help_panel=_CAMERAS)]
ReadTimeout = Annotated[float, typer.Option(help="Seconds for its next frame to come.", rich_help_panel=_CAMERAS)]
TransportOption = Annotated[TransportChoice, typer.Option("--transport", help="Of RTSP.", rich_help_panel=_CAMERAS)]


def source_options(
    camera_size: str | None = None,
    camera_fps: float | None = None,
    camera_format: str | None = None,
    flip: FlipChoice | None = None,
    rotate: RotateChoice = RotateChoice.NONE,
    every: int = 1,
    max_fps: float | None = None,
    open_timeout: float = 3.0,
    read_timeout: float = 2.0,
    transport: TransportChoice = TransportChoice.TCP,
    reduce: ReduceChoice = ReduceChoice.NONE,
) -> SourceOptions:
    """Return what these flags ask of sources.

    Raises:
        InputError: A value is out of range.
    """
    for flag, value in (
        ("--camera-fps", camera_fps),
        ("--max-fps", max_fps),
        ("--every", every),
        ("--open-timeout", open_timeout),
        ("--read-timeout", read_timeout),
    ):
        if value is not None and not 0 < value < 1e6:
            raise InputError(f"{flag} {value:g}: expected a number above 0")
    size = size_wh(camera_size, "--camera-size")
    from edge.cv import require_opencv

    require_opencv()
    from edge.sources import SourceOptions

    given: dict[str, Any] = {
        "flip": None if flip is None else flip.value,
        "rotate": int(rotate.value),
        "reduce": int(reduce.value),
    }
    try:
        return SourceOptions(
            size_wh=size,
            fps=camera_fps,
            format=camera_format,
            open_timeout_s=open_timeout,
            read_timeout_s=read_timeout,
            transport=transport.value,
            every=every,
            max_fps=max_fps,
            **given,
        )
    except InputError as error:
        raise InputError(f"--camera-{error}") from error


def give_up_s(text: str) -> float | None:
    """Return the seconds of a `--give-up`; None for ever.

    Raises:
        InputError: It is no time.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds) or seconds < 0:
        raise InputError(f"--give-up {text!r}: expected seconds, 0 or inf")
    return None if math.isinf(seconds) else seconds


def size_wh(text: str | None, flag: str = "--size") -> tuple[int, int] | None:
    """Return width and height of a `--size`.

    Raises:
        InputError: It is no size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    if match is None or 0 in map(int, match.groups()):
        raise InputError(f"{flag} {text!r}: expected width x height in pixels, like 416x416")
    return int(match[1]), int(match[2])
