"""One file from a server that cuts, lies, refuses or says nothing."""

from __future__ import annotations

import hashlib
import os
import socket

import pytest

import edge.zoo.download
from edge.errors import DownloadError, OutputError
from edge.zoo.download import fetch
from edge.zoo.table import Remote

DATA = bytes(range(256)) * 2000


@pytest.fixture
def remote(server):
    server.files["a.bin"] = DATA
    return Remote(server.url("a.bin"), hashlib.sha256(DATA).hexdigest(), len(DATA))


def part(folder):
    return folder / "a.bin.part"


def test_a_file_comes_whole_and_is_not_asked_for_again(server, remote, tmp_path):
    seen = []
    path = fetch(remote, tmp_path, seen.append)
    assert path.read_bytes() == DATA and os.listdir(tmp_path) == [path.name]
    assert seen == sorted(seen) and seen[-1] == len(DATA)
    assert fetch(remote, tmp_path) == path and server.asked["a.bin"] == 1


def test_a_cut_connection_is_gone_on_with(server, remote, tmp_path):
    server.cuts["a.bin"] = [100_000, 70_000]
    assert fetch(remote, tmp_path).read_bytes() == DATA
    assert server.starts == [0, 100_000, 170_000]


def test_what_an_earlier_run_left_is_used(server, remote, tmp_path):
    part(tmp_path).write_bytes(DATA[:12_345])
    assert fetch(remote, tmp_path).read_bytes() == DATA
    assert server.starts == [12_345]


def test_a_whole_part_needs_only_its_name(server, remote, tmp_path):
    part(tmp_path).write_bytes(DATA)
    assert fetch(remote, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("piece", [b"x" * 1000, b"x" * (len(DATA) + 5)], ids=["short", "long"])
def test_a_damaged_piece_is_thrown_away(server, remote, tmp_path, piece):
    part(tmp_path).write_bytes(piece)
    assert fetch(remote, tmp_path).read_bytes() == DATA


def test_a_server_without_ranges_gives_it_from_the_start(server, remote, tmp_path):
    server.ranges = False
    part(tmp_path).write_bytes(DATA[:1000])
    assert fetch(remote, tmp_path).read_bytes() == DATA


def test_a_wrong_file_is_refused_and_removed(server, remote, tmp_path):
    server.files["a.bin"] = b"another file"
    with pytest.raises(DownloadError) as caught:
        fetch(remote, tmp_path)
    found = hashlib.sha256(b"another file").hexdigest()
    assert f"expected SHA-256 {remote.sha256}, found {found}; the file was removed" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_finished_file_that_was_damaged_is_fetched_again(server, remote, tmp_path):
    fetch(remote, tmp_path).write_bytes(b"damaged")
    assert fetch(remote, tmp_path).read_bytes() == DATA


def test_an_endless_body_is_refused(server, remote, tmp_path):
    server.files["a.bin"] = DATA * 3
    with pytest.raises(DownloadError, match="expected 512,000 bytes, found more than"):
        fetch(remote, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("status", [404, 403, 503])
def test_a_refusal_says_its_number(server, remote, tmp_path, status):
    server.answers["a.bin"] = status
    with pytest.raises(DownloadError, match=rf"a\.bin: the server answered HTTP {status} "):
        fetch(remote, tmp_path)


def test_a_silent_server_is_given_up(server, remote, tmp_path, monkeypatch):
    monkeypatch.setattr(edge.zoo.download, "TIMEOUT_S", 0.2)
    server.silent = True
    with pytest.raises(DownloadError, match=r"a\.bin cannot be fetched from 127.* \(silent for 0\.2 s\); check the"):
        fetch(remote, tmp_path)


def test_a_server_that_always_cuts_at_once_is_given_up_and_the_piece_kept(server, remote, tmp_path):
    server.cuts["a.bin"] = [5000, 0]
    with pytest.raises(DownloadError, match="the connection was cut 507,000 bytes before the end"):
        fetch(remote, tmp_path)
    assert part(tmp_path).read_bytes() == DATA[:5000]


def test_offline_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("http_proxy", raising=False)
    with socket.socket() as closed:  # bound and not listening: refuses
        closed.bind(("127.0.0.1", 0))
        remote = Remote(f"http://127.0.0.1:{closed.getsockname()[1]}/a.bin", "0" * 64, 5)
        with pytest.raises(DownloadError) as caught:
            fetch(remote, tmp_path)
    assert "(Connection refused); check the network and https_proxy" in str(caught.value)
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    server.files["http://models.invalid/a.bin"] = DATA  # what a proxy is asked for
    monkeypatch.setenv("http_proxy", server.url(""))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    remote = Remote("http://models.invalid/a.bin", hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert fetch(remote, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("proxy", ["http:/me:secret@host:1", "http://me:secret@.host:1", "me:secret@host:port"])
def test_a_malformed_proxy_is_one_line_without_its_password(tmp_path, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match=r"a\.bin cannot be fetched from models\.invalid \(") as caught:
        fetch(Remote("http://models.invalid/a.bin", "0" * 64, 5), tmp_path)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_full_disk_is_one_line(server, remote, tmp_path):
    part(tmp_path).symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"\.part: cannot be written \(No space left on device\); make room"):
        fetch(remote, tmp_path)
