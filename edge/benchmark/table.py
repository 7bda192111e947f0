"""A report on the terminal, in 100 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edge.benchmark import words
from edge.benchmark.compare import METRICS
from edge.benchmark.profile import TOP, by_kind
from edge.benchmark.words import number

WIDTH = 100
MOST_STAGE_TABLES = 3


def print_report(report: dict[str, Any], console: Console, comparison: dict[str, Any] | None = None) -> None:
    """Print everything that a report says.

    Args:
        report: Of `Measurement.report`, or read again.
        console: Where to.
        comparison: With an earlier one, of `compare_reports`.
    """
    rows = [row for row in report["results"] if row["latency"] is not None]
    for line in words.setting_lines(report):
        console.print(f"[dim]{escape(line)}[/]", highlight=False)
    if heat := words.heat_line(report):
        console.print(f"[dim]{heat}[/]", highlight=False)
    parts: list[RenderableType] = []
    if rows:
        parts += [_speed(rows), _models(rows), *_stages(rows), *_profiles(rows), *_sustained(rows)]
    if comparison is not None:
        parts.append(_comparison(comparison))
    for part in parts:
        console.print()
        console.print(part)
    console.print()
    for row in report["results"]:
        if row["problem"]:
            console.print(f"[red]failed:[/] {escape(words.title(row))}: {escape(row['problem'])}", highlight=False)
    if comparison is not None:
        for note in comparison["notes"]:
            console.print(f"[yellow]differs:[/] {escape(note)}", highlight=False)
        for which, keys in (("now", comparison["only_new"]), ("then", comparison["only_old"])):
            if keys:
                console.print(f"only measured {which}: {escape(', '.join(keys))}", highlight=False)
    for warning in report["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    if not report["complete"]:
        console.print("[yellow]interrupted:[/] this is what was measured until then", highlight=False)


def _table(*columns: str, left: int = 1) -> Table:
    """Return an empty table whose first `left` columns are text, and may fold."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, name in enumerate(columns):
        table.add_column(
            name, justify="left" if index < left else "right", overflow="fold", vertical="bottom", no_wrap=index >= left
        )
    return table


def _titled(title: str, *parts: RenderableType) -> Group:
    return Group(Text(title, style="bold"), *parts)


def _speed(rows: list[dict[str, Any]]) -> Group:
    table = _table(
        "model",
        "on",
        "thr.",
        "infer.\nms p50",
        "±",
        "p95",
        "one by\none fps",
        "pipe-\nlined",
        "through-\nput",
        "age ms\np50 / p95",
        "CPU ms\na frame",
        left=2,
    )
    best = {mode: max((words.fps(row, mode) or 0.0 for row in rows), default=0.0) for mode in words.MODE_NAMES}
    fastest = min((ms for row in rows if (ms := words.median_ms(row)) is not None), default=None)

    def mark(text: str, is_best: bool) -> Text:
        return Text(text, style="bold green" if is_best and len(rows) > 1 else "")

    for row in rows:
        latency, modes = row["latency"], row["modes"]
        live = (modes.get("live") or {}).get("age") or {}
        cells = [
            mark(number(words.fps(row, mode)), words.fps(row, mode) == best[mode] and best[mode] > 0)
            for mode in ("sequential", "pipelined", "throughput")
        ]
        spread = latency.get("spread")
        table.add_row(
            Text(words.short(row)),
            Text(words.device(row)),
            str(row["num_threads"]),
            mark(number(latency.get("median_ms")), latency.get("median_ms") == fastest and fastest is not None),
            "-" if spread is None else f"{spread:.0%}",
            number(latency.get("p95_ms")),
            *cells,
            f"{number(live['p50_ms'])} / {number(live['p95_ms'])}" if live else "-",
            number((modes.get("sequential") or {}).get("cpu_ms_per_frame")),
        )
    title = "Speed: the bare inference in ms, frames per second from capture to sink, age of live results"
    return _titled(title, table)


def _models(rows: list[dict[str, Any]]) -> Group:
    table = _table(
        "model",
        "on",
        "format",
        "MB",
        words.metric_name(rows).replace("-", "-\n"),
        "input",
        "delegated\nin parts",
        "start\nms",
        "load\nms",
        "first\nms",
        "peak\nRAM MB",
        "model\nMB",
        "arena\nMB",
    )
    for row in rows:
        cold = row["cold"] or {}
        value = words.accuracy(row)
        table.add_row(
            Text(words.short(row)),
            Text(words.where(row)),
            row["format"],
            number(row["model_size_mb"]),
            "-" if value is None else f"{value:.3f}",
            words.size(row),
            words.graph_short(row),
            number(cold.get("total_ms")),
            number(cold.get("load_ms")),
            number(cold.get("first_inference_ms")),
            number(cold.get("peak_rss_mb")),
            number(cold.get("model_rss_mb")),
            number(words.arena_mb(row)),
        )
    title = "Files, and a start in a new process: from nothing to the first result, its parts, resident memory"
    return _titled(title, table)


