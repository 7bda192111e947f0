"""`edge tune`: the rule, the lines of an edge.toml, and the command."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_fakes import result_row, whole_report
from fixtures import SIZE_WH, paint, tiny_detector
from hypothesis import given
from hypothesis import strategies as st
from media import film
from typer.testing import CliRunner, Result

from edge.benchmark.choose import Candidate, candidates, choose
from edge.cli.app import app
from edge.config.edit import edit_file, edited, toml
from edge.config.load import load_config
from edge.config.schema import Config
from edge.errors import InputError, OutputError

TABLE = ("models", "default")
VALUES: dict[str, Any] = {"path": "a.tflite", "delegate": "cpu", "threads": 2, "interpreters": 1}


def candidate(name: str, fps: float | None, accuracy: float | None, cpu_ms: float = 10.0, **changes: Any) -> Candidate:
    values = {"mode": "pipelined", "interpreters": 1, "threads": 1, "age_ms": None, "why_not": None, **changes}
    return Candidate(result_row(f"{name}.tflite"), fps=fps, accuracy=accuracy, cpu_ms=cpu_ms, **values)


def chosen(
    found: list[Candidate], target_fps: float = 15.0, least: float | None = 0.2
) -> tuple[str | None, dict[str, str]]:
    """Return the name of the chosen one, and name -> why of the others."""
    ranked = choose(found, target_fps, least)
    names = [one.name for one in ranked if one.why_not is None]
    assert len(names) <= 1
    if names:
        assert ranked[0].why_not is None
    return (names or [None])[0], {one.name: one.why_not for one in ranked if one.why_not is not None}


def test_the_most_accurate_that_is_fast_enough_is_taken() -> None:
    found = [candidate("s", 80, 0.30), candidate("m", 20, 0.40), candidate("l", 9, 0.50), candidate("xs", 200, 0.1)]
    name, why = chosen(found)
    assert name == "m"
    assert why == {
        "s": "fits; less accurate",
        "l": "9.00 fps, below 15",
        "xs": "accuracy 0.100, below 0.2",
    }


def test_of_equally_accurate_ones_the_one_with_least_cpu_time_is_taken() -> None:
    found = [candidate("f", 20, 0.402, 30.0), candidate("i", 25, 0.400, 12.0), candidate("j", 99, 0.39, 5.0)]
    name, why = chosen(found)
    assert name == "i"
    assert why == {"f": "fits; 2.50 x the CPU time", "j": "fits; less accurate"}


def test_of_those_that_need_the_same_the_simplest_is_taken() -> None:
    found = [
        candidate("two", 60, 0.4, 10.0, interpreters=2),
        candidate("threads", 50, 0.4, 10.2, threads=2),
        candidate("one", 40, 0.4, 10.5),
    ]
    assert chosen(found)[0] == "one"


def test_what_failed_or_says_no_accuracy_is_refused() -> None:
    found = [candidate("g", None, 0.4, why_not="no GPU"), candidate("n", 50, None), candidate("u", None, 0.3)]
    name, why = chosen(found)
    assert name is None
    assert why == {"g": "no GPU", "n": "carries no accuracy", "u": "- fps, below 15"}
    assert chosen(found, least=None)[0] == "n"


def test_nothing_fits_the_nearest_comes_first() -> None:
    ranked = choose([candidate("a", 5, 0.4), candidate("b", 12, 0.4)], 15.0, None)
    assert [one.name for one in ranked] == ["b", "a"]


def test_candidates_are_one_interpreter_or_several_and_count_their_slowest_round() -> None:
    mode = result_row()["modes"]["sequential"]
    age = {"p95_ms": 7.5}
    modes = {
        "pipelined": {**mode, "fps_rounds": [30.0, 20.0, 31.0]},
        "throughput": {**mode, "fps_rounds": [50.0, 60.0], "interpreters": 4},
        "live": {**mode, "age": age},
    }
    two = result_row(modes=modes, num_threads=2, key="a.tflite cpu 2")
    failed = result_row("g.tflite", modes={}, latency=None, problem="no GPU")
    found = candidates(whole_report(result_row(modes=modes), two, failed))
    assert [(c.name, c.interpreters, c.threads, c.fps, c.age_ms, c.why_not) for c in found] == [
        ("a", 1, 1, 20.0, 7.5, None),
        ("a", 4, 1, 50.0, None, None),
        ("a", 1, 2, 20.0, 7.5, None),
        ("g", 1, 1, None, None, "no GPU"),
    ]


def test_keys_are_changed_and_comments_stay() -> None:
    text = (
        "# mine\n[service]\nlog = \"text\"\n\n[models.default] # the model\npath = 'old.tflite'  # was good\n"
        'threads="auto"\nverify = true\n\n[cameras.front]\nsource = "0" # door\n'
    )
    assert edited(text, TABLE, VALUES) == (
        '# mine\n[service]\nlog = "text"\n\n[models.default] # the model\n'
        'delegate = "cpu"\ninterpreters = 1\n'
        'path = "a.tflite"  # was good\nthreads=2\nverify = true\n\n[cameras.front]\nsource = "0" # door\n'
    )


def test_a_table_that_is_missing_comes_at_the_end() -> None:
    text = '[cameras.front]\nsource = "0"'
    result = edited(text, TABLE, {"threads": 1})
    assert result == text + "\n\n[models.default]\nthreads = 1\n"
    assert edited("", TABLE, {"threads": 1}) == "[models.default]\nthreads = 1\n"
    assert edited("[models.other]\nthreads = 3\n", TABLE, {"threads": 1}).startswith("[models.other]\nthreads = 3\n")


def test_other_characters_that_end_lines_elsewhere_do_not_here() -> None:
    text = '# a\u2028b\x85\n[models.default]\nlabels = "x\u2028y" # \u0085\nthreads = 1\n'
    assert edited(text, TABLE, {"threads": 3}) == text.replace("threads = 1", "threads = 3")


def test_line_ends_of_windows_stay() -> None:
    result = edited('[models.default]\r\npath = "x"\r\n', TABLE, VALUES)
    assert "\n" not in result.replace("\r\n", "")
    assert tomllib.loads(result)["models"]["default"] == VALUES


@pytest.mark.parametrize(
    "text",
    [
        'models.default.path = "x"\n',
        'models = {default = {path = "x"}}\n',
        '[models]\ndefault = {path = "x"}\n',
        '[models]\ndefault.path = "x"\n',
        "[models.default]\npath = '''\nx'''\n",
        "[models.default]\nthreads = [1,\n2]\n",
        "models = 3\n",
        "[models]\ndefault = 3\n",
        '[[models]]\npath = "x"\n',
        "not toml",
        "[models.default]\npath.a = 1\n",
    ],
)
def test_what_cannot_be_changed_by_line_is_refused_and_left(text: str, tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="left as it is") as caught:
        edit_file(path, text, TABLE, VALUES)
    assert "\n" not in str(caught.value)
    assert 'path = "a.tflite"' in str(caught.value)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


_NAMES = st.sampled_from(["path", "delegate", "threads", "interpreters", "verify", "labels"])
_SCALARS = st.one_of(
    st.text(max_size=12).filter(lambda text: "\0" not in text and not any(0xD800 <= ord(c) < 0xE000 for c in text)),
    st.integers(0, 99),
    st.booleans(),
)


@given(
    tables=st.dictionaries(
        st.sampled_from(["models.default", "models.b", "cameras.front", "service"]),
        st.dictionaries(_NAMES, _SCALARS, max_size=4),
        max_size=4,
    ),
    comment=st.sampled_from(["", " # note", '  # a = "b" [models.default]']),
    values=st.dictionaries(_NAMES, _SCALARS, min_size=1, max_size=4),
)
def test_whatever_a_file_holds_only_the_keys_change(
    tables: dict[str, dict[str, Any]], comment: str, values: dict[str, Any]
) -> None:
    lines = []
    for name, pairs in tables.items():
        lines.append(f"[{name}]{comment}")
        lines += [f"{key} = {toml(value)}{comment}" for key, value in pairs.items()]
    text = "\n".join(lines)
    before = tomllib.loads(text)
    result = edited(text, TABLE, values)
    after = tomllib.loads(result)
    assert after["models"]["default"] == {**before.get("models", {}).get("default", {}), **values}
    after["models"].pop("default")
    before.setdefault("models", {}).pop("default", None)
    assert after == before
    assert result.count("#") >= text.count("#") - sum(toml(v).count("#") for t in tables.values() for v in t.values())


def test_mode_and_link_of_the_file_stay(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_text("[models.default]\n")
    real.chmod(0o600)
    link = tmp_path / "edge.toml"
    link.symlink_to(real.name)
    edit_file(link, real.read_text(), TABLE, VALUES)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert tomllib.loads(real.read_text())["models"]["default"] == VALUES


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        edit_file(tmp_path / "no" / "edge.toml", "", TABLE, VALUES)


Tune = Callable[..., Result]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = (paint([("red", i % 4, 1)]) for i in range(6))
    return film(tmp_path_factory.mktemp("street") / "s.mkv", scenes, 200.0, SIZE_WH, "FFV1")


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, street: Path) -> Tune:
    monkeypatch.chdir(tmp_path)
    quick = ("--source", str(street), "--runs", "4", "--rounds", "4", "--threads", "1")
    return lambda *words: CliRunner().invoke(app, ["tune", *quick, *map(str, words)])


def test_the_choice_is_written_into_a_new_file_that_runs(tune: Tune, tmp_path: Path) -> None:
    model = tiny_detector().save(tmp_path / "tiny.tflite")
    done = tune(model, "--target-fps", "0.001", "--json", "t.json")
    assert done.exit_code == 0, done.output
    assert "chosen" in done.stdout
    config: Config = load_config(tmp_path / "edge.toml").config
    written = config.models["default"]
    assert (written.path, written.delegate, written.threads) == (str(model), "cpu", 1)
    assert written.interpreters in (1, 2, 3, 4)
    assert 'path = "tiny.tflite"\n' in (tmp_path / "edge.toml").read_text()
    found = json.loads((tmp_path / "t.json").read_text())["tune"]
    assert found["chosen"]["path"] == "tiny.tflite"
    assert [row["refused"] for row in found["candidates"]].count(None) == 1


def test_the_choice_is_written_into_the_file_that_is_there(tune: Tune, tmp_path: Path) -> None:
    model = tiny_detector().save(tmp_path / "tiny.tflite")
    other = tmp_path / "conf"
    other.mkdir()
    path = other / "edge.toml"
    path.write_text('[models.day] # in use\npath = "x.tflite" # old\n\n[cameras.a]\nsource = "rtsp://u:${SECRET}@h/"\n')
    done = tune(model, "--target-fps", "0.001", "--config", path, "-q")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    text = path.read_text()
    assert "[models.day] # in use\n" in text and "# old\n" in text
    assert text.endswith('\n[cameras.a]\nsource = "rtsp://u:${SECRET}@h/"\n')
    assert tomllib.loads(text)["models"]["day"]["path"] == str(model)
    assert "note: " in done.stderr and "the variable SECRET is not set" in done.stderr


def test_a_choice_that_no_camera_uses_is_noted(tune: Tune, tmp_path: Path) -> None:
    model = tiny_detector().save(tmp_path / "tiny.tflite")
    (tmp_path / "edge.toml").write_text('[models.day]\n[cameras.a]\nsource = "0"\n')
    done = tune(model, "--target-fps", "0.001", "--name", "night", "-q")
    assert done.stderr.splitlines()[-1] == 'note: no camera uses it; put model = "night" into one'
    done = tune(model, "--target-fps", "0.001", "-q")
    assert "note" not in done.stderr


def test_bundled_models_are_the_choice_by_default_and_stay_names(tune: Tune, tmp_path: Path) -> None:
    done = tune("--target-fps", "0.001", "--min-map", "0.1", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "edge-yolo-n-int8" in done.stdout
    assert "path = edge-yolo-n" in done.stderr and "nothing was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_fits_the_table_says_why_and_nothing_is_written(tune: Tune, tmp_path: Path) -> None:
    model = tiny_detector().save(tmp_path / "tiny.tflite")
    done = tune(model, "--target-fps", "1000000", "--min-map", "0.5")
    assert done.exit_code == 2
    assert "carries no" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge: --target-fps 1e+06 with an accuracy of 0.5 or more: none of")
    assert not (tmp_path / "edge.toml").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--target-fps"),
        (("--target-fps", "0"), "--target-fps 0: expected"),
        (("--target-fps", "nan"), "--target-fps nan: expected"),
        (("--target-fps", "5", "--min-map", "20"), "--min-map 20: expected a number from 0 to 1"),
        (("--target-fps", "5", "--name", "a b"), "--name 'a b': expected"),
        (("--target-fps", "5", "--config", "."), "is a folder"),
        (("--target-fps", "5", "--config", "no/edge.toml"), "there is no folder"),
        (("--target-fps", "5", "--config", "bad.toml"), "not valid TOML"),
        (("--target-fps", "5", "--delegate", "nothing"), "--delegate nothing: expected"),
        (("--target-fps", "5", "no.tflite"), "no such model file"),
        (("--target-fps", "5", "--threads", "0"), "--threads 0: expected numbers from 1 to 64"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(
    tune: Tune, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "bad.toml").write_text("[models\n")
    done = tune(*words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge: ") and said in line


def test_a_folder_without_permission_is_told_before(tune: Tune, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    done = tune("--target-fps", "5", "--config", folder / "edge.toml")
    assert done.exit_code == 2 and "no permission" in done.stderr
