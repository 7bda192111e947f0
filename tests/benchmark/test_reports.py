from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmark_fakes import result_row, whole_report
from rich.console import Console

from edge.benchmark import svg
from edge.benchmark.compare import compare_reports
from edge.benchmark.document import read_report, to_json
from edge.benchmark.html import to_html
from edge.benchmark.plot import check_plot, draw_plot
from edge.benchmark.sustained import Recorder, summary
from edge.benchmark.table import WIDTH, print_report
from edge.benchmark.text import COLUMNS, to_csv, to_markdown
from edge.benchmark.words import number
from edge.device import DeviceReadings
from edge.errors import InputError, MissingDependencyError

VOID = {"meta", "line", "rect", "circle", "polyline"}


class Checker(HTMLParser):
    """Checks that tags are closed in order, and collects what they are and hold."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"


def printed(report: dict[str, Any], comparison: dict[str, Any] | None = None) -> str:
    console = Console(file=io.StringIO(), width=WIDTH)
    print_report(report, console, comparison)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def two() -> dict[str, Any]:
    slow = result_row(
        "<b>.tflite", 9.0, accuracy={"metric": "mAP50-95", "value": 0.4, "dataset": "street, 50 pictures"}
    )
    broken = result_row("c.tflite", latency=None, modes={}, cold=None, problem="no GPU <found>")
    return whole_report(result_row(), slow, broken, warnings=["busy & hot"], complete=False)


def test_the_table_has_the_numbers_and_fits(two: dict[str, Any]) -> None:
    text = printed(two)
    assert max(map(len, text.splitlines())) <= WIDTH
    lines = text.splitlines()
    row, _ = (line for line in lines if line.startswith("a ") and "CPU" in line)
    assert row.split()[:5] == ["a", "CPU", "1", "4.00", "1%"]
    assert "250" in row  # frames per second, one by one
    assert "warning: busy & hot" in text
    assert "failed: c, CPU, 1 thread: no GPU <found>" in text
    assert "interrupted" in text
    assert "Board <4>, 4 cores, 4 GB, LiteRT 9" in text
    assert "hottest 51 C before, 51 C after" in text


def test_a_long_name_folds_and_the_numbers_stay() -> None:
    row = result_row("a-model-with-a-very-long-name-indeed-640x640-int8-full-integer-quantised.tflite")
    text = printed(whole_report(row))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text
    assert "4.00" in text


def test_nothing_measured_is_no_crash() -> None:
    report = whole_report(result_row(latency=None, modes={}, problem="x"), complete=False)
    assert "interrupted" in printed(report)
    Checker().feed(to_html(report))
    assert to_csv(report).count("\n") == 2
    assert "failed" in to_markdown(report)


def test_html_is_closed_needs_nothing_else_and_escapes(two: dict[str, Any]) -> None:
    page = to_html(two, compare_reports(two, two))
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.links == []
    assert "script" not in checker.seen and "url(" not in page
    assert checker.seen.count("svg") == 2
    assert "b" not in checker.seen  # the model's name is text
    for said in ("Warning: busy & hot.", "no GPU <found>", "Speed against accuracy", "0.310", "no difference"):
        assert said in checker.words
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(chart)


def test_html_without_accuracies_says_so() -> None:
    page = to_html(whole_report(result_row(accuracy=None)))
    assert "the files carry no accuracy" in page
    assert page.count("<svg") == 1


def test_csv_has_a_row_each_in_fixed_columns(two: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(two))))
    assert list(rows[0]) == COLUMNS
    assert [row["model"] for row in rows] == ["/models/a.tflite", "/models/<b>.tflite", "/models/c.tflite"]
    assert float(rows[0]["median_ms"]) == pytest.approx(4.0)
    assert float(rows[1]["accuracy"]) == 0.4
    assert float(rows[0]["sequential_fps"]) == pytest.approx(250)
    assert (rows[0]["width"], rows[0]["peak_rss_mb"], rows[0]["throughput_fps"]) == ("320", "90", "")
    assert rows[2]["problem"] == "no GPU <found>"


def test_markdown_has_the_table_that_users_of_the_field_know(two: dict[str, Any]) -> None:
    text = to_markdown(two, compare_reports(two, two))
    lines = text.splitlines()
    head = lines.index("| Model | Format | Size (MB) | mAP50-95 | Runs on | Inference (ms) | FPS |")
    assert lines[head + 2] == "| a.tflite | int8 | 1.25 | 0.310 | CPU, 1 thread | 4.00 | 250 |"
    for i, line in enumerate(lines):
        if line.startswith("| ---"):
            assert line.count("|") == lines[i - 1].count("|") == lines[i + 1].count("|")


def test_json_comes_back_as_it_went(two: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(to_json(two))
    found = read_report(path)
    assert found["results"][0]["latency"].keys() == two["results"][0]["latency"].keys()
    assert printed(found) == printed(two)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "found no JSON"),
        (b"\xff\xfe", "found no JSON"),
        (b"[1]", "found other JSON"),
        (b'{"schema": "coco"}', "found other JSON"),
        (b'{"schema": "edge-benchmark", "schema_version": 2}', "another version"),
        (b'{"schema": "edge-benchmark", "schema_version": 1}', "results are broken"),
        (b'{"schema": "edge-benchmark", "schema_version": 1, "results": [{}]}', "results are broken"),
        (b"[" * 100_000, "found no JSON"),
    ],
)
def test_another_file_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_report(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path / "nothing.json")


def test_comparing_pairs_variants_by_name_and_tells_what_differs() -> None:
    old = whole_report(result_row("a.tflite", 8.0), result_row("gone.tflite"), warnings=["it was busy"])
    moved = result_row("a.tflite", 4.0, model="/elsewhere/a.tflite")
    new = whole_report(moved, result_row("new.tflite"), machine={"model": "Other", "cores": 4, "memory_mb": None})
    found = compare_reports(new, old)
    assert [(row["key"], row["metric"], row["verdict"]) for row in found["rows"]] == [
        ("a.tflite cpu 1", "invoke", "faster"),
        ("a.tflite cpu 1", "sequential", "faster"),
    ]
    row = found["rows"][0]
    assert row["ratio"] == pytest.approx(0.5)
    assert row["low"] <= 0.5 <= row["high"]
    assert (row["old_ms"], row["new_ms"]) == (8.0, 4.0)
    assert (found["only_new"], found["only_old"]) == (["new.tflite cpu 1"], ["gone.tflite cpu 1"])
    assert "machine: Board <4> then, Other now" in found["notes"]
    assert "the earlier measurement warned: it was busy" in found["notes"]
    text = printed(new, found)
    assert "0.500" in text and "faster" in text and "only measured then: gone.tflite cpu 1" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    json.dumps(found, allow_nan=False)


def test_too_few_rounds_have_a_ratio_and_no_interval() -> None:
    row = result_row()
    row["latency"]["rounds_ms"] = [4.0, 4.0]
    found = compare_reports(whole_report(row), whole_report(result_row("a.tflite", 2.0)))
    first = found["rows"][0]
    assert (first["low"], first["high"], first["verdict"]) == (None, None, "too few rounds")
    assert first["ratio"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.0123, "0.012"),
        (3.14159, "3.14"),
        (31.4159, "31.4"),
        (314.159, "314"),
        (3141.59, "3142"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_ticks_are_round_and_inside() -> None:
    assert svg.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert svg.ticks(0.29, 0.41) == pytest.approx([0.3, 0.32, 0.34, 0.36, 0.38, 0.4])
    assert svg.ticks(5, 5) == [5]
    for low, high in ((0, 1e-6), (0, 12345.0), (0.999, 1.0)):
        found = svg.ticks(low, high)
        assert 2 <= len(found) <= 7
        assert all(low - 1e-12 <= tick <= high * (1 + 1e-9) for tick in found)


def test_the_frontier_is_what_nothing_beats() -> None:
    def point(x: float, y: float) -> svg.Point:
        return svg.Point(x, y, 0.0, f"{x}", 0)

    points = [point(5, 0.3), point(3, 0.2), point(4, 0.2), point(9, 0.29), point(12, 0.5)]
    assert [p.x for p in svg.frontier(points)] == [3, 5, 12]


def test_names_in_the_plot_do_not_lie_on_each_other() -> None:
    points = [svg.Point(4 + i / 100, 0.3, 0.1, f"model number {i}", i) for i in range(4)]
    chart = svg.scatter(points, "ms", "mAP")
    labels = [(float(x), float(y)) for x, y in re.findall(r'class="label" x="([\d.-]+)" y="([\d.-]+)"', chart)]
    assert len(labels) == 4
    heights = sorted(y for _, y in labels)
    assert all(b - a >= 12 for a, b in zip(heights[:-1], heights[1:], strict=True))


def test_windows_count_results_and_look_at_the_device() -> None:
    heat = iter([50.0, 70.0, 90.0])

    def read() -> DeviceReadings:
        celsius = next(heat)
        return DeviceReadings({"cpu": celsius, "gpu": 1.0}, {"cpufreq-0": celsius > 80}, {"policy0": 1.5e9}, {})

    recorder = Recorder(100.0, read, window_s=10.0)
    for at in (101, 102, 109.9, 110.0, 115, 121, 135):
        recorder.add(at)
    assert [window["fps"] for window in recorder.windows] == [0.3, 0.2, 0.1]
    assert [window["end_s"] for window in recorder.windows] == [10, 20, 30]
    assert [window["temperature_c"] for window in recorder.windows] == [50, 70, 90]
    assert recorder.windows[2]["throttled"] == ["cpufreq-0"]
    assert recorder.windows[0]["cpu_mhz"] == 1500


def windows(*rates: float) -> list[dict[str, Any]]:
    return [
        {"end_s": 10.0 * (i + 1), "fps": fps, "temperature_c": 40.0 + i, "cpu_mhz": None, "throttled": []}
        for i, fps in enumerate(rates)
    ]


def test_the_last_minute_is_compared_with_the_first() -> None:
    found = summary(windows(*[20.0] * 6, *[17.0] * 12, *[15.0] * 6))
    assert (found["edge_s"], found["first_fps"], found["last_fps"]) == (60, 20, 15)
    assert found["drop"] == pytest.approx(0.25)
    assert found["hottest_c"] == 63


def test_of_a_short_run_the_halves_are_compared() -> None:
    found = summary(windows(20.0, 20.0, 16.0, 14.0))
    assert (found["edge_s"], found["first_fps"], found["last_fps"]) == (20, 20, 15)
    assert summary(windows(20.0))["drop"] is None
    assert summary([])["first_fps"] is None


def test_a_sustained_run_is_shown_everywhere() -> None:
    run = {**summary(windows(20.0, 20.0, 16.0, 14.0)), "interpreters": 4}
    report = whole_report(result_row(sustained=run))
    text = printed(report)
    assert "first 20 s 20.0 fps, last 15.0 fps: a drop of 25.0%" in text
    assert "Sustained: a, CPU, 4 interpreters of one thread" in text
    page = to_html(report)
    assert "-25.0%" in page and page.count("<svg") == 2


def test_a_profile_is_shown_everywhere() -> None:
    operators = [{"name": "Conv <x>", "node": i, "median_ms": 1.0 / (i + 1), "share": 0.1} for i in range(20)]
    profile = {"problem": None, "operators": operators, "total_ms": 3.6, "invoke_ms": 4.0, "runs": 30}
    report = whole_report(result_row(profile=profile))
    text = printed(report)
    assert "the slowest of 20" in text
    assert "operators together 3.60 ms, the whole inference 4.00 ms" in text
    assert sum("Conv <x>" in line for line in text.splitlines()) == 16
    Checker().feed(to_html(report))
    none = whole_report(result_row(profile={**profile, "problem": "this LiteRT has no profiler", "operators": []}))
    assert "this LiteRT has no profiler" in printed(none)
    assert "this LiteRT has no profiler" in to_html(none)


def test_a_plot_is_a_picture_where_matplotlib_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    check_plot(tmp_path / "p.png")
    data = draw_plot(whole_report(result_row(), result_row("b.tflite", 9.0)), "png")
    assert data.startswith(b"\x89PNG")
    with pytest.raises(InputError, match="carries an accuracy"):
        draw_plot(whole_report(result_row(accuracy=None)), "png")


def test_without_matplotlib_the_plot_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="--html has the same plot"):
        check_plot(tmp_path / "p.png")
    with pytest.raises(InputError, match="ending in .png"):
        check_plot(tmp_path / "p.txt")
