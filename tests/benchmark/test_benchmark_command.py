"""`edge benchmark` from the command line to the reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmark_fakes import result_row, whole_report
from fixtures import SIZE_WH, paint, tiny_detector
from media import film, picture
from typer.testing import CliRunner, Result

from edge.benchmark.document import to_json
from edge.cli.app import app

Edge = Callable[..., Result]
QUICK = ("--runs", 4, "--rounds", 4, "--warmup", 1, "--cold-starts", 0, "--threads", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector().save(tmp_path_factory.mktemp("model") / "tiny.tflite")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = (paint([("red", i % 4, 1)]) for i in range(6))
    return film(tmp_path_factory.mktemp("street") / "s.mkv", scenes, 200.0, SIZE_WH, "FFV1")


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edge:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["benchmark", *map(str, words)])


def test_it_measures_writes_all_reports_and_compares(edge: Edge, model: Path, street: Path, tmp_path: Path) -> None:
    done = edge(
        model,
        "--source",
        street,
        *QUICK,
        "--json",
        "a.json",
        "--csv",
        "a.csv",
        "--html",
        "a.html",
        "--markdown",
        "a.md",
    )
    assert done.exit_code == 0, done.output
    assert "tiny" in done.stdout and "one by" in done.stdout and "Stages of a frame" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "a.csv", "a.html", "a.md"}
    first = json.loads((tmp_path / "a.json").read_text())
    # Again, from the report alone: the same model, the same way, on the same source.
    done = edge("--compare", "a.json", *QUICK[:-2], "--json", "b.json")
    assert done.exit_code == 0, done.output
    second = json.loads((tmp_path / "b.json").read_text())
    assert (
        [row["key"] for row in second["results"]] == [row["key"] for row in first["results"]] == ["tiny.tflite cpu 1"]
    )
    assert second["source"] == first["source"]
    metrics = [row["metric"] for row in second["comparison"]["rows"]]
    assert metrics[:3] == ["invoke", "sequential", "pipelined"]
    assert "Compared with the measurement of" in done.stdout


def test_an_earlier_measurement_is_reported_again_without_measuring(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(to_json(whole_report(result_row("a.tflite", 8.0))))
    (tmp_path / "new.json").write_text(to_json(whole_report(result_row("a.tflite", 4.0))))
    done = edge("new.json", "--compare", "old.json", "--markdown", "-")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("- Board <4>")  # stdout is the report's, tables go to stderr
    assert "| a.tflite cpu 1 | inference | 8.00 | 4.00 | 0.500 |" in done.stdout
    assert "faster" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no.tflite",), "no.tflite: no such model file"),
        (("--source", "no.mp4"), "no.mp4: no such file"),
        (("--sweep", "colour=1"), "--sweep 'colour=1': expected"),
        (("--sweep", "size=64"), "is fixed at"),
        (("--modes", "fast"), "--modes 'fast': expected"),
        (("--rounds", "0"), "--rounds 0: expected"),
        (("--threads", "0"), "--threads 0: expected"),
        (("--minutes", "1", "--sweep", "threads=1,2"), "--minutes: 2 variants"),
        (("--json", "a", "--csv", "a"), "two reports cannot go to the same place"),
        (("--json", "-", "--csv", "-"), "two reports cannot go to the same place"),
        (("--html", "-"), "--html: expected a file"),
        (("--json", "."), "is a folder"),
        (("--json", "/dev/null/new/a.json"), "/dev/null is no folder"),
        (("--plot", "a.txt"), "expected a name ending in .png"),
        (("--compare", "no.json"), "cannot be read"),
        (("old.json", "more.tflite"), "reported on alone"),
        (("--delegate", "nothing"), "--delegate nothing: expected"),
        (("--sink", "disk"), "--sink"),
    ],
)
def test_bad_input_is_one_line(edge: Edge, words: tuple[str, ...], said: str) -> None:
    done = edge(*words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge: ") and said in line


def test_a_report_that_exists_is_not_overwritten(edge: Edge, model: Path, tmp_path: Path) -> None:
    still = picture(tmp_path / "p.png")
    (tmp_path / "a.json").write_text("precious")
    done = edge(model, "--json", "a.json")
    assert done.exit_code == 2
    assert "--force" in done.stderr
    assert (tmp_path / "a.json").read_text() == "precious"
    done = edge(model, "--source", still, *QUICK, "--modes", "invoke,sequential", "--json", "a.json", "--force", "-q")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    (row,) = json.loads((tmp_path / "a.json").read_text())["results"]
    assert list(row["modes"]) == ["sequential"]


def test_a_delegate_that_fails_is_told_beside_the_one_that_works(edge: Edge, model: Path, street: Path) -> None:
    words = ("--sweep", "delegate=cpu,libnothing.so", "--modes", "invoke", *QUICK)
    done = edge(model, "--source", street, *words)
    assert done.exit_code == 0, done.output
    assert "failed: tiny, libnothing.so" in done.stdout
    done = edge(model, "--source", street, "--delegate", "libnothing.so", *QUICK)
    assert done.exit_code == 4
    assert done.stdout == ""


def test_operators_are_shown(edge: Edge, model: Path, street: Path) -> None:
    done = edge(model, "--source", street, "--profile", "--modes", "invoke", *QUICK)
    assert done.exit_code == 0, done.output
    assert "operators by kind" in done.stdout or "no profiler" in done.stdout


def test_ctrl_c_prints_what_was_measured(model: Path, street: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge", "benchmark", str(model), "--source", str(street), "--runs", "1000000"]
    command += ["--seconds", "1000000", "--json", str(tmp_path / "a.json")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    try:
        deadline = time.monotonic() + 60
        # It measures once it has burnt more CPU time than a start takes; a clock would say little on a busy machine.
        while _cpu_s(process.pid) < 6 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "edge: interrupted"
    assert "Traceback" not in stderr
    assert "interrupted: this is what was measured until then" in stdout
    report = json.loads((tmp_path / "a.json").read_text())
    assert not report["complete"]
    assert report["results"][0]["latency"]["num_runs"] > 0


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 1e9
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
