"""Damaged files of every form: each is read, or refused in one line; nothing crashes, hangs or takes all memory.

The same files each time in CI. `EDGE_FUZZ_SECONDS=600 pytest tests/fuzz` looks at others for ten minutes, and so does
the laboratory test. hypothesis shows the smallest damage that it finds; write that as a test of its own where it is
mended.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import graphs
import harness
import seeds
from harness import Reader, cases, changed, changes, damaged, fuzz
from hypothesis import strategies as st

NATIVE = [name for name in seeds.models() if name.startswith("tiny")]
SHIPPED = [name for name in seeds.models() if not name.startswith("tiny")]

COUNTS = {
    "flatbuffer": 250,
    "graph": 250,
    "shipped": 30,
    "file": 40,
    "description": 80,
    "ultralytics": 60,
    "tflite metadata": 60,
    "labels": 60,
    "pictures": 120,
    "videos": 40,
    "labelled": 60,
    "objects": 80,
    "json values": 60,
    "config text": 40,
    "config values": 50,
    "darknet": 20,
}
"""Files of each kind in CI, and the kind's share of a time that was given."""

harness.SHARES = sum(COUNTS.values())

pytestmark = pytest.mark.timeout(300 if harness.seconds() is None else 600 + 3 * harness.seconds())


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One process for all kinds that need no TensorFlow."""
    with harness.reader(tmp_path_factory.mktemp("fuzz")) as made:
        yield made


def test_bytes_of_a_flatbuffer(worker: Reader) -> None:
    """LiteRT reads it in C++, after what we check."""
    whole = {name: seeds.whole_model(name) for name in NATIVE}

    def make(case: Any) -> harness.Seed:
        return seeds.whole_model(case.seed, changed(seeds.models()[case.seed][0], case.changes))

    fuzz(worker, "model", whole, cases(whole), make, COUNTS["flatbuffer"])


@pytest.mark.parametrize(("names", "count"), [(NATIVE, COUNTS["graph"]), (SHIPPED, COUNTS["shipped"])])
def test_numbers_of_a_graph(worker: Reader, names: list[str], count: int) -> None:
    """Whole flatbuffers that say nonsense: wrong tensors, kinds, shapes, options."""
    whole = {name: seeds.whole_model(name) for name in names}

    def make(example: tuple[str, tuple[graphs.Edit, ...]]) -> harness.Seed:
        name, edits = example
        return seeds.whole_model(name, graphs.edited(seeds.models()[name][0], edits))

    fuzz(worker, "model", whole, st.tuples(st.sampled_from(names), graphs.edits()), make, count)


def test_bytes_of_a_shipped_file(worker: Reader) -> None:
    whole = seeds.bundled_files()
    fuzz(worker, "model", whole, cases(whole), lambda case: damaged(whole, case), COUNTS["file"])


def test_values_of_a_description(worker: Reader) -> None:
    names = list(seeds.models())

    def make(example: tuple[str, tuple[Any, ...]]) -> harness.Seed:
        name, edits = example
        value = harness.revalued(json.loads(seeds.models()[name][1]), edits)
        return seeds.model_with(name, json.dumps(value).encode())

    whole = {name: seeds.whole_model(name) for name in names}
    strategy = st.tuples(st.sampled_from(names), harness.values())
    fuzz(worker, "model", whole, strategy, make, COUNTS["description"])


@pytest.mark.parametrize("member", ["metadata.json", "temp_meta.txt"])
def test_metadata_of_ultralytics(worker: Reader, member: str) -> None:
    def write(value: Any) -> bytes:
        return (json.dumps(value) if member.endswith(".json") else repr(value)).encode()

    def make(example: tuple[tuple[Any, ...], tuple[Any, ...]]) -> harness.Seed:
        edits, damage = example
        return seeds.ultralytics_file(member, changed(write(harness.revalued(seeds.ultralytics(), edits)), damage))

    whole = {member: seeds.ultralytics_file(member, write(seeds.ultralytics()))}
    strategy = st.tuples(harness.values(), st.one_of(st.just(()), changes(2)))
    fuzz(worker, "model", whole, strategy, make, COUNTS["ultralytics"] // 2)


def test_tflite_metadata(worker: Reader) -> None:
    def make(example: tuple[tuple[Any, ...], tuple[Any, ...]]) -> harness.Seed:
        buffer, labels = example
        return seeds.tflite_file(changed(seeds.tflite_buffer(), buffer), changed(b"???\nperson\ncar\n", labels))

    whole = {"ssd": seeds.tflite_file(seeds.tflite_buffer())}
    strategy = st.tuples(changes(), st.one_of(st.just(()), changes(2)))
    fuzz(worker, "model", whole, strategy, make, COUNTS["tflite metadata"])


@pytest.mark.parametrize(
    ("kind", "target", "whole"),
    [
        ("labels", "labels", lambda: seeds.LABELS),
        ("pictures", "source", seeds.pictures),
        ("videos", "source", seeds.videos),
        ("labelled", "labelled", seeds.labelled),
        ("objects", "objects", seeds.objects),
        ("config text", "config", lambda: {"template": {"edge.toml": seeds.config_text()}}),
    ],
)
def test_bytes_of_files(worker: Reader, kind: str, target: str, whole: Any) -> None:
    files = whole()
    fuzz(worker, target, files, cases(files), lambda case: damaged(files, case), COUNTS[kind])


@pytest.mark.parametrize("form", ["labelled", "objects"])
def test_values_of_coco(worker: Reader, form: str) -> None:
    whole = {"coco": dict(getattr(seeds, form)()["coco"])}

    def make(edits: tuple[Any, ...]) -> harness.Seed:
        return whole["coco"] | {
            "annotations/instances_train.json": json.dumps(harness.revalued(seeds.coco(), edits)).encode()
        }

    fuzz(worker, form, whole, harness.values(), make, COUNTS["json values"] // 2)


def test_values_of_a_configuration(worker: Reader) -> None:
    whole = {"all": {"edge.toml": seeds.toml(seeds.config_values())}}

    def make(edits: tuple[Any, ...]) -> harness.Seed:
        return {"edge.toml": seeds.toml(harness.revalued(seeds.config_values(), edits))}

    fuzz(worker, "config", whole, harness.values(), make, COUNTS["config values"])


def test_a_darknet_network(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow")
    whole = seeds.darknet()
    with harness.reader(tmp_path) as worker:
        fuzz(worker, "darknet", whole, cases(whole, most=2), lambda case: damaged(whole, case), COUNTS["darknet"])


def test_the_harness_notices(tmp_path: Path) -> None:
    """What it must not overlook: a crash, a hang, a traceback, much memory, and more lines than one."""
    for target, telling in (
        ("_crash", "the process died: SIGSEGV"),
        ("_hang", "no answer within 1 s"),
        ("_traceback", "ZeroDivisionError"),
        ("_memory", "MB of memory"),
        ("_lines", "untidy"),
    ):
        with harness.reader(tmp_path) as worker:
            assert worker.check("labels", seeds.LABELS["plain"]) == "read"
            with pytest.raises(harness.Failure, match=telling):
                worker.check(target, seeds.LABELS["plain"], max_growth_kb=100 << 10, limit_s=1.0)
            assert worker.check("labels", seeds.LABELS["plain"]) == "read"


@pytest.mark.lab
@pytest.mark.timeout(7200)
def test_ten_minutes() -> None:
    """Files that nobody saw before; EDGE_FUZZ_SECONDS says how long."""
    budget = os.environ.get("EDGE_FUZZ_SECONDS", "600")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        str(Path(__file__)),
        "-m",
        "not lab",
    ]
    done = subprocess.run(command, env=os.environ | {"EDGE_FUZZ_SECONDS": budget}, capture_output=True, text=True)
    print(done.stdout[-20_000:])
    assert done.returncode == 0, "the failing examples are printed above"
