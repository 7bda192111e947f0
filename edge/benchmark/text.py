"""A report as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from typing import Any

from edge.benchmark import words
from edge.benchmark.compare import METRICS
from edge.benchmark.words import number

COLUMNS = (
    "model,name,format,model_size_mb,accuracy_metric,accuracy,delegate,num_threads,width,height,operators,delegated,"
    "partitions,arena_bytes,init_ms,warmup_first_ms,warmup_avg_ms,avg_ms,min_ms,max_ms,median_ms,std_ms,p5_ms,p90_ms,p95_ms,p99_ms,"
    "num_runs,spread,cpu_ms,sequential_fps,pipelined_fps,throughput_fps,live_fps,frame_p50_ms,frame_p95_ms,age_p50_ms,"
    "age_p95_ms,cpu_ms_per_frame,cold_total_ms,cold_load_ms,cold_first_inference_ms,peak_rss_mb,model_rss_mb,problem"
).split(",")
"""Of the CSV, in order; those of the latency are named as in LiteRT's own tool."""


def to_csv(report: dict[str, Any]) -> str:
    """Return a row per variant below a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in report["results"]:
        writer.writerow({key: _cell(value) for key, value in _flat(row).items()})
    return out.getvalue()


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    latency, modes, cold = row["latency"] or {}, row["modes"], row["cold"] or {}
    accuracy, sequential = row.get("accuracy") or {}, modes.get("sequential") or {}
    frame, age = sequential.get("frame") or {}, (modes.get("live") or {}).get("age") or {}
    width, height = row.get("input_wh") or (None, None)
    flat: dict[str, Any] = {name: latency[name] for name in COLUMNS if name in latency}
    flat |= {name: row[name] for name in COLUMNS if name in row and name != "accuracy"}
    flat |= {f"{mode}_fps": words.fps(row, mode) for mode in words.MODE_NAMES}
    return flat | {
        "accuracy_metric": accuracy.get("metric"),
        "accuracy": accuracy.get("value"),
        "width": width,
        "height": height,
        "frame_p50_ms": frame.get("p50_ms"),
        "frame_p95_ms": frame.get("p95_ms"),
        "age_p50_ms": age.get("p50_ms"),
        "age_p95_ms": age.get("p95_ms"),
        "cpu_ms_per_frame": sequential.get("cpu_ms_per_frame"),
        "cold_total_ms": cold.get("total_ms"),
        "cold_load_ms": cold.get("load_ms"),
        "cold_first_inference_ms": cold.get("first_inference_ms"),
        "peak_rss_mb": cold.get("peak_rss_mb"),
        "model_rss_mb": cold.get("model_rss_mb"),
    }


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def to_markdown(report: dict[str, Any], comparison: dict[str, Any] | None = None) -> str:
    """Return tables for a README or an issue: the formats as users of the field know them, then the modes."""
    rows = [row for row in report["results"] if row["latency"] is not None]
    lines = [f"- {line}" for line in words.setting_lines(report)]
    if heat := words.heat_line(report):
        lines.append(f"- {heat}")
    lines += [f"- **warning:** {warning}" for warning in report["warnings"]]
    for row in report["results"]:
        if row["problem"]:
            lines.append(f"- **failed:** {words.title(row)}: {row['problem']}")
    lines += ["", *_grid(["Model", "Format", "Size (MB)", words.metric_name(rows), "Runs on"], 2)]
    lines[-2] += " Inference (ms) | FPS |"
    lines[-1] += " ---: | ---: |"
    for row in rows:
        value = words.accuracy(row)
        cells = [row["label"], row["format"], number(row["model_size_mb"]), "-" if value is None else f"{value:.3f}"]
        cells += [words.how(row), number(words.median_ms(row)), number(words.best_fps(row))]
        lines.append(_line(cells))
    lines += [
        "",
        *_grid(["Model", "Runs on", "p95 (ms)", "One by one (fps)", "Pipelined (fps)", "Throughput (fps)"], 2),
    ]
    lines[-2] += " Age p50 / p95 (ms) | Start (ms) | Peak RAM (MB) |"
    lines[-1] += " ---: | ---: | ---: |"
    for row in rows:
        age, cold = (row["modes"].get("live") or {}).get("age") or {}, row["cold"] or {}
        rates = [number(words.fps(row, mode)) for mode in ("sequential", "pipelined", "throughput")]
        ages = f"{number(age['p50_ms'])} / {number(age['p95_ms'])}" if age else "-"
        start = [number(cold.get("total_ms")), number(cold.get("peak_rss_mb"))]
        lines.append(_line([row["label"], words.how(row), number(row["latency"].get("p95_ms")), *rates, ages, *start]))
    if comparison is not None:
        lines += ["", f"Compared with {comparison['old']}; below 1 is faster:", ""]
        lines += _grid(["Variant", "What", "Then (ms)", "Now (ms)", "Ratio", "95% interval", "Verdict"], 2)
        for found in comparison["rows"]:
            interval = "-" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
            cells = [found["key"], METRICS[found["metric"]], number(found["old_ms"]), number(found["new_ms"])]
            lines.append(_line([*cells, f"{found['ratio']:.3f}", interval, found["verdict"]]))
    return "\n".join(lines) + "\n"


def _grid(names: list[str], left: int) -> list[str]:
    return [_line(names), "| " + " | ".join("---" if i < left else "---:" for i in range(len(names))) + " |"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
