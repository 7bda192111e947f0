"""`edge models pull` as a user runs it, from a server on this machine."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import described, paint, tiny_classifier, tiny_detector
from typer.testing import CliRunner

from edge.cli.app import app
from edge.coco import CATEGORY_IDS, canonical
from edge.errors import EdgeError
from edge.spec.archive import read_tail
from edge.spec.labels import read_labels
from edge.spec.resolve import METADATA_NAME
from edge.zoo import pull as zoo
from edge.zoo.cache import cache_folder, find_model
from edge.zoo.table import MODELS, PublicModel, Remote

LABELS = b"rouge\nvert\nbleu\n"


def edge(*words):
    """Run a command in this process; give its exit code, and what it said on stdout and stderr."""
    done = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "80"})
    return done.exit_code, done.stdout, done.stderr


def offer(server, name, data):
    server.files[name] = data
    return Remote(server.url(name), hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def table(monkeypatch):
    """An empty table to fill."""
    for name in tuple(MODELS):
        monkeypatch.delitem(MODELS, name)
    return MODELS


@pytest.fixture
def tiny(server, table, monkeypatch):
    """A classifier of three colours without labels in its file, and labels beside it."""
    model = offer(server, "tiny.tflite", described(tiny_classifier(), labels=[]))
    row = PublicModel(
        "classify", 3, (64, 64), "CC-BY-4.0", "somebody", model, labels=offer(server, "names.txt", LABELS)
    )
    monkeypatch.setitem(table, "tiny-1.0", row)
    return row


def test_a_model_is_pulled_described_and_runs_by_its_name(server, tiny, cache, tmp_path):
    code, out, said = edge("models", "pull", "tiny-1.0")
    path = cache / "tiny-1.0.tflite"
    assert (code, out) == (0, f"{path}\n")
    assert said.splitlines() == [
        "tiny-1.0: somebody; licence: CC-BY-4.0",
        "run it with: edge classify --model tiny-1.0 --source photo.jpg",
    ]
    spec = json.loads(read_tail(path)[METADATA_NAME])
    assert (spec["name"], spec["labels"]) == ("tiny-1.0", ["rouge", "vert", "bleu"])
    assert spec["provenance"] == {
        "source": tiny.weights.url,
        "source_sha256": tiny.weights.sha256,
        "licence": "CC-BY-4.0",
        "attribution": "somebody",
    }
    assert sorted(os.listdir(cache)) == [".lock", "downloads", "tiny-1.0.tflite"]
    assert os.listdir(cache / "downloads") == []
    picture = tmp_path / "green.png"
    cv2.imwrite(str(picture), np.full((96, 128, 3), (0, 255, 0), np.uint8))
    code, out, _ = edge("classify", "--model", "tiny-1.0", "--source", picture, "--json", "-", "--quiet")
    assert code == 0 and json.loads(out)["classes"][0]["name"] == "vert"
    code, out, _ = edge("inspect", "tiny-1.0", "--json")
    assert code == 0 and json.loads(out)["file"] == str(path)


def test_a_detector_that_says_nothing_itself_gets_labels_and_runs(server, table, cache, monkeypatch, tmp_path):
    model = offer(server, "ssd.tflite", tiny_detector("ssd_postprocess", "uint8").model)
    labels = offer(server, "names.txt", LABELS)
    monkeypatch.setitem(table, "ssd", PublicModel("detect", 3, (128, 96), "Apache-2.0", "them", model, labels=labels))
    assert edge("models", "pull", "ssd")[0] == 0
    picture = tmp_path / "blue.png"
    cv2.imwrite(str(picture), paint([("blue", 1, 1)]))
    code, out, _ = edge("detect", "--model", "ssd", "--source", picture, "--json", "-", "--quiet")
    assert code == 0 and [found["name"] for found in json.loads(out)["detections"]] == ["bleu"]


def test_a_second_pull_asks_the_server_nothing(server, tiny, cache):
    edge("models", "pull", "tiny-1.0")
    asked = dict(server.asked)
    code, out, said = edge("models", "pull", "tiny-1.0")
    assert (code, out) == (0, f"{cache / 'tiny-1.0.tflite'}\n")
    assert said == "already there; run it with: edge classify --model tiny-1.0 --source photo.jpg\n"
    assert server.asked == asked == {"tiny.tflite": 1, "names.txt": 1}
    facts = json.loads(edge("models", "pull", "tiny-1.0", "--json")[1])
    assert facts["fetched"] is False and facts["licence"] == "CC-BY-4.0"


@pytest.mark.parametrize("damage", [b"", b"no model", None], ids=["empty", "other", "one bit"])
def test_a_damaged_model_in_the_cache_is_pulled_again(server, tiny, cache, damage):
    edge("models", "pull", "tiny-1.0")
    path = cache / "tiny-1.0.tflite"
    good = path.read_bytes()
    path.write_bytes(bytes([*good[:100], good[100] ^ 1, *good[101:]]) if damage is None else damage)
    assert edge("models", "pull", "tiny-1.0")[0] == 0
    assert path.read_bytes() == good and server.asked["tiny.tflite"] == 2


def test_a_model_of_an_older_table_is_replaced(server, tiny, cache, table, monkeypatch):
    edge("models", "pull", "tiny-1.0")
    newer = offer(server, "newer.tflite", described(tiny_classifier(dtype="uint8")))
    monkeypatch.setitem(table, "tiny-1.0", PublicModel("classify", 3, (64, 64), "MIT", "them", newer))
    assert edge("models", "pull", "tiny-1.0")[0] == 0
    spec = json.loads(read_tail(cache / "tiny-1.0.tflite")[METADATA_NAME])
    assert spec["provenance"]["source_sha256"] == newer.sha256


def test_a_wrong_hash_leaves_nothing_and_one_line(server, tiny, cache):
    server.files["tiny.tflite"] = b"something else"
    code, out, said = edge("models", "pull", "tiny-1.0")
    assert (code, out) == (3, "")
    assert f"expected SHA-256 {tiny.weights.sha256}, found {hashlib.sha256(b'something else').hexdigest()}" in said
    assert said.splitlines()[1].startswith("edge: http://127.0.0.1") and len(said.splitlines()) == 2
    assert not (cache / "tiny-1.0.tflite").exists()
    assert os.listdir(cache / "downloads" / "tiny-1.0") == ["names.txt"]


def test_what_a_cut_download_left_is_used_by_the_next(server, tiny, cache):
    server.cuts["tiny.tflite"] = [500, 0]
    code, _, said = edge("models", "pull", "tiny-1.0")
    assert code == 3 and "pull again" in said
    assert edge("models", "pull", "tiny-1.0")[0] == 0
    assert server.starts == [0, 0, 500, 500]  # the labels, and three connections for the model


def test_a_file_that_is_no_model_is_refused(server, table, cache, monkeypatch):
    row = PublicModel("detect", 3, (64, 64), "MIT", "them", offer(server, "bad.tflite", b"TFL3" * 100))
    monkeypatch.setitem(table, "bad", row)
    code, out, said = edge("models", "pull", "bad")
    assert code in (2, 4) and out == "" and len(said.splitlines()) == 2
    assert not (cache / "bad.tflite").exists()


def test_pulls_at_once_fetch_it_once(server, tiny, cache):
    with ThreadPoolExecutor(4) as pool:  # a lock of the file system keeps threads apart as it does processes
        paths = list(pool.map(lambda _: zoo.pull("tiny-1.0", lambda *words: None), range(4)))
    assert paths == [cache / "tiny-1.0.tflite"] * 4
    assert zoo.is_pulled("tiny-1.0") and server.asked == {"tiny.tflite": 1, "names.txt": 1}


def test_who_has_to_wait_is_told(tiny, cache):
    cache.mkdir(parents=True)
    told = []
    with (cache / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def waiting():
            told.append("waits")
            fcntl.flock(other, fcntl.LOCK_UN)

        zoo.pull("tiny-1.0", lambda *words: None, waiting=waiting)
    assert told == ["waits"] and zoo.is_pulled("tiny-1.0")


def test_a_folder_that_cannot_be_made_is_one_line(server, tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, out, said = edge("models", "pull", "tiny-1.0")
    assert (code, out) == (2, "")
    assert said.splitlines()[1].endswith("cannot be written (Not a directory); make room or set XDG_CACHE_HOME")


def test_a_name_that_was_not_pulled_says_how(tiny, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", paint([]))[1].tobytes())
    for words in (
        ("detect", "--source", "a.png", "--model", "tiny-1.0"),
        ("classify", "--source", "a.png", "--model", "tiny-1.0"),
        ("inspect", "tiny-1.0"),
        ("verify", "tiny-1.0"),
    ):
        code, _, said = edge(*words)
        assert code == 2
        assert said == (
            f"edge: tiny-1.0: not on this machine yet (no {cache / 'tiny-1.0.tflite'}); fetch it with: "
            "edge models pull tiny-1.0\n"
        )


def test_a_file_system_without_locks_is_one_line(server, tiny, cache, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    code, out, said = edge("models", "pull", "tiny-1.0")
    assert (code, out) == (2, "") and not server.asked
    assert said.splitlines()[1] == f"edge: {cache / '.lock'}: cannot be locked (No locks available); set XDG_CACHE_HOME"


def test_a_folder_of_that_name_is_no_model(tiny, cache, tmp_path, monkeypatch):
    edge("models", "pull", "tiny-1.0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-1.0").mkdir()
    code, out, _ = edge("inspect", "tiny-1.0", "--json")
    assert code == 0 and json.loads(out)["file"] == str(cache / "tiny-1.0.tflite")


def test_a_file_of_that_name_comes_first(tiny, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-1.0").write_bytes(described(tiny_classifier()))
    code, out, _ = edge("inspect", "tiny-1.0", "--json")
    assert code == 0 and json.loads(out)["file"] == "tiny-1.0"


def test_an_unknown_name_lists_what_there_is(cache):
    code, out, said = edge("models", "pull", "yolo")
    assert (code, out) == (2, "")
    assert said == f"edge: no public model is called 'yolo'; there are {', '.join(MODELS)}\n"


@pytest.mark.parametrize("words", [(), ("--list",)])
def test_the_list_says_it_all_in_80_columns(cache, words):
    code, out, said = edge("models", "pull", *words)
    assert code == 0 and "edge models pull NAME" in said
    assert max(map(len, out.splitlines())) <= 80 and "…" not in out
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:]}
    assert tuple(rows) == tuple(MODELS)
    assert rows["yolo-fastest-1.1"] == [
        *("yolo-fastest-1.1", "detect", "80", "320x320", "1,393,953"),
        *("YOLO", "LICENSE", "v2", "converts"),
    ]
    assert rows["mobilenet-v1-0.25"][1:] == ["classify", "1001", "128x128", "525,598", "Apache-2.0"]
    listed = {row["name"]: row for row in json.loads(edge("models", "pull", *words, "--json")[1])}
    assert listed["mobilenet-v2-1.0"]["pulled"] is False and listed["yolo-fastest-1.1-xl"]["converted"] is True


def test_darknet_without_the_workstation_says_so_before_anything_is_fetched(server, table, cache, monkeypatch):
    files = [offer(server, name, b"x") for name in ("a.weights", "a.cfg")]
    monkeypatch.setitem(table, "dark", PublicModel("detect", 80, (32, 32), "MIT", "them", *files))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else found(name))
    code, out, said = edge("models", "pull", "dark")
    assert (code, out) == (2, "")
    assert said == (
        "edge: edge models pull dark runs on a workstation and needs tensorflow: in a checkout of this project, run "
        "pip install -e '.[convert]'\n"
    )
    assert not server.asked


def test_the_cache_is_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, folder in (("", ".cache"), ("relative", ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / folder / "edge"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert str(cache_folder()) == "/elsewhere/edge"


def test_every_row_is_pinned():
    for name, row in MODELS.items():
        assert name == name.lower() and "/" not in name and row.licence and row.attribution
        for file in row.files:
            assert file.url.startswith("https://raw.githubusercontent.com/")
            commit = file.url.split("/")[5]
            assert len(commit) == 40 and len(file.sha256) == 64 and file.size_bytes > 0
    files = {file.sha256 for row in MODELS.values() for file in row.files}
    assert len(files) == 9  # eight models' own files and the labels that two share


@pytest.mark.parametrize("name", ["mobilenet-v1-0.25", "mobilenet-v2-1.0"])
def test_the_real_classifiers(server, cache, shared_data, monkeypatch, name):
    row = MODELS[name]
    data = shared_data(f"tflite/{row.weights.filename}").read_bytes()
    here = Remote(offer(server, "real.tflite", data).url, row.weights.sha256, row.weights.size_bytes)
    assert len(data) == row.size_bytes
    monkeypatch.setitem(MODELS, name, PublicModel(row.task, row.classes, row.size_wh, "Apache-2.0", "them", here))
    assert edge("models", "pull", name)[0] == 0
    code, out, _ = edge(
        "classify", "--model", name, "--source", shared_data("images/cat.bmp"), "--json", "-", "--quiet"
    )
    assert code == 0 and "cat" in json.loads(out)["classes"][0]["name"]
    spec = json.loads(edge("inspect", name, "--json")[1])["spec"]
    assert (len(spec["labels"]), tuple(spec["input"]["size_wh"])) == (row.classes, row.size_wh)


def test_the_names_for_darknet_are_those_of_its_own_list(shared_data):
    names = read_labels(shared_data("darknet/coco.names"))
    assert [canonical(name) for name in names] == list(CATEGORY_IDS)


def test_errors_of_a_pull_are_edge_errors(server, tiny, cache):
    server.answers["names.txt"] = 404
    with pytest.raises(EdgeError, match="HTTP 404"):
        zoo.pull("tiny-1.0", lambda *words: None)


@pytest.mark.parametrize("name", ["edge-yolo-n", "edge-yolo-n-int8"])
def test_bundled_models_go_by_their_names(name):
    path = find_model(Path(name))
    assert path.name == f"{name}.tflite"
    assert path.stat().st_size < (800_000 if name.endswith("int8") else 1_500_000)