def _stages(rows: list[dict[str, Any]]) -> list[RenderableType]:
    tables: list[RenderableType] = []
    for row in rows:
        mode = next((m for m in ("sequential", "pipelined", "live") if (row["modes"].get(m) or {}).get("stages")), None)
        if mode is None or len(tables) == MOST_STAGE_TABLES:
            continue
        title = f"Stages of a frame, {words.MODE_NAMES[mode]}: {words.title(row)}"
        table = _table("stage", "p50 ms", "p90", "p95", "p99", "max")
        found = row["modes"][mode]
        stages = dict(found["stages"])
        if found.get("frame"):
            stages["whole frame"] = found["frame"]
        for stage, times in stages.items():
            values = (times[f"{name}_ms"] for name in ("p50", "p90", "p95", "p99", "max"))
            table.add_row(stage, *(number(value) for value in values))
        tables.append(_titled(title, table))
    if len(rows) > len(tables) == MOST_STAGE_TABLES:
        tables.append(Text(f"and {len(rows) - MOST_STAGE_TABLES} more: --html or --json has all", style="dim"))
    return tables


def _profiles(rows: list[dict[str, Any]]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for row in rows:
        found = row["profile"]
        if found is None:
            continue
        title = f"Operators: {words.title(row)}"
        if found["problem"]:
            parts.append(Text(f"{title}: {found['problem']}"))
            continue
        if len(parts) == MOST_STAGE_TABLES:
            break
        kinds = _table("operators by kind", "count", "ms", "share")
        for kind in by_kind(found["operators"])[:TOP]:
            kinds.add_row(Text(kind["name"]), str(kind["count"]), number(kind["median_ms"]), f"{kind['share']:.0%}")
        slowest = _table(f"the slowest of {len(found['operators'])}", "node", "ms", "share")
        for one in found["operators"][:TOP]:
            slowest.add_row(Text(one["name"]), str(one["node"]), number(one["median_ms"]), f"{one['share']:.1%}")
        note = Text(
            f"operators together {number(found['total_ms'])} ms, the whole inference {number(found['invoke_ms'])} ms "
            f"under the profiler; medians of {found['runs']} runs, after fusion by the runtime",
            style="dim",
        )
        parts.append(_titled(title, kinds, slowest, note))
    return parts


def _sustained(rows: list[dict[str, Any]]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for row in rows:
        found = row["sustained"]
        if not found or not found["windows"]:
            continue
        table = _table("until s", "fps", "hottest C", "CPU MHz", "slowed down by")
        windows = found["windows"]
        step = max(1, len(windows) // 20)
        for window in windows[step - 1 :: step]:
            table.add_row(
                f"{window['end_s']:.0f}",
                number(window["fps"]),
                number(window["temperature_c"]),
                number(window["cpu_mhz"], 4),
                ", ".join(window["throttled"]) or "-",
            )
        said = f"first {found['edge_s']:.0f} s {number(found['first_fps'])} fps, last {number(found['last_fps'])} fps"
        if found["drop"] is not None:
            said += f": {'a drop of' if found['drop'] >= 0 else 'a rise of'} {abs(found['drop']):.1%}"
        if found["hottest_c"] is None:
            said += "; this kernel shows no temperature"
        parts.append(_titled(f"Sustained: {words.worker(row)}", table, Text(said, style="bold")))
    return parts


def _comparison(found: dict[str, Any]) -> Group:
    table = _table(
        "variant",
        "what",
        "then ms",
        "now ms",
        "ratio",
        "95% interval",
        "",
        left=2,
    )
    colors = {"faster": "green", "slower": "red"}
    for row in found["rows"]:
        known = row["low"] is not None
        table.add_row(
            Text(row["key"]),
            METRICS[row["metric"]],
            number(row["old_ms"]),
            number(row["new_ms"]),
            f"{row['ratio']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}" if known else "-",
            Text(row["verdict"], style=colors.get(row["verdict"], "")),
        )
    return _titled(f"Compared with the measurement of {found['old']}: time now by time then", table)
