"""The report of a check of data on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from models.detection.check import Report

_COLORS = {"error": "bold red", "warning": "yellow", "info": "dim"}
_MAX_CLASSES = 20
"""Classes that are listed at most, those with most boxes."""


def show(report: Report, console: Console) -> None:
    """Print the numbers of a data set by split and by class, then what was found.

    Args:
        report: Of `models.detection.check`.
        console: Where to.
    """
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"{report.path}", style="bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for part in report.parts:
        table.add_column(part.split, justify="right")
    parts = report.parts
    table.add_row("pictures", *(f"{part.images:,}" for part in parts))
    table.add_row("without objects", *(f"{part.empty:,}" for part in parts))
    table.add_row("boxes", *(f"{part.boxes:,}" for part in parts))
    if any(part.crowds for part in parts):
        table.add_row("left open", *(f"{part.crowds:,}" for part in parts))
    table.add_row(f"box side at {report.size} px", *(_range(part.side_px, "{:.0f}") for part in parts))
    table.add_row("width / height", *(_range(part.aspect, "{:.2f}") for part in parts))
    table.add_row("", style="dim")
    total = {name: sum(part.classes.get(name, (0, 0))[0] for part in parts) for name in report.classes}
    listed = sorted((name for name, n in total.items() if n), key=lambda name: -total[name])
    for name in listed[:_MAX_CLASSES]:
        counts = (part.classes.get(name, (0, 0)) for part in parts)
        table.add_row(escape(name), *(f"{boxes:,} in {images:,}" for boxes, images in counts))
    if len(listed) > _MAX_CLASSES:
        table.add_row(f"{len(listed) - _MAX_CLASSES} more classes", style="dim")
    console.print(table)
    console.print(
        "sides and shapes: 5%, median, 95% of the boxes; classes: boxes in pictures", style="dim", soft_wrap=True
    )
    console.print()
    for finding in report.findings:
        line = Text(f"{finding.severity:8}", style=_COLORS[finding.severity])
        line.append(finding.text, style="default")
        console.print(line, soft_wrap=True)
        for example in finding.examples:
            console.print(Text(f"{'':8}  {example}", style="dim"), soft_wrap=True)
    count = {kind: sum(finding.severity == kind for finding in report.findings) for kind in _COLORS}
    words = [f"{count[kind]} {kind}{'s' * (count[kind] != 1)}" for kind in ("error", "warning") if count[kind]]
    console.print(Text(", ".join(words) or "nothing wrong found", style="bold" if words else "bold green"))


def _range(values: tuple[float, ...], form: str) -> str:
    return " / ".join(form.format(value) for value in values) or "-"
