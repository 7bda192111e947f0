"""The HTTP server of a running service: what it says, to whom, and what clients cannot do to it."""

from __future__ import annotations

import errno
import http.client
import json
import logging
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from service.snapshots import STATUS

from edge.errors import InputError
from edge.service import health
from edge.service.health import HealthServer


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch):
    monkeypatch.setattr(health, "_FRESH_S", 0.0)


@contextmanager
def serving(status=lambda: STATUS, token=None, address="127.0.0.1:0", **more):
    server = HealthServer(address, status, token, **more)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connect(server, timeout_s=20):
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)


def ask(server, path, method="GET", **headers):
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


def say(server, data):
    """Send bytes, and return all that comes back."""
    with connect(server) as client:
        client.sendall(data)
        return receive(client)


def receive(client):
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def until(condition):
    """Wait until something has happened; the time limit of the test ends what never does."""
    while not condition():
        time.sleep(0.01)


def test_alive_while_nothing_hangs():
    status = STATUS
    with serving(lambda: status) as server:
        answer, body = ask(server, "/healthz")
        assert (answer.status, json.loads(body)) == (200, {"alive": True, "hung": []})
        status = replace(STATUS, hung=("camera front: no frame for 31 s",))
        answer, body = ask(server, "/healthz")
        assert answer.status == 503
        assert json.loads(body) == {"alive": False, "hung": ["camera front: no frame for 31 s"]}


def test_ready_once_the_models_are_whatever_the_cameras_do():
    status = replace(STATUS, ready=False)
    with serving(lambda: status) as server:
        assert ask(server, "/readyz")[0].status == 503
        status = STATUS
        answer, body = ask(server, "/readyz")
    assert answer.status == 200
    assert json.loads(body) == {
        "ready": True,
        "cameras": {"front": "online", "back": "offline"},
        "offline": ["back"],
    }


def test_the_whole_snapshot_as_json():
    with serving() as server:
        answer, body = ask(server, "/status")
    assert answer.headers["Content-Type"] == "application/json"
    seen = json.loads(body)
    assert seen["cameras"][0]["found"] == {"person": 7, 'a "b"\\\n': 2}
    assert seen["models"][0]["invocations"] == 100
    assert seen["config"]["path"] == "/etc/edge/edge.toml"


def test_metrics_in_both_formats(tmp_path):
    with serving(device_root=tmp_path) as server:
        answer, plain = ask(server, "/metrics")
        other, openmetrics = ask(
            server, "/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.1"
        )
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert other.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert "edge_camera_frames_total" in {s.name for family in parse_text(plain) for s in family.samples}
    assert "edge_camera_frames_total" in {s.name for family in parse_openmetrics(openmetrics) for s in family.samples}


