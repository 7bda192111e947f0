"""`edge detect`: find objects in pictures, videos, cameras and streams."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.bundled import default_model
from edge.cli import options, running
from edge.errors import InputError

if TYPE_CHECKING:
    from edge.sliding import SlidingWindowDetector


class JsonFormat(StrEnum):
    """What `--json` writes."""

    LINES = "lines"
    COCO = "coco"


class Method(StrEnum):
    """How objects are found."""

    MODEL = "model"
    SLIDING_WINDOW = "sliding-window"


_SLIDING = "With --method sliding-window (a classifier finds objects)"


def detect(
    source: running.Sources,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            callback=options.named_model,
            help="The .tflite file, or a pulled model's name; the bundled one by default.",
            show_default=False,
        ),
    ] = None,
    conf: Annotated[
        float | None, typer.Option(help="Lowest score; the model's by default.", show_default=False)
    ] = None,
    iou: Annotated[
        float | None, typer.Option(help="Overlap above which the weaker box goes.", show_default=False)
    ] = None,
    max_det: Annotated[int, typer.Option(help="Most boxes per frame.")] = 300,
    classes: Annotated[
        list[str] | None, typer.Option(help="Only these: names or numbers, with commas.", show_default=False)
    ] = None,
    agnostic: Annotated[bool, typer.Option("--agnostic", help="Suppress overlaps across classes too.")] = False,
    method: Annotated[
        Method, typer.Option(help="model: a detector. sliding-window: a classifier.", rich_help_panel=_SLIDING)
    ] = Method.MODEL,
    window: Annotated[
        int | None,
        typer.Option(
            help="Width in pixels of the smallest window; the model's input by default.",
            rich_help_panel=_SLIDING,
            show_default=False,
        ),
    ] = None,
    pyramid_scale: Annotated[
        float | None,
        typer.Option(help="Each window is as much larger than the last; 1.25.", rich_help_panel=_SLIDING),
    ] = None,
    stride: Annotated[
        float | None, typer.Option(help="From window to window, as a share of it; 0.25.", rich_help_panel=_SLIDING)
    ] = None,
    save: running.Save = None,
    sheet: running.Sheet = None,
    json: running.Json = None,
    json_format: Annotated[JsonFormat, typer.Option("--format", help="Of --json.")] = JsonFormat.LINES,
    csv: running.Csv = None,
    show: running.Show = False,
    force: running.Force = False,
    quiet: running.Quiet = False,
    threads: options.Threads = None,
    mode: options.ModeOption = options.Mode.AUTO,
    delegate: options.Delegate = "cpu",
    fallback: options.Fallback = True,
    verify: options.Verify = False,
    decoder: options.Decoder = None,
    labels: options.Labels = None,
    input_range: options.InputRange = None,
    color: options.Color = None,
    resize: options.Resize = None,
    layout: options.Layout = None,
    camera_size: options.CameraSize = None,
    camera_fps: options.CameraFps = None,
    camera_format: options.CameraFormat = None,
    flip: options.FlipOption = None,
    rotate: options.RotateOption = options.RotateChoice.NONE,
    reduce: options.ReduceOption = options.ReduceChoice.NONE,
    every: options.Every = 1,
    max_fps: options.MaxFps = None,
    give_up: options.GiveUp = "60",
    open_timeout: options.OpenTimeout = 3.0,
    read_timeout: options.ReadTimeout = 2.0,
    transport: options.TransportOption = options.TransportChoice.TCP,
) -> None:
    """Find objects in pictures, videos, cameras and streams."""
    if json is None and json_format is not JsonFormat.LINES:
        raise InputError(f"--format {json_format.value}: give the file for it with --json")
    turned = {"--reduce": reduce.value != "1", "--rotate": rotate.value != "0", "--flip": flip is not None}
    if json_format is JsonFormat.COCO and any(turned.values()):
        flag = next(flag for flag, asked in turned.items() if asked)
        raise InputError(f"--format coco with {flag}: COCO's boxes are in pixels of the files; leave one of them out")
    sliding: dict[str, Any] = {"window": window, "pyramid_scale": pyramid_scale, "stride": stride}
    given = {name: value for name, value in sliding.items() if value is not None}
    if given and method is not Method.SLIDING_WINDOW:
        raise InputError(f"--{next(iter(given)).replace('_', '-')}: is for a classifier, with --method sliding-window")
    with running.native_silence(), ExitStack() as stack:
        asked = options.source_options(
            camera_size,
            camera_fps,
            camera_format,
            flip,
            rotate,
            every,
            max_fps,
            open_timeout,
            read_timeout,
            transport,
            reduce,
        )
        sources = running.open_sources(source, stack, asked, options.give_up_s(give_up))
        outputs = running.plan_outputs(sources, save, sheet, json, json_format.value, csv, show, force)
        # Only now: what cannot be read or written is said before a model is loaded.
        from edge import selftest
        from edge.detector import Detector
        from edge.loader import load_model
        from edge.spec.labels import pick_classes
        from edge.spec.resolve import Overrides

        overrides = Overrides(
            decoder=decoder, labels=labels, input_range=input_range, color=color, resize=resize, layout=layout
        )
        path = model or default_model()
        sliding_window = method is Method.SLIDING_WINDOW
        count = 1 if sliding_window else running.at_once(mode, sources, path, threads, delegate)
        loaded = load_model(path, overrides, threads if count == 1 else 1, delegate, fallback)
        if verify:
            selftest.verify(loaded, delegate).require(loaded.path)
        wanted = pick_classes(classes or [], loaded.spec.labels)
        common: dict[str, Any] = {"conf": conf, "iou": iou, "max_det": max_det, "classes": wanted}
        detectors: list[Detector | SlidingWindowDetector]
        if sliding_window:
            from edge.sliding import SlidingWindowDetector

            detectors = [SlidingWindowDetector(loaded, **common, **given)]
        else:
            more = (load_model(path, overrides, 1, delegate, fallback) for _ in range(count - 1))
            detectors = [Detector(one, **common, agnostic=agnostic) for one in (loaded, *more)]
        first = detectors[0]
        name = f"{first.spec.name}: {first.backend.description}" + (f", {count} frames at once" if count > 1 else "")
        infers, backends = [one.detect for one in detectors], [one.backend for one in detectors]
        running.run(infers, backends, first.spec.labels, name, sources, outputs, quiet)
