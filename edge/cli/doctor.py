"""`edge doctor`: whether this device can run the pipeline, and what mends it where not.

`python -m edge.cli.doctor` is the same for an installation where `edge` does not even start: typer reads the command
line with pydantic, which is native too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge import __version__
from edge.errors import BackendError

if TYPE_CHECKING:
    from rich.console import Console

    from edge.doctor.checks import Check
    from edge.doctor.finding import Finding

CANNOT_RUN = BackendError.exit_code

_INDENT = 21


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    cameras: Annotated[
        bool, typer.Option("--cameras", help="Read a frame from each camera too; no one else can use it meanwhile.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, max=120, help="Most seconds for one trial.")] = 10,
) -> None:
    """Try everything that edge needs on this device, and say what mends what does not work.

    Exit code 0: edge can run here, warnings or not. 4: it cannot.
    """
    code = report(as_json, cameras, timeout)
    if code:
        raise typer.Exit(code)


def report(as_json: bool, cameras: bool, timeout_s: float) -> int:
    """Examine this device, print what was found, and return the exit code; see `doctor`."""
    from edge.doctor.checks import examine
    from edge.doctor.host import Host

    start = time.monotonic()
    results = examine(Host(timeout_s=timeout_s, read_frames=cameras))
    if as_json:
        done = list(results)
        print(json.dumps(_facts(done, time.monotonic() - start), indent=2, ensure_ascii=False))
    else:
        done = _show(results)
    return CANNOT_RUN if any(finding.fatal for _, findings in done for finding in findings) else 0


def _facts(done: Iterable[tuple[Check, list[Finding]]], seconds: float) -> dict[str, Any]:
    rows = [(check.group, finding) for check, findings in done for finding in findings]
    return {
        "edge": __version__,
        "ok": not any(finding.fatal for _, finding in rows),
        "seconds": round(seconds, 2),
        "checks": [
            {
                "group": group,
                "name": finding.name,
                "state": str(finding.state),
                "needed": finding.needed,
                "found": finding.found,
                "mend": finding.mend or None,
                "facts": finding.facts,
            }
            for group, finding in rows
        ],
    }


def _show(results: Iterable[tuple[Check, list[Finding]]]) -> list[tuple[Check, list[Finding]]]:
    """Print each line as soon as it is known."""
    from rich.console import Console

    from edge.doctor.finding import State, count

    console = Console(highlight=False)
    done = []
    group = None
    for check, findings in results:
        done.append((check, findings))
        for finding in findings:
            if check.group != group:
                group = check.group
                console.print(f"[bold]{group}[/]")
            _line(console, finding)
    every = [finding for _, findings in done for finding in findings]
    fatal = dict.fromkeys(finding.name for finding in every if finding.fatal)
    warnings = sum(finding.state is State.WARNING for finding in every)
    said = f"{count(warnings, 'warning')}" if warnings else "no warnings"
    if fatal:
        console.print(f"[bold red]edge cannot run here[/]: {', '.join(fatal)} ({said})", soft_wrap=True)
    else:
        console.print(f"[bold green]edge can run here[/], {said}", soft_wrap=True)
    return done


def _line(console: Console, finding: Finding) -> None:
    from textwrap import wrap

    from rich.text import Text

    from edge.doctor.finding import State

    style = {State.OK: "green", State.WARNING: "yellow", State.MISSING: "bold red" if finding.needed else "dim"}
    dim = "dim" if finding.state is State.MISSING and not finding.needed else ""
    room = max(20, console.width - _INDENT)
    first, *more = wrap(finding.found, room, break_on_hyphens=False) or [""]
    head = ((f" {finding.state:<8}", style[finding.state]), (f"{finding.name:<{_INDENT - 9}}", dim), (first, dim))
    console.print(Text.assemble(*head), soft_wrap=True)
    for line in more:
        console.print(Text(" " * _INDENT + line, dim), soft_wrap=True)
    if finding.mend:
        # Never broken into lines: it is there to be copied.
        console.print(Text.assemble((" " * _INDENT + "-> ", "dim"), (finding.mend, "cyan")), soft_wrap=True)


def main() -> None:
    """Run it without typer's reading of the command line."""
    from argparse import ArgumentParser

    parser = ArgumentParser(prog="edge doctor", description="Try everything that edge needs on this device.")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.add_argument("--cameras", action="store_true", help="read a frame from each camera too")
    parser.add_argument("--timeout", type=float, default=10, help="most seconds for one trial")
    given = parser.parse_args()
    sys.exit(report(given.json, given.cameras, given.timeout))


if __name__ == "__main__":
    main()