def test_metrics_say_what_to_install(monkeypatch, caplog):
    monkeypatch.setattr("edge.service.metrics.importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING), serving() as server:
        answer, body = ask(server, "/metrics")
        assert ask(server, "/healthz")[0].status == 200
    assert (answer.status, body.count("\n")) == (501, 1)
    assert "pip install 'edge-pipeline[service]'" in body
    assert "health works without" in caplog.text


@pytest.mark.parametrize("path", ["/metrics", "/status", "/readyz", "/", "/nothing"])
def test_a_token_is_asked_for(path):
    with serving(token="sesame") as server:
        for header in (
            {},
            {"Authorization": "Bearer other"},
            {"Authorization": "Basic sesame"},
            {"Authorization": "é"},
        ):
            answer, body = ask(server, path, **header)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert body.count("\n") == 1 and "sesame" not in body
        assert ask(server, path, Authorization="Bearer sesame")[0].status == (404 if path in ("/", "/nothing") else 200)


def test_health_asks_for_no_token():
    with serving(token="sesame") as server:
        assert ask(server, "/healthz")[0].status == 200


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_other_machines_need_a_token(address):
    with pytest.raises(InputError, match="can be reached from other machines: set a token"):
        HealthServer(address, lambda: STATUS, None)
    assert HealthServer(address, lambda: STATUS, "sesame").url.endswith(":0")


@pytest.mark.parametrize("token", ["", "two words", "line\n", "schlüssel"])
def test_a_token_that_no_client_can_send(token):
    with pytest.raises(InputError, match="expected printable ASCII without spaces") as caught:
        HealthServer("127.0.0.1:0", lambda: STATUS, token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["", "8621", ":8621", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", "::1:80", "[]:1"]
)
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match="expected an address and a port") as caught:
        HealthServer(address, lambda: STATUS, None)
    assert "\n" not in str(caught.value)


def test_an_unknown_name():
    with pytest.raises(InputError, match="no-such-host.invalid is not known here"):
        HealthServer("no-such-host.invalid:1", lambda: STATUS, None)


def test_a_port_in_use():
    with serving() as server:
        address = server.url.removeprefix("http://")
        with pytest.raises(InputError, match=f"http = '{address}': cannot listen there: Address already in use"):
            HealthServer(address, lambda: STATUS, None).start()


def test_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(address="[::1]:0") as server:
        assert server.url.startswith("http://[::1]:")
        assert ask(server, "/healthz")[0].status == 200


def test_head_and_query():
    with serving() as server:
        answer, body = ask(server, "/healthz?from=probe", method="HEAD")
    assert (answer.status, body) == (200, "")
    assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(method):
    with serving() as server:
        answer, _ = ask(server, "/status", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_no_credentials_leave():
    camera = replace(STATUS.cameras[0], error="cannot open rtsp://admin:p/ss@10.0.0.5/s", source="rtsp://u:geheim@h/")
    with serving(lambda: replace(STATUS, cameras=(camera,), hung=("open rtsp://admin:p/ss@10.0.0.5/s",))) as server:
        bodies = [ask(server, path)[1] for path in ("/healthz", "/readyz", "/status", "/metrics")]
    assert not any("p/ss" in body or "geheim" in body for body in bodies)
    assert "rtsp://***@10.0.0.5/s" in bodies[2]
    assert 'source="rtsp://***@h/"' in bodies[3]


def test_a_fault_in_the_snapshot_is_one_line(caplog):
    def broken():
        raise RuntimeError("rtsp://admin:secret@h")

    with serving(broken) as server:
        answer, body = ask(server, "/healthz")
        assert (answer.status, body) == (500, "RuntimeError: see the log of the service\n")
        assert ask(server, "/readyz")[0].status == 500
    assert "Traceback" in caplog.text


def test_a_client_that_never_finishes_is_cut(monkeypatch):
    monkeypatch.setattr(health, "_DEADLINE_S", 0.3)
    with serving() as server, connect(server) as silent, connect(server) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")
        with pytest.raises(OSError):
            # Each piece is in time for a limit of single reads; only one for the whole request ends this.
            for number in range(1000):
                slow.sendall(b"X-%d: y\r\n" % number)
                time.sleep(0.02)
        assert receive(silent) == b""
        assert ask(server, "/healthz")[0].status == 200


def test_a_client_that_does_not_take_its_answer_is_cut(monkeypatch):
    monkeypatch.setattr(health, "_DEADLINE_S", 0.3)
    long = replace(STATUS, hung=tuple(f"camera {number}" for number in range(1_000_000)))
    with serving(lambda: long) as server, connect(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        until(lambda: server.connections == 1)
        until(lambda: server.connections == 0)


def test_headers_without_end():
    with serving() as server, connect(server) as client:
        answer = b""
        try:
            for _ in range(1000):
                client.sendall(b"X-Filler: " + b"y" * 10_000 + b"\r\n")
        except OSError:
            answer = b"cut"
        assert (answer or receive(client).partition(b"\r\n")[0]) in (
            b"cut",
            b"HTTP/1.1 431 Request Header Fields Too Large",
        )
        assert say(server, b"GET /healthz HTTP/1.1\r\nX-Filler: " + b"y" * 9000 + b"\r\n\r\n").startswith(
            b"HTTP/1.1 431 "
        )
        assert say(server, b"GET /healthz HTTP/1.1\r\nX-Filler: " + b"y" * 8000 + b"\r\n\r\n").startswith(
            b"HTTP/1.1 200 "
        )
        assert ask(server, "/healthz")[0].status == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n folded: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\xff\xfe\x00 \x00 \x85\r\n\r\n",
    ],
)
def test_what_is_no_request(request_):
    with serving(token="sesame") as server:
        answer = say(server, request_)
        assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""
        assert ask(server, "/healthz")[0].status == 200


def test_old_and_bare_clients():
    with serving() as server:
        for request in (b"GET /healthz HTTP/1.0\r\n\r\n", b"GET /healthz HTTP/1.1\n\n"):
            assert say(server, request).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_body_does_not_destroy_the_answer():
    with serving() as server:
        body = b"z" * 200_000
        request = b"POST /status HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert say(server, request + body).startswith(b"HTTP/1.1 405 ")


def test_many_idle_connections_neither_block_nor_pile_up(monkeypatch):
    monkeypatch.setattr(health, "_DEADLINE_S", 60.0)
    monkeypatch.setattr(health, "_PACE_S", 0.0)
    threads = threading.active_count()
    with serving() as server, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(server)).sendall(b"GET /healthz HTTP/1.1\r\n")
            assert server.connections <= 32
        assert ask(server, "/healthz")[0].status == 200
        assert threading.active_count() <= threads + 2


