"""`edge benchmark`: how fast models run on this device, and how sure that is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.bundled import default_model
from edge.cli import options, reports, running
from edge.errors import InputError
from edge.zoo.cache import find_model

if TYPE_CHECKING:
    from edge.benchmark.plan import Plan

_WHAT, _LENGTH, _REPORT = "What is compared", "How long", "Reports"


class SinkChoice(StrEnum):
    """What `--sink` takes."""

    JPEG = "jpeg"
    JSON = "json"
    NONE = "none"


Models = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Model files or names; or one .json of an earlier --json, to report on it again.", show_default=False
    ),
]
MoreModels = Annotated[
    list[Path] | None, typer.Option("--model", "-m", help="Likewise; repeatable.", show_default=False)
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        "-s",
        help="Video, picture, folder or pattern; a clip of moving shapes by default.",
        show_default=False,
    ),
]


def benchmark(
    models: Models = None,
    model: MoreModels = None,
    source: Source = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            help="threads=1,2,4 or delegate=cpu,gpu or size=256,320 (models with a free size). Repeatable.",
            rich_help_panel=_WHAT,
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; all up to 4 by default.", rich_help_panel=_WHAT)
    ] = None,
    delegate: Annotated[
        str,
        typer.Option(
            help="cpu, gpu[:float32], edgetpu[:usb|:pci|:N], or a delegate's PATH.so?key=value.",
            rich_help_panel=_WHAT,
        ),
    ] = "cpu",
    modes: Annotated[
        str,
        typer.Option(help="invoke, sequential, pipelined, throughput, live; with commas.", rich_help_panel=_WHAT),
    ] = "all",
    sink: Annotated[
        SinkChoice,
        typer.Option(
            help="What is done with results: draw and encode a JPEG, a JSON line, or nothing.", rich_help_panel=_WHAT
        ),
    ] = SinkChoice.JPEG,
    fps: Annotated[
        float | None,
        typer.Option(help="Pace of the camera in mode live; the source's, or 30.", rich_help_panel=_WHAT),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time the operators of each model too.", rich_help_panel=_WHAT)
    ] = False,
    warmup: Annotated[
        int, typer.Option(help="Inferences of each before the first round.", rich_help_panel=_LENGTH)
    ] = 10,
    runs: Annotated[int, typer.Option(help="Runs of each mode of each variant.", rich_help_panel=_LENGTH)] = 200,
    seconds: Annotated[float, typer.Option(help="Time for them, if it ends sooner.", rich_help_panel=_LENGTH)] = 5.0,
    rounds: Annotated[int, typer.Option(help="Turns in which variants alternate.", rich_help_panel=_LENGTH)] = 5,
    cold_starts: Annotated[
        int, typer.Option(help="Starts of each in processes of its own; 0 for none.", rich_help_panel=_LENGTH)
    ] = 3,
    minutes: Annotated[
        float, typer.Option(help="Go on at full speed for so long, and show what heat does.", rich_help_panel=_LENGTH)
    ] = 0.0,
    compare: Annotated[
        Path | None,
        typer.Option(
            help="An earlier --json: faster or slower now? Without a model, its own are measured again.",
            rich_help_panel=_REPORT,
        ),
    ] = None,
    json: Annotated[
        str | None, typer.Option("--json", help="Everything; - is stdout.", rich_help_panel=_REPORT)
    ] = None,
    csv: Annotated[str | None, typer.Option("--csv", help="A row each; - is stdout.", rich_help_panel=_REPORT)] = None,
    markdown: Annotated[str | None, typer.Option(help="Tables; - is stdout.", rich_help_panel=_REPORT)] = None,
    html: Annotated[str | None, typer.Option(help="A page with plots, in one file.", rich_help_panel=_REPORT)] = None,
    plot: Annotated[
        str | None,
        typer.Option(help="Speed against accuracy as .png, .svg or .pdf; needs matplotlib.", rich_help_panel=_REPORT),
    ] = None,
    force: running.Force = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables.")] = False,
    decoder: options.Decoder = None,
    labels: options.Labels = None,
    input_range: options.InputRange = None,
    color: options.Color = None,
    resize: options.Resize = None,
    layout: options.Layout = None,
) -> None:
    """Measure how fast models run on this device, from capture to sink.

    Variants alternate in rounds, so that whatever else happens meets all of them alike. What makes the numbers
    doubtful (other programs, heat, a lowered clock) is said.
    """
    files = {"--json": json, "--csv": csv, "--markdown": markdown, "--html": html, "--plot": plot}
    targets = {flag: target for flag, target in files.items() if target is not None}
    reports.check_targets(targets, force)
    if plot is not None:
        from edge.benchmark.plot import check_plot

        check_plot(Path(plot))
    from edge.cv import require_opencv

    require_opencv()
    from edge.benchmark.compare import compare_reports
    from edge.benchmark.document import read_report

    old = None if compare is None else read_report(compare)
    given = [*(models or ()), *(model or ())]
    stored = [path for path in given if path.suffix == ".json"]
    if stored:
        if len(given) > 1:
            raise InputError(f"{stored[0]}: an earlier measurement is reported on alone, found {len(given)} files")
        report = read_report(stored[0])
        _write(report, None if old is None else compare_reports(report, old), targets, quiet)
        return
    from edge.benchmark.measure import MODES
    from edge.benchmark.plan import Plan
    from edge.benchmark.variant import Variant, parse_sweeps, variants
    from edge.spec.resolve import Overrides

    sweeps = parse_sweeps(sweep or [])
    wanted = MODES if modes == "all" else tuple(mode.strip() for mode in modes.split(","))
    if unknown := [mode for mode in wanted if mode not in MODES]:
        raise InputError(f"--modes {unknown[0]!r}: expected some of {', '.join(MODES)}, with commas, or all")
    if old is not None and not given and not sweeps:
        chosen = [
            Variant(
                find_model(Path(row["model"])),
                row["num_threads"],
                row["delegate"],
                tuple(row["swept_wh"]) if row["swept_wh"] else None,
                row["label"],
            )
            for row in old["results"]
        ]
        if source is None and not old["source"].get("synthetic"):
            source = old["source"]["name"]
    else:
        paths = [find_model(path) for path in given] or [default_model()]
        chosen = variants(paths, threads, delegate, sweeps)
    plan = Plan(
        variants=chosen,
        overrides=Overrides(
            decoder=decoder, labels=labels, input_range=input_range, color=color, resize=resize, layout=layout
        ),
        modes=[mode for mode in MODES if mode in wanted],
        source=source,
        sink=sink.value,
        warmup=warmup,
        runs=runs,
        seconds=seconds,
        rounds=rounds,
        fps=fps,
        starts=cold_starts,
        minutes=minutes,
        profile=profile,
    )
    report, interrupted = measured(plan, quiet)
    _write(report, None if old is None else compare_reports(report, old), targets, quiet)
    if interrupted:
        raise KeyboardInterrupt


def measured(plan: Plan, quiet: bool) -> tuple[dict[str, Any], bool]:
    """Measure with a progress line; returns the report, and whether the user interrupted it."""
    from edge.benchmark.run import Measurement

    interrupted = False
    with running.native_silence(), _progress(quiet) as told:
        measurement = Measurement(plan, told)
        try:
            measurement.run()
        except KeyboardInterrupt:
            interrupted = True
        return measurement.report(), interrupted


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show what is being done in one line that goes away; nothing where stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(escape(text))


def _write(report: dict[str, Any], comparison: dict[str, Any] | None, targets: dict[str, str], quiet: bool) -> None:
    """Write the reports that were asked for, and print the tables."""
    from edge.benchmark.document import to_json

    for flag, target in targets.items():
        content: str | bytes
        if flag == "--json":
            content = to_json(report if comparison is None else {**report, "comparison": comparison})
        elif flag == "--plot":
            from edge.benchmark.plot import draw_plot

            content = draw_plot(report, Path(target).suffix.lower()[1:])
        elif flag == "--html":
            from edge.benchmark.html import to_html

            content = to_html(report, comparison)
        else:
            from edge.benchmark.text import to_csv, to_markdown

            content = to_csv(report) if flag == "--csv" else to_markdown(report, comparison)
        reports.put(target, content)
    if quiet:
        return
    from edge.benchmark.table import WIDTH, print_report

    print_report(report, report_console("-" in targets.values(), WIDTH), comparison)


def report_console(on_stderr: bool, width: int) -> Any:
    """Return where tables go: stdout, or stderr where stdout carries a report; as wide as they need off a terminal."""
    from rich.console import Console

    stream = sys.stderr if on_stderr else sys.stdout
    return Console(stderr=on_stderr, width=None if stream.isatty() else width)
