"""The HTTP server of a running service: what it says, to whom, and what clients cannot do to it."""

from __future__ import annotations

import http.client
import json
import logging
import socket
from contextlib import contextmanager
from dataclasses import replace

import pytest
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
