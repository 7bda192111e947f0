"""`edge tune`: picks the model and the way to run it that suit this device, by measurement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.bundled import BUNDLED, bundled_model
from edge.cli import benchmark as bench
from edge.cli import reports
from edge.errors import InputError, OutputError
from edge.zoo.cache import find_model
from edge.zoo.table import MODELS

if TYPE_CHECKING:
    from edge.benchmark.choose import Candidate
    from edge.config.edit import Value

_WHAT, _LENGTH, _RESULT = "What is tried", "How long", "What is done with the result"
_MOST_THREADS = 4


def tune(
    target_fps: Annotated[
        float, typer.Option(help="Frames per second that are needed, of all cameras together.", show_default=False)
    ],
    models: Annotated[
        list[Path] | None,
        typer.Argument(help="Model files or names to choose from; the bundled ones by default.", show_default=False),
    ] = None,
    model: bench.MoreModels = None,
    min_map: Annotated[
        float | None,
        typer.Option(
            "--min-map", help="Least accuracy, 0..1, as the files carry it: mAP50-95, or top1.", show_default=False
        ),
    ] = None,
    source: bench.Source = None,
    delegate: Annotated[
        str, typer.Option(help="Where to try it: cpu,gpu or others, with commas.", rich_help_panel=_WHAT)
    ] = "cpu",
    threads: Annotated[
        str | None,
        typer.Option(
            help="CPU threads to try, with commas; 1, 2, 4 up to the cores by default.",
            rich_help_panel=_WHAT,
            show_default=False,
        ),
    ] = None,
    sink: Annotated[
        bench.SinkChoice, typer.Option(help="What is done with results meanwhile.", rich_help_panel=_WHAT)
    ] = bench.SinkChoice.JPEG,
    runs: Annotated[int, typer.Option(help="Frames of each mode of each variant.", rich_help_panel=_LENGTH)] = 200,
    seconds: Annotated[float, typer.Option(help="Time for them, if it ends sooner.", rich_help_panel=_LENGTH)] = 4.0,
    rounds: Annotated[int, typer.Option(help="Turns in which variants alternate.", rich_help_panel=_LENGTH)] = 4,
    config: Annotated[
        Path,
        typer.Option(help="Where the choice goes: an edge.toml, written anew or changed.", rich_help_panel=_RESULT),
    ] = Path("edge.toml"),
    name: Annotated[
        str | None,
        typer.Option(
            help="Which model of it is meant; its first, else default.", rich_help_panel=_RESULT, show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the choice and write nothing.", rich_help_panel=_RESULT)
    ] = False,
    json: Annotated[
        str | None,
        typer.Option("--json", help="The measurement and the choice; - is stdout.", rich_help_panel=_RESULT),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite --json where it exists.", rich_help_panel=_RESULT)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")] = False,
) -> None:
    """Pick model, format, threads, delegate and number of interpreters for this device, by measurement.

    Of those that keep the rate in every round and are accurate enough, the most accurate is taken; of equally accurate
    ones, the one that needs the least CPU time. The choice is written to a model's table of an edge.toml: path,
    delegate, threads and interpreters. Everything else in the file stays.
    """
    if not 0 < target_fps <= 1e6:
        raise InputError(f"--target-fps {target_fps:g}: expected a number above 0")
    if min_map is not None and not 0 <= min_map <= 1:
        raise InputError(f"--min-map {min_map:g}: expected a number from 0 to 1")
    targets = {} if json is None else {"--json": json}
    reports.check_targets(targets, force)
    # Before minutes of measuring: what cannot be written in the end is said now.
    text, table = _config(config, name)
    from edge.cv import require_opencv

    require_opencv()
    from edge.benchmark.choose import candidates, choose
    from edge.benchmark.environment import usable_cores
    from edge.benchmark.plan import Plan
    from edge.benchmark.variant import parse_sweeps, variants

    given = [*(models or ()), *(model or ())] or [Path(name) for name in BUNDLED]
    paths = {find_model(path): path for path in given}
    if threads is not None and not all(n.strip().isdecimal() and 1 <= int(n) <= 64 for n in threads.split(",")):
        raise InputError(f"--threads {threads}: expected numbers from 1 to 64, like 1,2,4")
    counts = threads or ",".join(str(n) for n in (1, 2, 4) if n <= min(usable_cores(), _MOST_THREADS))
    sweeps = parse_sweeps([f"threads={counts}", f"delegate={delegate}"])
    plan = Plan(
        variants=_without_repeats(variants(list(paths), None, "cpu", sweeps)),
        modes=["invoke", "pipelined", "throughput", "live"],
        source=source,
        sink=sink.value,
        runs=runs,
        seconds=seconds,
        rounds=rounds,
        starts=0,
    )
    report, interrupted = bench.measured(plan, quiet)
    if interrupted:
        raise KeyboardInterrupt
    ranked = choose(candidates(report), target_fps, min_map)
    chosen = ranked[0] if ranked[0].why_not is None else None
    values = None if chosen is None else _values(chosen, paths[Path(chosen.row["model"])], config)
    for target in targets.values():
        reports.put(target, _as_json(report, ranked, values))
    if not quiet:
        _show(report, ranked, "-" in targets.values())
    if values is None:
        limit = "" if min_map is None else f" with an accuracy of {min_map:g} or more"
        advice = "a smaller model or input, another --delegate, or ask for less"
        if min_map is not None and all((one.accuracy or 0) < min_map for one in ranked):
            advice = "a more accurate model, or one that edge convert --data with labels has measured"
        raise InputError(f"--target-fps {target_fps:g}{limit}: none of {len(ranked)} ways keeps it here; try {advice}")
    said = ", ".join(f"{key} = {value}" for key, value in values.items())
    if dry_run:
        typer.echo(f"nothing was written; in {config} [{'.'.join(table)}] would be: {said}", err=True)
        return
    from edge.config.edit import edit_file

    edit_file(config, text, table, values)
    typer.echo(f"{config}: [{'.'.join(table)}] is now {said}", err=True)
    _note(config, table[1])


def _config(path: Path, name: str | None) -> tuple[str, tuple[str, str]]:
    """Return the text of a configuration, an example where there is none, and the table that is meant.

    Raises:
        InputError: It cannot be read or is no TOML, or the name is none.
        OutputError: It cannot be written.
    """
    import tomllib

    from edge.config.schema import NAME

    if name is not None and not NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: expected letters, digits, - and _, at most 64")
    if path.is_dir():
        raise OutputError(f"--config {path}: is a folder; expected a file name")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"--config {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"--config {path}: no permission to write to {folder}")
    if not path.exists():
        from edge.config.template import template

        return template(str(path)), ("models", name or "default")
    try:
        text = path.read_bytes().decode()
        data: dict[str, Any] = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"--config {path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config {path}: not valid TOML ({error})") from error
    held = data.get("models", {})
    first = next(iter(held), "default") if isinstance(held, dict) else "default"
    return text, ("models", name or first)


def _note(config: Path, name: str) -> None:
    """Say why the choice may have no effect: the file is wrong elsewhere, or no camera uses the model."""
    from edge.config.diff import model_of, running
    from edge.config.load import load_config

    try:
        loaded = load_config(config).config
    except InputError as error:
        typer.echo(f"note: {error}", err=True)
        return
    if all(model_of(loaded, camera) != name for camera in running(loaded)):
        typer.echo(f'note: no camera uses it; put model = "{name}" into one', err=True)


def _without_repeats(found: list[Any]) -> list[Any]:
    """Return variants of which those on an accelerator have one number of threads: it does not matter there."""
    kept: list[Any] = []
    for variant in found:
        if variant.delegate == "cpu" or all(one.group != variant.group for one in kept):
            kept.append(variant)
    return kept


def _values(chosen: Candidate, given: Path, config: Path) -> dict[str, Value]:
    """Return what goes into the configuration."""
    path = given
    if bundled_model(str(given)) is None and (str(given) not in MODELS or given.is_file()):
        real, folder = given.absolute(), config.absolute().parent
        path = real.relative_to(folder) if real.is_relative_to(folder) else real
    return {
        # In an edge.toml, ${ begins a variable.
        "path": str(path).replace("${", "$${"),
        "delegate": str(chosen.row["delegate"]),
        "threads": chosen.threads,
        "interpreters": chosen.interpreters,
    }


def _as_json(report: dict[str, Any], ranked: list[Candidate], values: dict[str, Value] | None) -> str:
    from edge.benchmark.document import to_json

    rows = [
        {
            "key": one.row["key"],
            "mode": one.mode,
            "interpreters": one.interpreters,
            "threads": one.threads,
            "slowest_fps": one.fps,
            "accuracy": one.accuracy,
            "cpu_ms_per_frame": one.cpu_ms,
            "age_p95_ms": one.age_ms,
            "refused": one.why_not,
        }
        for one in ranked
    ]
    return to_json({**report, "tune": {"chosen": values, "candidates": rows}})


def _show(report: dict[str, Any], ranked: list[Candidate], on_stderr: bool) -> None:
    """Print the table of choices."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from edge.benchmark import words
    from edge.benchmark.table import WIDTH
    from edge.benchmark.words import number

    console = bench.report_console(on_stderr, WIDTH)
    for line in words.setting_lines(report):
        console.print(f"[dim]{escape(line)}[/]", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "model", "on"):
        table.add_column(column, overflow="fold", vertical="bottom")
    metric = words.metric_name([one.row for one in ranked])
    for column in ("interp. x\nthreads", "slowest\nfps", metric, "CPU ms\na frame", "age p95\nms"):
        table.add_column(column, justify="right", no_wrap=True, vertical="bottom")
    table.add_column("why", overflow="fold", vertical="bottom")
    for one in ranked:
        style = "bold green" if one.why_not is None else ""
        cells = [
            ">" if one.why_not is None else "",
            one.name,
            words.device(one.row),
            f"{one.interpreters} x {one.threads}",
            number(one.fps),
            "-" if one.accuracy is None else f"{one.accuracy:.3f}",
            number(one.cpu_ms),
            number(one.age_ms),
            one.why_not or "chosen",
        ]
        table.add_row(*(Text(cell, style=style) for cell in cells))
    console.print()
    console.print(table)
    console.print()
    for warning in report["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
