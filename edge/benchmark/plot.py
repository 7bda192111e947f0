"""The plot of speed against accuracy as a picture file, where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.benchmark import svg, words
from edge.errors import InputError, MissingDependencyError


def check_plot(path: Path) -> None:
    """Check before anything is measured that a plot can be made.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InputError: The name is that of no picture.
    """
    from importlib.util import find_spec

    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot {path}: expected a name ending in .png, .svg or .pdf")
    if find_spec("matplotlib") is None:
        raise MissingDependencyError(
            "--plot needs matplotlib (pip install matplotlib); --html has the same plot and needs nothing"
        )


def draw_plot(report: dict[str, Any], kind: str) -> bytes:
    """Return a picture of the milliseconds of each variant against its accuracy.

    Args:
        report: With at least one variant whose file carries an accuracy.
        kind: "png", "svg" or "pdf".

    Raises:
        InputError: No file carries an accuracy.
    """
    import io

    rows = [row for row in report["results"] if words.median_ms(row) is not None and words.accuracy(row) is not None]
    if not rows:
        raise InputError("--plot: none of the files carries an accuracy; edge convert --data measures it")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    points = []
    for form in dict.fromkeys(row["format"] for row in rows):
        chosen = [row for row in rows if row["format"] == form]
        x = [words.median_ms(row) or 0.0 for row in chosen]
        y = [words.accuracy(row) or 0.0 for row in chosen]
        reach = [ms * (row["latency"].get("spread") or 0.0) for ms, row in zip(x, chosen, strict=True)]
        axes.errorbar(x, y, xerr=reach, fmt="o", label=form, capsize=3)
        for row, ms, value in zip(chosen, x, y, strict=True):
            axes.annotate(words.title(row), (ms, value), (6, 4), textcoords="offset points", fontsize=7)
            points.append(svg.Point(ms, value, 0.0, row["key"], 0))
    front = svg.frontier(points)
    axes.plot([p.x for p in front], [p.y for p in front], "--", color="gray", linewidth=1, zorder=0)
    axes.set_xlim(left=0)
    axes.margins(x=0.25)
    axes.set_xlabel("milliseconds of the bare inference, median")
    axes.set_ylabel(words.metric_name(rows))
    axes.grid(alpha=0.3)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=150)
    pyplot.close(figure)
    return out.getvalue()