def test_scrapes_at_the_same_time():
    looks = []

    def status():
        looks.append(threading.get_ident())
        return STATUS

    answers = []
    with serving(status) as server:
        paths = ["/metrics", "/status", "/healthz", "/readyz"] * 6
        clients = [threading.Thread(target=lambda path: answers.append(ask(server, path)), args=(p,)) for p in paths]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert [answer.status for answer, _ in answers] == [200] * 24
    assert 4 <= len(looks) <= 24


def test_answers_are_kept_for_a_moment(monkeypatch):
    monkeypatch.setattr(health, "_FRESH_S", 60.0)
    looks = []

    def status():
        looks.append(1)
        return STATUS

    with serving(status) as server:
        bodies = {ask(server, "/healthz")[1] for _ in range(20)}
    assert (len(bodies), len(looks)) == (1, 1)


def test_a_snapshot_that_hangs_is_reported(monkeypatch):
    monkeypatch.setattr(health, "_ANSWER_S", 0.2)
    release, looks = threading.Event(), []

    def status():
        looks.append(1)
        release.wait()
        return STATUS

    with serving(status) as server:
        try:
            for _ in range(3):
                answer, body = ask(server, "/healthz")
                assert answer.status == 503
                assert "the service has not told its state for" in json.loads(body)["hung"][0]
            assert len(looks) == 1
            release.set()
            until(lambda: ask(server, "/healthz")[0].status == 200)
        finally:
            release.set()


def test_stop_does_not_wait_for_clients_or_snapshots():
    release = threading.Event()

    def status():
        release.wait()
        return STATUS

    server = HealthServer("127.0.0.1:0", status, None)
    server.start()
    try:
        with connect(server) as idle, connect(server) as waiting:
            waiting.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            until(lambda: server.connections == 2)
            server.stop()
            # stop waits for a second at most, so a thread that is gone was quick enough.
            assert "health" not in [thread.name for thread in threading.enumerate()]
            assert receive(idle) == receive(waiting) == b""
    finally:
        release.set()


def test_start_again_on_the_same_port():
    server = HealthServer("127.0.0.1:0", lambda: STATUS, None)
    server.start()
    address = server.url.removeprefix("http://")
    assert ask(server, "/healthz")[0].status == 200
    server.stop()
    server.stop()
    again = HealthServer(address, lambda: STATUS, None)
    for _ in range(2):
        again.start()
        again.start()
        assert ask(again, "/healthz")[0].status == 200
        again.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(again, "/healthz")


def test_too_many_open_files(monkeypatch, caplog):
    monkeypatch.setattr(health, "_PAUSE_S", 0.05)
    accept, refusals = socket.socket.accept, [1, 1, 1]

    def refuse(listener):
        if refusals:
            refusals.pop()
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", refuse)
    with serving() as server:
        assert ask(server, "/healthz")[0].status == 200
    assert caplog.text.count("cannot take a connection: [Errno 24] Too many open files") == 3


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=strategies.binary(max_size=200))
def test_any_bytes(fuzzed, data):
    with connect(fuzzed) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = receive(client)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))


@pytest.fixture
def fuzzed(caplog):
    with caplog.at_level(logging.ERROR), serving(token="sesame") as server:
        yield server
        assert ask(server, "/healthz")[0].status == 200
    assert caplog.text == ""
