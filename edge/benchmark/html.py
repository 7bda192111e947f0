"""A report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from html import escape
from typing import Any

from edge.benchmark import svg, words
from edge.benchmark.compare import METRICS
from edge.benchmark.profile import TOP, by_kind
from edge.benchmark.words import number

_STYLE = """
:root{color-scheme:light dark}
:root{--bg:#fff;--fg:#1b2330;--dim:#5b6675;--line:#e3e7ee;--card:#f7f8fa;--warn:#8a5300;--warnbg:#fff4df;--good:#0a7a3c;
--bad:#b3261e;--s0:#3b6fd4;--s1:#e0862f;--s2:#2f9e6e;--s3:#c2528b;--s4:#7b62c9;--s5:#c94f3f;--s6:#5f8f9e;--s7:#9a8b2f}
@media (prefers-color-scheme:dark){:root{--bg:#14181f;--fg:#e6e9ef;--dim:#97a1b0;--line:#2c3440;--card:#1b212a;
--warn:#ffcf86;--warnbg:#3a2b12;--good:#5ad08f;--bad:#ff8a80;--s0:#6f9bf0;--s1:#f0a35c;--s2:#58c596;--s3:#e287b3;
--s4:#a592ea;--s5:#ec8172;--s6:#8db9c6;--s7:#c9ba5f}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 22px 60px}h1{font-size:24px;margin:0 0 6px}h2{font-size:17px;
margin:34px 0 10px}p{margin:4px 0}.dim{color:var(--dim)}.scroll{overflow-x:auto}table{border-collapse:collapse;
width:100%;font-variant-numeric:tabular-nums;font-size:14px}th,td{padding:6px 8px;text-align:right;border-bottom:1px
solid var(--line)}td{white-space:nowrap}th{color:var(--dim);font-weight:600;vertical-align:bottom}th.l,td.l{text-align:
left}td.l{white-space:normal;min-width:84px}td.l:first-child{min-width:150px;overflow-wrap:anywhere}td.best{color:var(--good);font-weight:700}.faster{color:var(--good)}.slower{color:var(--bad)}
.warn{background:var(--warnbg);color:var(--warn);border-radius:8px;padding:10px 14px;margin:14px 0}.warn p{margin:3px 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px;margin:10px 0}
svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font:12px system-ui,sans-serif}svg .label{fill:
var(--fg)}svg .grid{stroke:var(--line)}svg .error{stroke:var(--dim);stroke-width:1.5}svg .front{fill:none;stroke:
var(--dim);stroke-dasharray:4 4}details{margin:10px 0}summary{cursor:pointer;font-weight:600}
""".strip()


def to_html(report: dict[str, Any], comparison: dict[str, Any] | None = None) -> str:
    """Return the page.

    Args:
        report: Of `Measurement.report`, or read again.
        comparison: With an earlier one, of `compare_reports`.
    """
    rows = [row for row in report["results"] if row["latency"] is not None]
    body = [f"<h1>Benchmark of {_subject(rows)}</h1>"]
    body += [f'<p class="dim">{escape(line)}</p>' for line in words.setting_lines(report)]
    if heat := words.heat_line(report):
        body.append(f'<p class="dim">{heat}</p>')
    body.append(f'<p class="dim">{escape(report["created"])}, edge {escape(report["edge_version"])}</p>')
    said = [f"Warning: {text}." for text in report["warnings"]]
    said += [f"Failed: {words.title(row)}: {row['problem']}" for row in report["results"] if row["problem"]]
    if not report["complete"]:
        said.append("Interrupted: this is what was measured until then.")
    if said:
        body.append('<div class="warn">' + "".join(f"<p>{escape(text)}</p>" for text in said) + "</div>")
    if rows:
        body += [_scatter(rows), _speed(rows), _stacked(rows), _models(rows), *_details(rows)]
    if comparison is not None:
        body.append(_comparison(comparison))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>edge benchmark</title><style>{_STYLE}</style></head>\n'
        "<body><main>\n" + "\n".join(part for part in body if part) + "\n</main></body></html>\n"
    )


def _subject(rows: list[dict[str, Any]]) -> str:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    return escape(labels[0] if len(labels) == 1 else f"{len(labels)} models")


def _table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Return a table; a cell that begins with "!" is the best of its column."""
    cells = "".join(f'<th class="{"l" if i < left else ""}">{escape(name)}</th>' for i, name in enumerate(head))
    out = [f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>']
    for row in rows:
        out.append("<tr>")
        for i, cell in enumerate(row):
            kind = "l" if i < left else "best" if cell.startswith("!") else ""
            if cell in ("faster", "slower"):
                kind = cell
            out.append(f'<td class="{kind}">{escape(cell.removeprefix("!"))}</td>')
        out.append("</tr>")
    return "".join([*out, "</tbody></table></div>"])


def _scatter(rows: list[dict[str, Any]]) -> str:
    formats = list(dict.fromkeys(row["format"] for row in rows))
    points = [
        svg.Point(ms, value, row["latency"].get("spread") or 0.0, words.title(row), formats.index(row["format"]))
        for row in rows
        if (ms := words.median_ms(row)) is not None and (value := words.accuracy(row)) is not None
    ]
    if not points:
        return (
            '<p class="dim">No plot of speed against accuracy: the files carry no accuracy, which edge convert '
            "measures with --data.</p>"
        )
    if len(points) < 2:
        return ""
    plot = svg.scatter(points, "milliseconds of the bare inference, median", words.metric_name(rows))
    data = "; ".join(sorted({row["accuracy"]["dataset"] for row in rows if row.get("accuracy")}))
    note = "The dashed line joins what nothing else beats; whiskers are the spread of the rounds. Accuracy: "
    return f'<h2>Speed against accuracy</h2><div class="card">{plot}</div><p class="dim">{note}{escape(data)}</p>'


def _speed(rows: list[dict[str, Any]]) -> str:
    head = ["Model", "Runs on", "Inference ms p50", "± rounds", "p95", "p99", "One by one fps", "Pipelined fps"]
    head += ["Throughput fps", "Live fps", "Age ms p50 / p95", "CPU ms a frame"]
    best = {mode: max((words.fps(row, mode) or 0.0 for row in rows), default=0.0) for mode in words.MODE_NAMES}
    fastest = min((ms for row in rows if (ms := words.median_ms(row)) is not None), default=None)
    several = len(rows) > 1

    def rate(row: dict[str, Any], mode: str) -> str:
        value = words.fps(row, mode)
        mark = "!" if several and value is not None and value == best[mode] and mode != "live" else ""
        return mark + number(value)

    body = []
    for row in rows:
        latency, age = row["latency"], (row["modes"].get("live") or {}).get("age") or {}
        spread = latency.get("spread")
        mark = "!" if several and fastest is not None and words.median_ms(row) == fastest else ""
        body.append(
            [
                words.short(row),
                words.how(row),
                mark + number(words.median_ms(row)),
                "-" if spread is None else f"{spread:.0%}",
                number(latency.get("p95_ms")),
                number(latency.get("p99_ms")),
                *(rate(row, mode) for mode in words.MODE_NAMES),
                f"{number(age['p50_ms'])} / {number(age['p95_ms'])}" if age else "-",
                number((row["modes"].get("sequential") or {}).get("cpu_ms_per_frame")),
            ]
        )
    return "<h2>Speed</h2>" + _table(head, body, 2)


def _stacked(rows: list[dict[str, Any]]) -> str:
    bars = []
    for row in rows:
        stages = (row["modes"].get("sequential") or {}).get("stages")
        if stages:
            bars.append((words.title(row), {stage: float(times["p50_ms"]) for stage, times in stages.items()}))
    if not bars:
        return ""
    return (
        f'<h2>Where a frame\'s time goes</h2><div class="card">{svg.stacked(bars)}</div><p class="dim">Medians of '
        + ("each stage, one frame after the other.</p>")
    )


def _models(rows: list[dict[str, Any]]) -> str:
    head = ["Model", "Format", "Size MB", words.metric_name(rows), "Input", "Graph", "Inference ms", "FPS"]
    head += ["Start ms to result", "of it: load", "first result", "Peak MB RAM", "of it: model", "Arena MB"]
    body = []
    for row in rows:
        cold, value = row["cold"] or {}, words.accuracy(row)
        body.append(
            [
                words.title(row),
                row["format"],
                number(row["model_size_mb"]),
                "-" if value is None else f"{value:.3f}",
                "x".join(map(str, row["input_wh"])),
                words.graph(row),
                number(words.median_ms(row)),
                number(words.best_fps(row)),
                *(number(cold.get(key)) for key in ("total_ms", "load_ms", "first_inference_ms", "peak_rss_mb")),
                number(cold.get("model_rss_mb")),
                number(words.arena_mb(row)),
            ]
        )
    note = '<p class="dim">FPS is that of the fastest mode. A start is that of a new process, with files in memory.</p>'
    return "<h2>Models</h2>" + _table(head, body, 2) + note


def _details(rows: list[dict[str, Any]]) -> list[str]:
    out = []
    for row in rows:
        found = row["sustained"]
        if found and found["windows"]:
            drop = "" if found["drop"] is None else f", {-found['drop']:+.1%}"
            said = (
                f"First {found['edge_s']:.0f} s {number(found['first_fps'])} fps, last {number(found['last_fps'])} fps"
            )
            out.append(f"<h2>Sustained: {escape(words.worker(row))}</h2>")
            out.append(f'<div class="card">{svg.over_time(found["windows"])}</div><p>{said}{drop}.</p>')
    for row in rows:
        for mode, found in row["modes"].items():
            if not found.get("stages"):
                continue
            stages = dict(found["stages"])
            for name in ("frame", "age"):
                if found.get(name):
                    stages["whole frame" if name == "frame" else "age of results"] = found[name]
            keys = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms")
            body = [[stage, *(number(times[key]) for key in keys)] for stage, times in stages.items()]
            table = _table(["Stage", "p50 ms", "p90", "p95", "p99", "max"], body)
            title = escape(f"Stages: {words.title(row)}, {words.MODE_NAMES[mode]}, {found['frames']} frames")
            out.append(f"<details><summary>{title}</summary>{table}</details>")
    for row in rows:
        found = row["profile"]
        if found and found["operators"]:
            kinds = [
                [kind["name"], str(kind["count"]), number(kind["median_ms"]), f"{kind['share']:.1%}"]
                for kind in by_kind(found["operators"])[:TOP]
            ]
            slow = [
                [one["name"], str(one["node"]), number(one["median_ms"]), f"{one['share']:.1%}"]
                for one in found["operators"][:TOP]
            ]
            out.append(f"<h2>Operators: {escape(words.title(row))}</h2>")
            out.append(_table(["By kind", "count", "ms", "share"], kinds))
            out.append(_table(["Slowest", "node", "ms", "share"], slow))
        elif found:
            out.append(f'<p class="dim">Operators: {escape(found["problem"])}.</p>')
    return out


def _comparison(found: dict[str, Any]) -> str:
    body = [
        [
            row["key"],
            METRICS[row["metric"]],
            number(row["old_ms"]),
            number(row["new_ms"]),
            f"{row['ratio']:.3f}",
            "-" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}",
            row["verdict"],
        ]
        for row in found["rows"]
    ]
    head = ["Variant", "What", "Then ms", "Now ms", "Ratio", "95% interval", "Verdict"]
    notes = "".join(f'<p class="dim">Differs: {escape(note)}</p>' for note in found["notes"])
    title = f"Compared with {escape(str(found['old']))}; below 1 is faster"
    return f"<h2>{title}</h2>" + _table(head, body, 2) + notes
