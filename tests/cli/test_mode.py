"""`--mode`: several frames at the same time, in the same order, with the same results."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures import CELL, paint, tiny_classifier, tiny_detector
from media import film
from typer.testing import CliRunner

from edge.cli import running
from edge.cli.app import app
from edge.cli.options import Mode


def lines(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        del row["stage_ms"]
    return rows


@pytest.mark.parametrize("command", ["detect", "classify"])
def test_the_results_are_the_same(tmp_path: Path, command: str) -> None:
    model = (tiny_detector() if command == "detect" else tiny_classifier()).save(tmp_path / "m.tflite")
    names = ("red", "green", "blue")
    pictures = (paint([(names[i % 3], i % 4, i % 3)]) for i in range(60))
    video = film(tmp_path / "v.mp4", pictures, size_wh=(4 * CELL, 3 * CELL))
    found = []
    for mode in ("latency", "throughput"):
        out = tmp_path / f"{mode}.jsonl"
        arguments = [command, "--source", str(video), "--model", str(model), "--json", str(out), "--threads", "3"]
        outcome = CliRunner().invoke(app, [*arguments, "--mode", mode])
        assert outcome.exit_code == 0, outcome.output
        assert ("3 frames at once" in outcome.output) == (mode == "throughput")
        found.append(lines(out))
    assert found[0] == found[1] and len(found[0]) == 60
    assert [row["frame"] for row in found[0]] == list(range(60))


def test_auto_takes_what_suits_the_source(tmp_path: Path) -> None:
    model = tiny_detector().save(tmp_path / "m.tflite")

    def at_once(*counts: int | None, live: bool = False, mode: Mode = Mode.AUTO, delegate: str = "cpu") -> int:
        sources: Any = [SimpleNamespace(frame_count=count, live=live) for count in counts]
        return running.at_once(mode, sources, model, 4, delegate)

    assert at_once(5000) == at_once(None) == at_once(100, 100) == 4
    assert at_once(1) == at_once(199) == at_once(None, live=True) == at_once(5000, delegate="gpu") == 1
    assert at_once(1, mode=Mode.THROUGHPUT) == at_once(None, live=True, mode=Mode.THROUGHPUT) == 4
    assert at_once(5000, mode=Mode.LATENCY) == 1
    with model.open("r+b") as file:
        file.truncate(40 << 20)
    assert at_once(5000) == 1
