"""JSON lines and CSV that rotate, and what a kill, a full disk or another program does to them."""

from __future__ import annotations

import json
import os
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from media import small_disk
from recordings import LABELS, files, killed, shot

from edge.errors import OutputError
from edge.sinks.recording import RowsSink
from edge.sinks.text import csv_header, csv_rows, json_line


def rows(path: Path, **options: Any) -> RowsSink:
    return RowsSink(path, lambda result: json_line(result, LABELS, "gate"), **{"flush_s": 0.0, **options})


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["frame"] for line in path.read_text().splitlines()]


def test_rows_are_written_together(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gate.jsonl"
    sink = rows(path, flush_s=3600)
    for i in range(5):
        sink.write(shot(i))
    sink.tick()
    assert not path.exists()
    sink._flushed_s -= 3600
    sink.tick()
    assert numbers(path) == list(range(5))
    sink.write(shot(5))
    sink.close()
    assert numbers(path) == list(range(6))


def test_many_rows_are_not_kept_back_for_long(tmp_path: Path) -> None:
    path = tmp_path / "gate.jsonl"
    sink = rows(path, flush_s=3600)
    for i in range(1000):
        sink.write(shot(i))
    assert len(numbers(path)) > 500
    sink.close()
    assert numbers(path) == list(range(1000))


def test_rows_go_on_behind_what_is_there_and_half_a_line_goes(tmp_path: Path) -> None:
    path = tmp_path / "gate.jsonl"
    first = rows(path)
    first.write(shot(1))
    first.close()
    # A loss of power leaves zeros, too.
    for left in (b'{"camera": "gate", "fr', bytes(5000)):
        with path.open("ab") as file:
            file.write(left)
        again = rows(path)
        again.write(shot(2))
        again.close()
    assert numbers(path) == [1, 2, 2]


def test_a_kill_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "gate.jsonl"
    script = f"""
from pathlib import Path
from recordings import shot, LABELS
from edge.sinks.recording import RowsSink
from edge.sinks.text import json_line
sink = RowsSink(Path({str(path)!r}), lambda result: json_line(result, LABELS, "gate"), flush_s=0.0)
for i in range(10**6):
    sink.write(shot(i))
    print(i, flush=True)
"""
    killed(script, 200)
    found = numbers(path)
    assert len(found) > 200 and found == list(range(len(found)))


def test_files_rotate_and_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "gate.jsonl"
    length = len(json_line(shot(10), LABELS, "gate"))
    sink = rows(path, max_mb=3.5 * length / 1e6, keep=2)
    for i in range(10, 23):
        sink.write(shot(i))
    sink.close()
    assert files(tmp_path) == ["gate.1.jsonl", "gate.2.jsonl", "gate.jsonl"]
    assert [numbers(tmp_path / name) for name in ("gate.2.jsonl", "gate.1.jsonl", "gate.jsonl")] == [
        [16, 17, 18],
        [19, 20, 21],
        [22],
    ]


def test_a_day_begins_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    today = [date(2026, 5, 4)]

    class Day(date):
        @classmethod
        def today(cls) -> date:
            return today[0]

    monkeypatch.setattr("edge.sinks.recording.rows.date", Day)
    path = tmp_path / "gate.jsonl"
    sink = rows(path, daily=True, keep=3)
    for day in (4, 4, 5):
        today[0] = date(2026, 5, day)
        sink.write(shot(day))
    sink.close()
    assert [numbers(tmp_path / name) for name in ("gate.1.jsonl", "gate.jsonl")] == [[4, 4], [5]]
    # Also where the service was not running at midnight.
    os.utime(path, (0, datetime(2026, 5, 5, 23).timestamp()))
    for day in (5, 6):
        today[0] = date(2026, 5, day)
        sink = rows(path, daily=True, keep=3)
        sink.write(shot(day))
        sink.close()
        os.utime(path, (0, datetime(2026, 5, day, 23).timestamp()))
    assert [numbers(tmp_path / f"gate{n}.jsonl") for n in (".2", ".1", "")] == [[4, 4], [5, 5], [6]]


def test_without_old_files_the_one_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "gate.csv"
    sink = RowsSink(
        path, lambda r: csv_rows(r, LABELS, "gate"), csv_header(camera=True), max_mb=3e-4, keep=0, flush_s=0
    )
    for i in range(20):
        sink.write(shot(i, {1: 0.75}))
    sink.close()
    header, *lines = path.read_text().splitlines()
    assert header.startswith("camera,time,source,frame,") and 1 <= len(lines) < 6
    assert lines[-1].startswith("gate,") and ",green,0.75," in lines[-1]
    assert files(tmp_path) == ["gate.csv"]


def test_each_csv_file_begins_with_the_header(tmp_path: Path) -> None:
    path = tmp_path / "gate.csv"
    header = csv_header(camera=True)
    sink = RowsSink(path, lambda r: csv_rows(r, LABELS, "gate"), header, max_mb=3e-4, keep=2, flush_s=0)
    for i in range(20):
        sink.write(shot(i, {1: 0.75}))
    sink.close()
    assert len(files(tmp_path)) == 3
    assert all((tmp_path / name).read_text().count(header) == 1 for name in files(tmp_path))
    assert all((tmp_path / name).read_text().startswith(header) for name in files(tmp_path))


def test_another_program_may_move_remove_or_empty_the_file(tmp_path: Path) -> None:
    path, moved = tmp_path / "gate.jsonl", tmp_path / "elsewhere"
    sink = rows(path)
    sink.write(shot(0))
    path.rename(moved)  # logrotate's way
    sink.write(shot(1))
    assert (numbers(moved), numbers(path)) == ([0], [1])
    path.unlink()
    sink.write(shot(2))
    assert numbers(path) == [2]
    os.truncate(path, 0)  # copytruncate
    sink.write(shot(3))
    sink.close()
    assert numbers(path) == [3]


def test_rows_wait_for_a_full_disk_and_none_is_lost_or_cut(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        filler, path = disk / "filler", disk / "gate.jsonl"
        sink = rows(path)
        sink.write(shot(0))
        with pytest.raises(OSError):
            filler.write_bytes(bytes(200_000))
        failed = 0
        for i in range(1, 40):
            try:
                sink.write(shot(i))
            except OutputError as error:
                assert "the disk is full" in str(error)
                failed += 1
        assert failed
        assert all(json.loads(line) for line in path.read_text().splitlines())
        # Nothing says that the disk is back before it is.
        sink._flush_s = 3600.0
        with pytest.raises(OutputError):
            sink.tick()
        filler.unlink()
        sink.tick()
        sink.write(shot(40))
        sink.close()
        assert numbers(path) == list(range(41))


def test_what_waits_is_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "gate.jsonl"
    (tmp_path / "gone").write_text("")
    sink = rows(path)
    count = (1 << 20) // len(json_line(shot(1000), LABELS, "gate")) + 500
    for i in range(1000, 1000 + count):
        with pytest.raises(OutputError):
            sink.write(shot(i))
    (tmp_path / "gone").unlink()
    sink.close()
    found = numbers(path)
    assert found == list(range(found[0], 1000 + count)) and 400 < found[0] - 1000 < 600
