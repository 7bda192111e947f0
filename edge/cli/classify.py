"""`edge classify`: name what pictures, videos, cameras and streams show."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from edge.cli import options, running


def classify(
    source: running.Sources,
    model: options.Model,
    top: Annotated[int, typer.Option(help="Classes to name per frame.")] = 5,
    save: running.Save = None,
    sheet: running.Sheet = None,
    json: running.Json = None,
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
    """Name what pictures, videos, cameras and streams show."""
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
        outputs = running.plan_outputs(sources, save, sheet, json, "lines", csv, show, force)
        # Only now: what cannot be read or written is said before a model is loaded.
        from edge import selftest
        from edge.classifier import Classifier
        from edge.loader import load_model
        from edge.spec.resolve import Overrides

        overrides = Overrides(
            decoder=decoder, labels=labels, input_range=input_range, color=color, resize=resize, layout=layout
        )
        count = running.at_once(mode, sources, model, threads, delegate)
        loaded = load_model(model, overrides, threads if count == 1 else 1, delegate, fallback)
        if verify:
            selftest.verify(loaded, delegate).require(model)
        more = (load_model(model, overrides, 1, delegate, fallback) for _ in range(count - 1))
        classifiers = [Classifier(one, top) for one in (loaded, *more)]
        if "-" not in (json, csv):
            outputs.append(running.Output("text", "-", "standard output"))
        first = classifiers[0]
        name = f"{first.spec.name}: {first.backend.description}" + (f", {count} frames at once" if count > 1 else "")
        infers, backends = [one.classify for one in classifiers], [one.backend for one in classifiers]
        running.run(infers, backends, first.spec.labels, name, sources, outputs, quiet)
