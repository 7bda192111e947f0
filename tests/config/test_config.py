"""edge.toml: what is wrong with it is told with its line; variables, paths, the example, and what differs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from edge.cli.app import app
from edge.config.diff import camera_changes
from edge.config.lines import key_lines, line_of
from edge.config.load import check_config, load_config
from edge.config.schema import Config
from edge.config.template import markdown, template
from edge.errors import InputError

CAMERA = '[cameras.front]\nsource = "0"\n'
DOCS = Path(__file__).parents[2] / "docs/configuration.md"


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "edge.toml"
    path.write_text(text)
    return [problem.removeprefix(f"{path}:") for problem in check_config(path)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{CAMERA}clases = ['a']", "3: cameras.front.clases: unknown key; did you mean classes?"),
        (f"{CAMERA}zzzz = 1", "3: cameras.front.zzzz: unknown key; expected one of source, enabled, model"),
        ("[cameras.front]\nconf = 0.5", "1: cameras.front: the key source is missing"),
        ("[cameras.front]\n\nsorce = '0'", "3: cameras.front.sorce: unknown key; did you mean source?"),
        (f"{CAMERA}conf = 1.5", "3: cameras.front.conf: expected less than or equal to 1, found 1.5"),
        (f"{CAMERA}rotate = 45", "3: cameras.front.rotate: expected 0, 90, 180 or 270, found 45"),
        (f"{CAMERA}size = 'large'", "3: cameras.front.size: expected WIDTHxHEIGHT in pixels, like 1280x720"),
        (f"{CAMERA}format = 'MPEG-4'", "3: cameras.front.format: expected four letters, like MJPG"),
        (f"{CAMERA}every = 'two'", "3: cameras.front.every: expected integer, found a string"),
        (f"{CAMERA}model = 'm'\n[models.n]", "3: cameras.front.model: there is no model 'm'; there is n"),
        (
            f"{CAMERA}sinks = [\n 'lgo',\n]\n[sinks.log]\nkind = 'json'\npath = 'x'",
            "4: cameras.front.sinks[0]: there is no sink 'lgo'; did you mean log?",
        ),
        (f"{CAMERA}[models.m]\nthreads = 'many'", "4: models.m.threads: expected integer or 'auto', found 'many'"),
        (
            f"{CAMERA}[sinks.x]\npath = 'x'",
            "3: sinks.x: the key kind is missing: json, csv, record, clips or snapshots",
        ),
        (
            f"{CAMERA}[sinks.x]\nkind = 'jsno'\npath = 'x'",
            "4: sinks.x.kind: expected json, csv, record, clips or snapshots, found 'jsno'; did you mean json?",
        ),
        (f"{CAMERA}[sinks.x]\nkind = 'json'\npth = 'x'", "5: sinks.x.pth: unknown key; did you mean path?"),
        (
            f"{CAMERA}[sinks.x]\nkind = 'json'\npath = '{{cam}}'",
            "5: sinks.x.path: unknown placeholder {cam}; expected {camera}",
        ),
        (
            f"{CAMERA}[cameras.b]\nsource = '1'\n[sinks.x]\nkind = 'csv'\npath = 'x'",
            "7: sinks.x.path: cameras front and b would write one file; put {camera} into its name",
        ),
        (
            f"{CAMERA}[sinks.x]\nkind = 'csv'\npath = 'x'\n[sinks.y]\nkind = 'json'\npath = './x'",
            "8: sinks.y.path: sinks.x writes to the same place for camera front; give another path",
        ),
        (
            f"{CAMERA}[service]\nhttp = '0.0.0.0:80'",
            "3: service.token: is missing or empty, and http can be reached by others: set it, or use 127.0.0.1",
        ),
        (f"{CAMERA}[service]\nhttp = 'localhost'", "4: service.http: expected HOST:PORT, like 127.0.0.1:8621"),
        (f"{CAMERA}[service]\nlog = 'xml'", "4: service.log: expected 'text' or 'json', found 'xml'"),
        (
            f"{CAMERA}[cameras.'bad name']\nsource = '1'",
            "3: cameras.'bad name': a name consists of letters, digits, - and _, 64 at most",
        ),
        (f"{CAMERA}[camera.b]\nsource = '1'", "3: camera: unknown key; did you mean cameras?"),
        ("cameras.front = { source = '0', conf = 'x' }", "1: cameras.front.conf: expected number, found a string"),
        (f"{CAMERA}source = '1'", "3: not valid TOML (Cannot overwrite a value)"),
        (f"{CAMERA}conf = ", "3: not valid TOML (Invalid value)"),
        ("[cameras]\nfront = 3", "2: cameras.front: expected a table, found 3"),
        (f"{CAMERA}every = true", "3: cameras.front.every: expected integer, found a boolean"),
        (f"{CAMERA}every = 1.5", "3: cameras.front.every: expected integer, found 1.5"),
        (f"{CAMERA}conf = true", "3: cameras.front.conf: expected number, found a boolean"),
        (f"{CAMERA}agnostic = 'maybe'", "3: cameras.front.agnostic: expected true or false, found a string"),
        (f"{CAMERA}max_fps = inf", "3: cameras.front.max_fps: expected a finite number, found inf"),
        (f"{CAMERA}conf = nan", "3: cameras.front.conf: expected a finite number, found nan"),
        (f"{CAMERA}classes = 'person'", "3: cameras.front.classes: expected an array, found a string"),
        (f"{CAMERA}classes = [true]", "3: cameras.front.classes[0]: expected string, found a boolean"),
        (f"{CAMERA}model = 'a\\nb'", "3: cameras.front.model: there is no model 'a\\\\nb'; there is default"),
        (f'{CAMERA}model = "\\u0000"', "3: cameras.front.model: holds a character that cannot be written"),
        (f'{CAMERA}"\\u001b[31m\\n" = 1', "3: cameras.front.'\\x1b[31m\\n': unknown key"),
        (f"{CAMERA}a{'.a' * 5000} = 1", "3: expected a key of a few names, found dozens"),
        (f"{CAMERA}model = {'[' * 200}{']' * 200}", "3: cameras.front.model"),
        ("[cameras.a]\nsource = 'rstp://h/x'", "2: cameras.a.source: unknown scheme 'rstp'; expected one of http"),
        ("[cameras.a]\nsource = 'rtsp:///x'", "2: cameras.a.source: the URL names no host"),
        ("[cameras.a]\nsource = 'rtsp://u:pw@h:99999/x'", "2: cameras.a.source: this is no valid URL"),
        ("[cameras.a]\nsource = 'all.streams'", "2: cameras.a.source: a list of sources; expected one of those"),
        ("[cameras.a]\nsource = 'csi://x'", "2: cameras.a.source: expected the number of a camera"),
        ("[cameras.a]\nsource = ''", "2: cameras.a.source: is empty"),
        (
            f"{CAMERA}[sinks.a]\nkind = 'json'\npath = '{{camera}}'\n[sinks.b]\nkind = 'csv'\npath = './x/../front'",
            "8: sinks.b.path: sinks.a writes to the same place for camera front; give another path",
        ),
        (
            f"{CAMERA}[sinks.a]\nkind = 'record'\npath = 'v'\n[sinks.b]\nkind = 'clips'\npath = 'v/'",
            "8: sinks.b.path: sinks.a writes to the same place for camera front; give another path",
        ),
        (f"{CAMERA}[sinks.a]\nkind = 'json'\npath = '..'", "5: sinks.a.path: is a folder; expected a file"),
        (
            f"{CAMERA}[sinks.a]\nkind = 'json'\npath = 'x.log'\n[sinks.b]\nkind = 'csv'\npath = 'x.4.log'",
            "8: sinks.b.path: sinks.a calls its older files so; give another path",
        ),
        (f"{CAMERA}[sinks.a]\nkind = 'csv'\npath = 'x{{camera'", "5: sinks.a.path: a brace is not closed"),
        (f"{CAMERA}model = '${{X'", "3: cameras.front.model: ${ begins a variable, and no } ends it"),
    ],
)
def test_a_problem_is_one_line_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1 and found[0].startswith(says), found
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "edge.toml")
    assert "\n" not in str(caught.value) and says in str(caught.value)


def test_all_problems_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "[service]\nlgo = 1\n[cameras.a]\nsource = '0'\nconf = 2\n[cameras.b]\n[models.m]\nthreads = 0\n"
    found = problems(tmp_path, text)
    assert [line.partition(":")[0] for line in found] == ["2", "5", "6", "8"]
    with pytest.raises(InputError, match=r"\(and 3 more: edge run .* --check\)$"):
        load_config(tmp_path / "edge.toml")


def test_names_are_checked_although_other_things_are_wrong(tmp_path: Path) -> None:
    found = problems(tmp_path, f"{CAMERA}conf = 7\nmodel = 'm'\nsinks = ['s']\n[cameras.b]\nsource = 'rtsp://'\n")
    assert [line.partition(":")[0] for line in found] == ["3", "4", "5", "7"]


def test_a_camera_that_is_off_writes_nothing(tmp_path: Path) -> None:
    text = f"{CAMERA}[cameras.b]\nsource = '1'\nenabled = false\n[sinks.x]\nkind = 'csv'\npath = 'x'\n"
    assert problems(tmp_path, text) == []
    assert problems(tmp_path, "\ufeff" + text.replace("\n", "\r\n")) == []


@pytest.mark.parametrize(
    "text",
    [
        f"{CAMERA}model = '${{PW}}'",
        f"{CAMERA}sinks = ['${{PW}}']",
        f"{CAMERA}[sinks.a]\nkind = '${{PW}}'\npath = 'x'",
        f"{CAMERA}[sinks.a]\nkind = 'json'\npath = '{{${{PW}}}}'",
        f"{CAMERA}[service]\nhttp = '${{PW}}:80'",
        "[cameras.a]\nsource = 'rtsp://${PW}:99999/x'",
        f"{CAMERA}[models.m]\ninput_range = '${{PW}}'",
    ],
)
def test_what_a_variable_holds_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PW", "s3cret")
    found = problems(tmp_path, text)
    assert len(found) == 1 and "s3cret" not in found[0]


def test_numbers_may_come_from_variables_and_problems_of_one_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERY", "3")
    monkeypatch.setenv("TURN", "180")
    (tmp_path / "edge.toml").write_text(f"{CAMERA}every = '${{EVERY}}'\nrotate = '${{TURN}}'\n")
    camera = load_config(tmp_path / "edge.toml").config.cameras["front"]
    assert (camera.every, camera.rotate) == (3, 180)
    assert len(problems(tmp_path, f"{CAMERA}model = '${{NOPE}}'\nconf = '${{NOPE}}'")) == 2


def test_what_is_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    assert "cannot be read (No such file" in check_config(path)[0]
    assert check_config(tmp_path) == [f"{tmp_path}: is a folder; expected a configuration file, such as {path}"]
    path.write_bytes(b"a = 1\nb = '\xff'\n")
    assert check_config(path) == [f"{path}:2: expected text in UTF-8, found the byte 0xff"]
    path.write_bytes(bytes(2 << 20))
    assert "found a file of 2 MB" in check_config(path)[0]
    assert problems(tmp_path, "") == [" there is no camera; add one: [cameras.front] with a source"]


def test_variables_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM_PASS", "s3cret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "TOKEN").write_text("t0ken\n")
    path = tmp_path / "edge.toml"
    path.write_text(
        "[service]\nhttp = '0.0.0.0:8621'\ntoken = '${TOKEN}'\n"
        "[cameras.a]\nsource = 'rtsp://u:${CAM_PASS}@h/x'\nclasses = ['$${x}']\n"
    )
    config = load_config(path).config
    assert config.service.token == "t0ken"
    assert config.cameras["a"].source == "rtsp://u:s3cret@h/x"
    assert config.cameras["a"].classes == ("${x}",)
    assert "t0ken" not in repr(config) and "s3cret" not in repr(config)
    assert problems(tmp_path, f"{CAMERA}model = '${{NOPE}}'")[0] == (
        "3: cameras.front.model: the variable NOPE is not set in the environment, and no credential"
    )
    # A value is never shown where it is wrong: it may be a secret.
    found = problems(tmp_path, f"{CAMERA}conf = '${{CAM_PASS}}'\nsize = '${{CAM_PASS}}'")
    assert len(found) == 2 and not any("s3cret" in line for line in found)


def test_paths_start_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    path = tmp_path / "edge.toml"
    path.write_text(
        "[models.a]\npath = 'm.tflite'\nlabels = 'l.txt'\n[models.b]\npath = 'edge-yolo-n'\n"
        "[models.c]\npath = '~/m.tflite'\n"
        "[cameras.a]\nsource = 'clips/v.mp4'\n[cameras.b]\nsource = '0'\n[cameras.c]\nsource = 'rtsp://h/x'\n"
        "[cameras.d]\nsource = '/dev/video0'\n[sinks.s]\nkind = 'json'\npath = 'out/{camera}.jsonl'\n"
    )
    monkeypatch.chdir("/")
    config = load_config(path).config
    assert [model.path for model in config.models.values()] == [
        f"{tmp_path}/m.tflite",
        "edge-yolo-n",
        "/home/me/m.tflite",
    ]
    assert config.models["a"].labels == f"{tmp_path}/l.txt"
    assert [camera.source for camera in config.cameras.values()] == [
        f"{tmp_path}/clips/v.mp4",
        "0",
        "rtsp://h/x",
        "/dev/video0",
    ]
    assert config.sinks["s"].path == f"{tmp_path}/out/{{camera}}.jsonl"


def test_the_example_is_valid_and_so_is_every_key_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(app, ["config", "init"])
    assert outcome.exit_code == 0 and "edge run edge.toml --check" in outcome.output
    assert check_config("edge.toml") == []
    text = Path("edge.toml").read_text()
    assert text == template("edge.toml")
    monkeypatch.setenv("EDGE_TOKEN", "x")
    Path("all.toml").write_text(re.sub(r"(?m)^#: ", "", text))
    assert check_config("all.toml") == []
    data = tomllib.loads(Path("all.toml").read_text())
    assert set(data["cameras"]["front"]) == set(Config.model_fields["cameras"].annotation.__args__[1].model_fields)
    assert {sink["kind"] for sink in data["sinks"].values()} == {"json", "csv", "record", "clips", "snapshots"}
    again = CliRunner().invoke(app, ["config", "init"])
    assert again.exit_code == 2
    assert CliRunner().invoke(app, ["config", "init", "--force"]).exit_code == 0


def test_the_schema_is_json() -> None:
    outcome = CliRunner().invoke(app, ["config", "schema"])
    assert "cameras" in json.loads(outcome.output)["properties"]


def test_the_documentation_has_every_key() -> None:
    text = DOCS.read_text()
    start, end = "<!-- keys: made by edge.config.template -->\n", "<!-- end of keys -->"
    assert text.partition(start)[2].partition(end)[0].strip() == markdown().strip()


def test_what_differs(tmp_path: Path) -> None:
    def config(text: str) -> Config:
        (tmp_path / "edge.toml").write_text(text)
        return load_config(tmp_path / "edge.toml").config

    def camera(name: str, more: str = "") -> str:
        return f"[cameras.{name}]\nsource = '0'\n{more}\n"

    models = "[models.m]\n[models.n]\npath = 'edge-yolo-n-int8'\n"
    sink = "[sinks.s]\nkind = 'json'\npath = '{camera}'\n"
    old = config(models + camera("a") + camera("b", "model = 'n'") + camera("c", "sinks = []") + camera("d") + sink)

    def changes(text: str) -> tuple[set[str], set[str], set[str]]:
        found = camera_changes(old, config(text))
        return set(found.added), set(found.removed), set(found.changed)

    rest = camera("b", "model = 'n'") + camera("c", "sinks = []") + camera("d")
    assert changes(models + camera("a") + rest + sink) == (set(), set(), set())
    assert changes(models + camera("a", "conf = 0.1") + rest + sink) == (set(), set(), {"a"})
    assert changes(models + camera("e") + rest + sink) == ({"e"}, {"a"}, set())
    assert changes(models + camera("a", "enabled = false") + rest + sink) == (set(), {"a"}, set())
    assert changes(models + camera("a") + rest + sink + "keep = 9\n") == (set(), set(), {"a", "b", "d"})
    assert changes(models + "threads = 2\n" + camera("a") + rest + sink) == (set(), set(), {"b"})
    assert changes("[service]\nlog = 'json'\n" + models + camera("a") + rest + sink) == (set(), set(), set())


def test_lines_of_keys_in_every_form() -> None:
    text = '''
# a comment = "x"
[a."b.c"] # [no]
x = """
[not.a.table]
y = 1 \\
"""
y.z = [ # comment ]
  1, "],", { q = 2, "r s" = 3 },
  [ 4,
    5 ],
]
t = 'it''
'''.replace("'it''", "'it'")
    lines = key_lines(text + "[[list]]\nk = 1\n[[list]]\nk = 2\n[list.sub]\nm = 3\n")
    key = ("a", "b.c")
    assert [
        lines[(*key, *rest)]
        for rest in ((), ("x",), ("y",), ("y", "z"), ("y", "z", 1), ("y", "z", 2, "r s"), ("y", "z", 3, 1), ("t",))
    ] == [3, 4, 8, 8, 9, 9, 11, 13]
    assert [lines[("list", i, "k")] for i in (0, 1)] == [15, 17]
    assert lines[("list", 1, "sub", "m")] == 19
    assert line_of(lines, ("a", "b.c", "y", "w", "v")) == 8 and line_of(lines, ("u",)) is None


TOML = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abé .\"'[=#", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(inline, value)) + "\n]"
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(st.text("abé .\"'[=#", min_size=1, max_size=4), TOML, max_size=4))
def test_every_key_of_any_toml_has_a_line(data: dict[str, object]) -> None:
    text = "".join(f"{json.dumps(key, ensure_ascii=False)} = {inline(value)}\n" for key, value in data.items())
    try:
        assert tomllib.loads(text) == data
    except tomllib.TOMLDecodeError:
        return
    lines = key_lines(text)

    def walk(value: object, key: tuple[str | int, ...]) -> None:
        if key:
            assert key in lines
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for part, inner in items:
            walk(inner, (*key, part))

    walk(data, ())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text("ab[]{}=\"'\\#.,\n 01", max_size=60))
def test_no_text_hurts_the_scanner(text: str) -> None:
    lines = key_lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
