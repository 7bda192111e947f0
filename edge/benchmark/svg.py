"""Charts as SVG text, without a plotting library: a device has none.

Colours are CSS variables of the page around them, so that they follow its light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from typing import Any, NamedTuple

WIDTH = 860
SERIES = 8
"""Colours that the page defines: --s0 to --s7."""


class Point(NamedTuple):
    """A variant in the plot of speed against accuracy.

    Attributes:
        x: Milliseconds.
        y: Accuracy, 0..1.
        spread: Of the rounds, as a share of x.
        name: What it is called.
        color: Number of its series.
    """

    x: float
    y: float
    spread: float
    name: str
    color: int


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from `low` to `high`, `most` at most."""
    if high <= low:
        return [low]
    step = 10 ** floor(log10((high - low) / most))
    step *= next((factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most), 10)
    first = ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, floor(high / step + 1e-9) + 1)]


def scatter(points: Sequence[Point], x_name: str, y_name: str) -> str:
    """Return a plot in which up and to the left is better, with a line through those that nothing beats.

    Args:
        points: At least one.
        x_name: Of the horizontal axis.
        y_name: Of the vertical one.
    """
    height, left, right, top, bottom = 380, 64, 24, 18, 48
    x_high = max(point.x * (1 + point.spread) for point in points) * 1.12
    y_low, y_high = min(point.y for point in points), max(point.y for point in points)
    margin = max((y_high - y_low) * 0.2, 0.01)
    y_low, y_high = max(0.0, y_low - margin), min(1.0, y_high + margin)

    def px(x: float) -> float:
        return left + x / x_high * (WIDTH - left - right)

    def py(y: float) -> float:
        return top + (y_high - y) / max(y_high - y_low, 1e-9) * (height - top - bottom)

    parts = [_open(height, f"{y_name} against {x_name}")]
    for x in ticks(0, x_high):
        parts.append(f'<line class="grid" x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(_text(px(x), height - bottom + 18, f"{x:g}", "middle"))
    for y in ticks(y_low, y_high):
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{py(y):.1f}" y2="{py(y):.1f}"/>')
        parts.append(_text(left - 8, py(y) + 4, f"{y:g}", "end"))
    parts.append(_text((left + WIDTH - right) / 2, height - 8, f"{x_name}; further left is faster", "middle"))
    parts.append(_text(left, 12, y_name, "start"))
    front = frontier(points)
    if len(front) > 1:
        line = " ".join(f"{px(p.x):.1f},{py(p.y):.1f}" for p in front)
        parts.append(f'<polyline class="front" points="{line}"/>')
    taken: list[tuple[float, float, float]] = []
    ordered = sorted(points, key=lambda p: (-p.y, p.x))
    for point in ordered:
        x, y = px(point.x), py(point.y)
        reach = px(point.x * point.spread) - px(0)
        parts.append(f'<line class="error" x1="{x - reach:.1f}" x2="{x + reach:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        taken.append((x - reach, x + reach, y))
    for point in ordered:
        x, y = px(point.x), py(point.y)
        color = f"var(--s{point.color % SERIES})"
        said = f"{point.name}: {point.x:.3g} ms ± {point.spread:.0%}, {point.y:.3f}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" style="fill:{color}"><title>{escape(said)}</title></circle>'
        )
    for point in ordered:
        width = 6.6 * len(point.name)
        # Above its point, where no whisker runs; higher until it is free.
        begin = min(px(point.x) - 6, WIDTH - right - width)
        spot = py(point.y) - 16
        while any(begin < b and begin + width > a and abs(spot - at) < 12 for a, b, at in taken) and spot > top:
            spot -= 13
        taken.append((begin, begin + width, spot))
        parts.append(_text(begin, spot + 4, point.name, "start", "label"))
    return "\n".join([*parts, "</svg>"])


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other is both faster and at least as accurate as, from fast to slow."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def stacked(rows: Sequence[tuple[str, dict[str, float]]], unit: str = "ms") -> str:
    """Return a bar for each row, cut into its parts, with a legend above.

    Args:
        rows: Name, and part -> length; at least one.
        unit: Of the lengths.
    """
    names = list(dict.fromkeys(part for _, parts in rows for part in parts))
    left, right, bar, gap, top = 250, 70, 22, 12, 44
    height = top + len(rows) * (bar + gap) + 28
    high = max(sum(parts.values()) for _, parts in rows) * 1.02 or 1.0
    scale = (WIDTH - left - right) / high
    out = [_open(height, f"stages of a frame in {unit}")]
    x = 0.0
    for i, name in enumerate(names):
        out.append(f'<rect x="{x:.1f}" y="8" width="12" height="12" rx="2" style="fill:var(--s{i % SERIES})"/>')
        out.append(_text(x + 17, 18, name, "start"))
        x += 34 + 6.8 * len(name)
    for tick in ticks(0, high):
        at = left + tick * scale
        out.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 8}" y2="{height - 26}"/>')
        out.append(_text(at, height - 10, f"{tick:g} {unit}", "middle"))
    for number, (name, parts) in enumerate(rows):
        y = top + number * (bar + gap)
        out.append(_text(left - 10, y + 15, _short(name, 36), "end", "label"))
        at = float(left)
        for i, part in enumerate(names):
            length = parts.get(part, 0.0) * scale
            if length > 0:
                said = escape(f"{name}, {part}: {parts[part]:.3g} {unit}")
                out.append(
                    f'<rect x="{at:.1f}" y="{y}" width="{length:.1f}" height="{bar}" style="fill:var(--s{i % SERIES})">'
                    f"<title>{said}</title></rect>"
                )
            at += length
        out.append(_text(at + 6, y + 15, f"{sum(parts.values()):.3g}", "start"))
    return "\n".join([*out, "</svg>"])


def over_time(windows: Sequence[dict[str, Any]]) -> str:
    """Return frames per second over time, and below it the hottest temperature where the kernel shows one.

    Args:
        windows: Of a sustained run, at least one.
    """
    parts, height = [], 0
    for key, name, color in (("fps", "frames per second", 0), ("temperature_c", "hottest sensor, C", 5)):
        values = [(w["end_s"], w[key]) for w in windows if w[key] is not None]
        if values:
            parts.append(_line(values, name, color, height))
            height += 190
    return "\n".join([_open(height, "a sustained run"), *parts, "</svg>"])


def _line(values: Sequence[tuple[float, float]], name: str, color: int, offset: int) -> str:
    left, right, top, bottom = 64, 24, offset + 26, offset + 160
    x_high = values[-1][0] or 1.0
    # From zero: a drop must look as large as it is.
    y_high = max(y for _, y in values) * 1.1 or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / x_high * (WIDTH - left - right), bottom - y / y_high * (bottom - top)

    out = [_text(left, top - 10, name, "start")]
    for tick in ticks(0, y_high, 4):
        _, y = place(0, tick)
        out.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(_text(left - 8, y + 4, f"{tick:g}", "end"))
    for tick in ticks(0, x_high):
        x, _ = place(tick, 0)
        out.append(_text(x, bottom + 18, f"{tick:g} s", "middle"))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*value) for value in values))
    out.append(f'<polyline style="fill:none;stroke:var(--s{color});stroke-width:2.5" points="{points}"/>')
    return "\n".join(out)


def _open(height: int, what: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(what, quote=True)}">'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
