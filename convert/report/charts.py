"""Small charts as inline SVG; colours and letters come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 42
_LINE = 15
"""Height of a line of letters."""

_LETTER = 7.2
"""Width of a letter, about."""

_LARGEST_RADIUS = 20.0

_GAPS = (4, 12, 22, 34, 48, 64)
_DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (0.7, -0.7), (0.7, 0.7), (-0.7, -0.7), (-0.7, 0.7))
"""Where a name may lie, seen from its disc: how far, and which way."""


class Point(NamedTuple):
    """A variant in `scatter`.

    Attributes:
        label: Its name.
        x: On the horizontal axis.
        y: On the vertical axis.
        size: Its area, in any unit.
        kind: CSS class.
    """

    label: str
    x: float
    y: float
    size: float
    kind: str


class Axis(NamedTuple):
    """Where values lie.

    Attributes:
        low: Value at the lower end.
        high: Value at the upper end.
        start: Its pixel.
        end: Likewise.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2 or 5 times a power of ten) from `low` to `high`."""
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def scatter(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """Draw points whose area is a third number, and a line through those that no other beats in both directions.

    Args:
        points: To the left and up is better.
        x_label: Below the horizontal axis.
        y_label: Above the vertical axis.
    """
    x = _axis([p.x for p in points], _LEFT, _WIDTH - _RIGHT, 0.22)
    y = _axis([p.y for p in points], _HEIGHT - _BOTTOM, _TOP + _LINE, 0.18, least=0.01)
    largest = max(p.size for p in points)
    best = sorted(p for p in points if not any(o.x <= p.x and o.y >= p.y and (o.x, o.y) != (p.x, p.y) for o in points))
    front = " ".join(f"{x.at(p.x):.1f},{y.at(p.y):.1f}" for p in sorted(best, key=lambda p: p.x))
    parts = [_grid(x, y, x_label, y_label), f'<polyline class="front" points="{front}"/>']
    discs = [(x.at(p.x), y.at(p.y), _LARGEST_RADIUS * math.sqrt(p.size / largest)) for p in points]
    for p, (cx, cy, radius) in sorted(zip(points, discs, strict=True), key=lambda pair: -pair[1][2]):
        parts.append(f'<circle class="{p.kind}" cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}"/>')
    for p, (left, base, leader) in zip(points, _labels(discs, [p.label for p in points]), strict=True):
        parts.append(leader)
        parts.append(f'<text class="name {p.kind}" x="{left:.1f}" y="{base:.1f}">{escape(p.label)}</text>')
    return _svg("".join(parts), f"{y_label} over {x_label}")


def lines(curves: Sequence[tuple[str, npt.NDArray[np.float64]]], x_label: str, y_label: str) -> str:
    """Draw curves over 0..1, each as (CSS class, values at evenly spaced places)."""
    x, y = Axis(0, 1, _LEFT, _WIDTH - _RIGHT), Axis(0, 1, _HEIGHT - _BOTTOM, _TOP + _LINE)
    parts = [_grid(x, y, x_label, y_label)]
    for kind, values in curves:
        places = np.linspace(0, 1, len(values))
        path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in zip(places, values, strict=True))
        parts.append(f'<polyline class="line {kind}" points="{path}"/>')
    return _svg("".join(parts), f"{y_label} over {x_label}")


def _axis(values: Sequence[float], start: float, end: float, margin: float, least: float = 0.0) -> Axis:
    """Return an axis with room on both sides of the values, and that spans `least`, so that noise looks like it."""
    low, high = min(values), max(values)
    room = max((high - low) * margin or abs(high) * margin or 1.0, (least - (high - low)) / 2)
    return Axis(max(0.0, low - room) if low >= 0 else low - room, high + room, start, end)


def _grid(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    parts = []
    for value in ticks(x.low, x.high):
        at = x.at(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{y.start}" x2="{at:.1f}" y2="{y.end}"/>')
        parts.append(f'<text class="tick" text-anchor="middle" x="{at:.1f}" y="{y.start + _LINE}">{value:g}</text>')
    for value in ticks(y.low, y.high):
        at = y.at(value)
        parts.append(f'<line class="grid" x1="{x.start}" y1="{at:.1f}" x2="{x.end}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{x.start - 6}" y="{at + 4:.1f}">{value:g}</text>')
    middle = (x.start + x.end) / 2
    parts.append(f'<text class="axis" text-anchor="middle" x="{middle}" y="{_HEIGHT - 6}">{escape(x_label)}</text>')
    parts.append(f'<text class="axis" x="4" y="{_TOP}">{escape(y_label)}</text>')
    return "".join(parts)


def _labels(discs: Sequence[tuple[float, float, float]], names: Sequence[str]) -> list[tuple[float, float, str]]:
    """Find a place for each name near its disc, where it covers no disc and no other name.

    Args:
        discs: Centre and radius of each.
        names: Of each.

    Returns:
        Left end and base line of each name, and the line that joins it to its disc where it lies apart.
    """
    taken = [(x - r, y - r, x + r, y + r) for x, y, r in discs]
    found = {}
    for i in sorted(range(len(discs)), key=lambda i: discs[i][1]):  # the upper ones go up
        x, y, radius = discs[i]
        width = len(names[i]) * _LETTER
        for gap, (right, down) in product(_GAPS, _DIRECTIONS):
            reach = radius + gap
            left = x + right * reach - width * (1 - right) / 2
            base = y + down * (reach + _LINE / 2) + 4
            box = (left, base - _LINE + 3, left + width, base + 3)
            inside = box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= _TOP and box[3] <= _HEIGHT - _BOTTOM
            if inside and not any(_touch(box, other) for other in taken):
                break
        taken.append(box)
        end = min(max(x, box[0]), box[2]), (box[1] if base > y else box[3]) if down else base - 4
        leader = f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
        found[i] = (left, base, leader if gap > _GAPS[0] else "")
    return [found[i] for i in range(len(discs))]


def _touch(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _svg(content: str, title: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{content}</svg>'
