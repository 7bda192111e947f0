"""The progress bar and the closing table of a run, on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from edge.pipeline import Stats
    from edge.result import Result

_LINE_EVERY_S = 15.0
_MOST_CLASSES = 15
_MOST_OUTPUTS = 5


class Display:
    """Shows how far a run is: a bar on a terminal, a line now and then elsewhere, nothing when quiet.

    rich is imported where it is needed: it costs as much time as a small model.
    """

    def __init__(self, total: int | None, quiet: bool) -> None:
        """Prepare.

        Args:
            total: Frames to come; None where that is unknown.
            quiet: Show nothing.
        """
        self._total = total
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._handlers: list[logging.Handler] = []
        self._frames = 0
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        """Show an empty bar; a single picture needs none."""
        if self._quiet or self._total == 1 or not sys.stderr.isatty():
            return self
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        count = MofNCompleteColumn() if self._total else TextColumn("{task.completed} frames")
        columns = [BarColumn(), count, TextColumn("{task.fields[fps]:.1f} fps"), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5)
        self._task = self._bar.add_task("", total=self._total, fps=0.0)
        self._bar.start()
        # A warning must go above the bar, not through it.
        root = logging.getLogger()
        self._handlers, root.handlers = root.handlers, [_ConsoleHandler(self._bar.console)]
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            logging.getLogger().handlers = self._handlers

    def update(self, result: Result) -> None:
        """Count a frame."""
        self._frames += 1
        now = time.monotonic()
        fps = self._frames / max(now - self._start, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._frames, fps=fps)
        elif not self._quiet and now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            of = f" of {self._total}" if self._total else ""
            where = ", on the CPU instead" if result.fallback else ""
            print(f"edge: {self._frames}{of} frames, {fps:.1f} fps{where}", file=sys.stderr, flush=True)

    def close(
        self, stats: Stats, labels: Sequence[str], model: str, outputs: Sequence[Path], nothing_asked: bool
    ) -> None:
        """Remove the bar and print the closing table.

        Args:
            stats: What was done.
            labels: Class names by class index.
            model: What ran.
            outputs: Files that were written.
            nothing_asked: Whether no output was asked for.
        """
        self.__exit__()
        if self._quiet or not stats.frames:
            return
        from rich.console import Console
        from rich.table import Table

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"[dim]{model}[/]")
        frames = "frame" if stats.frames == 1 else "frames"
        line = f"[bold]{stats.frames}[/] {frames} in {stats.elapsed_s:.1f} s, [bold]{stats.fps:.1f}[/] fps"
        line += f", {stats.dropped} dropped" if stats.dropped else ""
        line += f", {stats.left_out} left out as asked" if stats.left_out else ""
        line += f", [yellow]{stats.skipped} unreadable left out[/]" if stats.skipped else ""
        line += f", [yellow]{stats.fallback} of them on the CPU: the accelerator failed[/]" if stats.fallback else ""
        console.print(line)
        times = Table("stage", box=None, header_style="bold", pad_edge=False)
        for column in ("p50 ms", "p95 ms"):
            times.add_column(column, justify="right")
        for stage in stats.stage_ms:
            times.add_row(stage, f"{stats.percentile_ms(stage, 50):.2f}", f"{stats.percentile_ms(stage, 95):.2f}")
        console.print(times)
        found = Table("class", box=None, header_style="bold", pad_edge=False)
        found.add_column("found", justify="right")
        for class_id, count in stats.found.most_common(_MOST_CLASSES):
            found.add_row(labels[class_id] if class_id < len(labels) else str(class_id), str(count))
        if stats.found:
            console.print(found)
        if len(stats.found) > _MOST_CLASSES:
            console.print(f"and {len(stats.found) - _MOST_CLASSES} more classes")
        if not stats.found:
            console.print("nothing was found")
        if outputs:
            listed = ", ".join(map(str, outputs[:_MOST_OUTPUTS]))
            more = f" and {len(outputs) - _MOST_OUTPUTS} more" if len(outputs) > _MOST_OUTPUTS else ""
            console.print(f"wrote {listed}{more}", markup=False)
        elif nothing_asked:
            console.print("nothing was saved: add --save OUT.mp4 (or a folder), --json FILE, --csv FILE or --show")


class _ConsoleHandler(logging.Handler):
    """Prints log lines through rich, so that a bar moves out of the way."""

    def __init__(self, console: Any) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(
            f"edge: {record.levelname}: {record.getMessage()}", markup=False, highlight=False, soft_wrap=True
        )
