"""How numbers and variants of a report are written, the same in every form of it."""

from __future__ import annotations

from typing import Any

MODE_NAMES = {
    "sequential": "one by one",
    "pipelined": "pipelined",
    "throughput": "throughput",
    "live": "live",
}


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, and no more decimals than that; "-" for None."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:.{max(0, digits - whole)}f}"


def how(row: dict[str, Any]) -> str:
    """Return where and how a variant runs: "CPU, 2 threads, 320x320"."""
    threads = row["num_threads"]
    name = f"CPU, {threads} thread{'s' * (threads != 1)}" if row["delegate"] == "cpu" else str(row["delegate"])
    return name + (f", {row['swept_wh'][0]}x{row['swept_wh'][1]}" if row.get("swept_wh") else "")


def short(row: dict[str, Any]) -> str:
    """Return the name of a variant's file without its ending, with the size where that is swept."""
    name = str(row["label"]).removesuffix(".tflite")
    return f"{name} {row['swept_wh'][0]}x{row['swept_wh'][1]}" if row.get("swept_wh") else name


def device(row: dict[str, Any]) -> str:
    """Return what a variant runs on: "CPU", or the delegate, its file's name where it is one."""
    name = str(row["delegate"])
    return "CPU" if name == "cpu" else name.rpartition("/")[2]


def where(row: dict[str, Any]) -> str:
    """Return what a variant runs on, with its threads on the CPU: "CPU 2", "gpu"."""
    return f"CPU {row['num_threads']}" if row["delegate"] == "cpu" else device(row)


def title(row: dict[str, Any]) -> str:
    """Return what a variant is called."""
    return f"{str(row['label']).removesuffix('.tflite')}, {how(row)}"


def worker(row: dict[str, Any]) -> str:
    """Return what a sustained run had at work."""
    count = row["sustained"]["interpreters"]
    return title(row) if count == 1 else f"{short(row)}, CPU, {count} interpreters of one thread"


def fps(row: dict[str, Any], mode: str) -> float | None:
    """Return the frames per second of a mode; None where it was not measured."""
    value = (row["modes"].get(mode) or {}).get("fps")
    return None if value is None else float(value)


def best_fps(row: dict[str, Any]) -> float | None:
    """Return the frames per second of the fastest mode that is not held to a camera's pace."""
    rates = [rate for mode in ("sequential", "pipelined", "throughput") if (rate := fps(row, mode)) is not None]
    return max(rates, default=None)


def median_ms(row: dict[str, Any]) -> float | None:
    """Return the median of the bare inference."""
    value = (row["latency"] or {}).get("median_ms")
    return None if value is None else float(value)


def accuracy(row: dict[str, Any]) -> float | None:
    """Return the accuracy that the file carries, 0..1."""
    found = row.get("accuracy")
    return None if not found else float(found["value"])


def metric_name(rows: list[dict[str, Any]]) -> str:
    """Return what the accuracies of these variants are."""
    names = list(dict.fromkeys(row["accuracy"]["metric"] for row in rows if row.get("accuracy")))
    return names[0] if len(names) == 1 else "accuracy"


def graph(row: dict[str, Any]) -> str:
    """Return how much of a model the delegate runs."""
    if row.get("operators") is None:
        runtime = str(row.get("runtime") or "-")
        return runtime.partition(", ")[2] or runtime
    pieces = row["partitions"]
    return f"{row['delegated']} of {row['operators']} ops, {pieces} part{'s' * (pieces != 1)}"


def size(row: dict[str, Any]) -> str:
    """Return the size of the input: one number where it is square."""
    width, height = row["input_wh"]
    return str(width) if width == height else f"{width}x{height}"


def graph_short(row: dict[str, Any]) -> str:
    """Return operators that the delegate runs, of all, and in how many parts."""
    if row.get("operators") is None:
        return "-"
    return f"{row['delegated']}/{row['operators']} in {row['partitions']}"


def arena_mb(row: dict[str, Any]) -> float | None:
    """Return the least size of the arena for activations; None where it is not known, as in older reports."""
    found = row.get("arena_bytes")
    return None if found is None else found / 1e6


def setting_lines(report: dict[str, Any]) -> list[str]:
    """Return what was measured and on what, a few lines."""
    machine, source, settings = report["machine"], report["source"], report["settings"]
    memory = f", {machine['memory_mb'] / 1024:.0f} GB" if machine.get("memory_mb") else ""
    cores = machine["cores"]
    lines = [f"{machine['model']}, {cores} core{'s' * (cores != 1)}{memory}, {report['runtime']}"]
    if source.get("size_wh"):
        size = "x".join(map(str, source["size_wh"]))
        lines.append(
            f"{source['name']}, {size}; results: {settings['sink']}; {settings['rounds']} rounds in turn, "
            f"at most {settings['runs']} runs or {settings['seconds']:g} s of each mode"
        )
    if source.get("synthetic"):
        lines.append(
            "The clip shows little that a model knows: decoding, NMS and drawing take longer on a real --source."
        )
    return lines


def heat_line(report: dict[str, Any]) -> str | None:
    """Return temperatures and clocks before and after; None where the kernel shows none."""
    before, after = (report["environment"][f"device_{when}"] for when in ("before", "after"))
    said = []
    for what, key, unit, scale in (("hottest", "temperatures_c", "C", 1.0), ("CPU clock", "cpu_hz", "MHz", 1e-6)):
        if before[key] and after[key]:
            a, b = (max(reading[key].values()) * scale for reading in (before, after))
            said.append(f"{what} {a:.0f} {unit} before, {b:.0f} {unit} after")
    return "; ".join(said) or None
