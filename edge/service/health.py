"""Health and metrics of a running service over HTTP.

===========  ============================================================================================
``/healthz``  200 while everything makes progress; 503 with what does not. Never asks for the token
``/readyz``   200 when every model has made its first pass; a camera that is away is listed and changes nothing
``/metrics``  Prometheus' text, or OpenMetrics where the client accepts it
``/status``   the whole `Status` as JSON
===========  ============================================================================================

One thread with an asyncio loop takes connections; nothing of it touches a frame. Why not a web framework: measured
beside prometheus-client on x86-64, starlette with uvicorn takes 5.8 MB more, a loop of asyncio 1.8 MB, of the 1 GB that
a small board shares with its models; and uvicorn has no time limit for a request that does not come to its end (it held
a connection that had sent one line for as long as we looked), nor one for how many connections it takes in a second.
`http.server` would take nothing more, but holds a thread for each slow client.

What a client can do to the service is bounded instead: 8 kB of request, 5 s for it and its answer, 32 connections (then
the oldest goes), 200 new ones a second, one request for each, and each answer made four times a second at most, in a
thread of its own: a snapshot that does not come back is what /healthz reports.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import ipaddress
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path

from edge.device import read_device
from edge.errors import EdgeError, InputError, MissingDependencyError
from edge.runner.status import Status
from edge.service.metrics import OPENMETRICS_TYPE, TEXT_TYPE, metrics_text, require_prometheus

log = logging.getLogger(__name__)

_HEAD_BYTES = 8192
_DEADLINE_S = 5.0
_LINGER_S = 1.0
_CONNECTIONS = 32
_PACE_S = 0.005
_PAUSE_S = 1.0
_FRESH_S = 0.25
_ANSWER_S = 2.0
_STOP_S = 1.0

_CREDENTIALS = re.compile(rb"(\w+://)[^\s\"]*@")
_TOKEN = re.compile(r"[!-~]+")
_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class _Reply:
    code: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[str, ...] = ()


class HealthServer:
    """Answers questions about the health of a service.

    `start` and `stop` are called from one thread; a stopped server can be started again.
    """

    def __init__(
        self, address: str, status: Callable[[], Status], token: str | None = None, *, device_root: Path = Path("/")
    ) -> None:
        """Check the address and the token.

        Args:
            address: Where it listens: "127.0.0.1:8621", "[::1]:8621", "localhost:0". Port 0 takes a free one.
            status: Gives the snapshot; called in a thread of this server.
            token: What clients must show, except for /healthz. Without one the address must be of this machine alone.
            device_root: Where `sys` lies, for tests.

        Raises:
            InputError: The address or the token cannot be used, or an address that others can reach has no token.
        """
        self._address = address
        self._target = _resolve(address)
        if token is not None and not _TOKEN.fullmatch(token):
            raise InputError(
                f"token of http = {address!r}: expected printable ASCII without spaces, "
                + ("found nothing" if not token else "found something else")
            )
        if token is None and not _is_loopback(self._target[1][0]):
            raise InputError(
                f"http = {address!r} can be reached from other machines: set a token, or listen on 127.0.0.1"
            )
        self._token = token.encode() if token is not None else None
        pages = {
            "/healthz": _Page(lambda: _health(status())),
            "/readyz": _Page(lambda: _ready(status())),
            "/status": _Page(lambda: _json(HTTPStatus.OK, asdict(status()))),
            "/metrics": _Page(lambda: _metrics(status(), device_root, openmetrics=False)),
        }
        self._pages = pages
        self._openmetrics = _Page(lambda: _metrics(status(), device_root, openmetrics=True))
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: asyncio.Task[None] | None = None
        self._open: dict[asyncio.Task[None], None] = {}

    @property
    def url(self) -> str:
        """Where it listens, "http://127.0.0.1:8621"; with the real port once it is started."""
        host, port = (self._listener.getsockname() if self._listener is not None else self._target[1])[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._open)

    def start(self) -> None:
        """Listen, and answer from now on.

        Raises:
            InputError: The port is in use, or may not be used.
        """
        if self._listener is not None:
            return
        listener = _listen(self._address, *self._target)
        try:
            require_prometheus()
        except MissingDependencyError as error:
            log.warning("%s; health works without", error)
        started = threading.Event()
        self._listener = listener
        self._thread = threading.Thread(target=self._run, args=(listener, started), name="health", daemon=True)
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """Stop answering: open connections are cut. Returns within a second or so, also where a snapshot hangs."""
        if self._listener is None or self._thread is None:
            return
        if self._loop is not None and self._serving is not None:
            try:
                self._loop.call_soon_threadsafe(self._serving.cancel)
            except RuntimeError:
                log.debug("the loop had ended already")
        self._thread.join(_STOP_S)
        self._listener.close()
        self._listener = self._thread = self._loop = self._serving = None

    def _run(self, listener: socket.socket, started: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._serving = self._loop.create_task(self._serve(listener))
            started.set()
            try:
                self._loop.run_until_complete(self._serving)
            except asyncio.CancelledError:
                log.debug("health server stopped")

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(listener, self._accept, loop, listener)
        try:
            await loop.create_future()
        finally:
            loop.remove_reader(listener)
            talks = list(self._open)
            for talk in talks:
                talk.cancel()
            await asyncio.gather(*talks, return_exceptions=True)

    def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        """Take one connection, and look for the next a little later; those beyond wait in the kernel."""
        pause_s = _PACE_S
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Too many open files, for instance: no reason to end, nor to spin.
            log.warning("health server: cannot take a connection: %s", error)
            pause_s = _PAUSE_S
        else:
            connection.setblocking(False)
            if len(self._open) >= _CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                oldest.cancel()
            talk = loop.create_task(self._talk(connection))
            self._open[talk] = None
            talk.add_done_callback(functools.partial(self._forget, connection))
        loop.remove_reader(listener)
        loop.call_later(pause_s, self._look, loop, listener)

    def _look(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        if self._serving is not None and not self._serving.done():
            loop.add_reader(listener, self._accept, loop, listener)

    def _forget(self, connection: socket.socket, talk: asyncio.Task[None]) -> None:
        connection.close()
        self._open.pop(talk, None)
        if not talk.cancelled() and talk.exception() is not None:
            log.error("health server: an answer failed", exc_info=talk.exception())

    async def _talk(self, connection: socket.socket) -> None:
        """Take one request and answer it; whatever a client does ends here, in time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_DEADLINE_S):
                head, whole = await _read_head(loop, connection)
                if not head:
                    return
                reply, with_body = await self._answer(head, whole)
                await loop.sock_sendall(connection, _encode(reply, with_body))
            async with asyncio.timeout(_LINGER_S):
                # What a client still sends is taken for a moment: closing on it would destroy the answer under way.
                connection.shutdown(socket.SHUT_WR)
                for _ in range(4):
                    if not await loop.sock_recv(connection, 65536):
                        break
        except (TimeoutError, OSError) as error:
            log.debug("health server: a client did not come to its end: %s", error)

    async def _answer(self, head: bytes, whole: bool) -> tuple[_Reply, bool]:
        """Return the reply to a request, and whether its body is wanted."""
        if not whole:
            return _text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request has at most {_HEAD_BYTES} bytes"), True
        try:
            method, path, headers = _parse(head)
        except ValueError:
            return _text(HTTPStatus.BAD_REQUEST, "not an HTTP request"), True
        with_body = method != "HEAD"
        if path != "/healthz" and not self._allowed(headers.get("authorization", "")):
            challenge = "WWW-Authenticate: Bearer"
            return _text(HTTPStatus.UNAUTHORIZED, "this needs Authorization: Bearer TOKEN", challenge), with_body
        if method not in ("GET", "HEAD"):
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", "Allow: GET, HEAD"), with_body
        page = self._pages.get(path)
        if page is None:
            return _text(HTTPStatus.NOT_FOUND, f"not found; there are {', '.join(self._pages)}"), with_body
        if path == "/metrics" and "application/openmetrics-text" in headers.get("accept", ""):
            page = self._openmetrics
        return await page.get(), with_body

    def _allowed(self, authorization: str) -> bool:
        if self._token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        return hmac.compare_digest(given.strip().encode("latin-1"), self._token) and scheme.lower() == "bearer"


class _Page:
    """One answer, computed in a thread of its own, and kept for a moment."""

    def __init__(self, make: Callable[[], _Reply]) -> None:
        self._make = make
        self._made: tuple[float, _Reply] | None = None
        self._pending: asyncio.Future[_Reply] | None = None
        self._since_s = 0.0

    async def get(self) -> _Reply:
        """Return the answer; one of its own where it does not come in time."""
        if self._made is not None and time.monotonic() - self._made[0] < _FRESH_S:
            return self._made[1]
        if self._pending is None or self._pending.get_loop() is not asyncio.get_running_loop():
            self._pending = asyncio.get_running_loop().create_future()
            self._since_s = time.monotonic()
            work = (asyncio.get_running_loop(), self._pending)
            threading.Thread(target=self._work, args=work, name="health-answer", daemon=True).start()
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await asyncio.shield(self._pending)
        except TimeoutError:
            waited_s = time.monotonic() - self._since_s
            hung = [f"the service has not told its state for {waited_s:.0f} s"]
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"alive": False, "hung": hung})

    def _work(self, loop: asyncio.AbstractEventLoop, pending: asyncio.Future[_Reply]) -> None:
        try:
            reply = self._make()
        except EdgeError as error:
            reply = _text(HTTPStatus.NOT_IMPLEMENTED, str(error))
        except Exception as error:
            # The boundary of a thread: a fault of ours must show as one line there, not end the answers.
            log.exception("health server: no answer")
            reply = _text(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: see the log of the service")
        try:
            loop.call_soon_threadsafe(self._finish, pending, reply)
        except RuntimeError:
            log.debug("the server was stopped before an answer was ready")

    def _finish(self, pending: asyncio.Future[_Reply], reply: _Reply) -> None:
        self._made = (time.monotonic(), reply)
        self._pending = None
        if not pending.done():
            pending.set_result(reply)


def _health(status: Status) -> _Reply:
    code = HTTPStatus.SERVICE_UNAVAILABLE if status.hung else HTTPStatus.OK
    return _json(code, {"alive": not status.hung, "hung": status.hung})


def _ready(status: Status) -> _Reply:
    code = HTTPStatus.OK if status.ready else HTTPStatus.SERVICE_UNAVAILABLE
    cameras = {camera.name: camera.state for camera in status.cameras}
    offline = [camera.name for camera in status.cameras if camera.state in ("offline", "hung")]
    return _json(code, {"ready": status.ready, "cameras": cameras, "offline": offline})


def _metrics(status: Status, device_root: Path, openmetrics: bool) -> _Reply:
    body = metrics_text(status, read_device(device_root), openmetrics)
    return _Reply(HTTPStatus.OK, _hidden(body), OPENMETRICS_TYPE if openmetrics else TEXT_TYPE)


def _json(code: HTTPStatus, value: object) -> _Reply:
    body = json.dumps(value, indent=1).encode() + b"\n"
    return _Reply(code, _hidden(body), "application/json")


def _text(code: HTTPStatus, line: str, *headers: str) -> _Reply:
    return _Reply(code, line.encode("utf-8", "backslashreplace") + b"\n", headers=headers)


def _hidden(body: bytes) -> bytes:
    """Return an answer without the credentials of URLs. A snapshot should have none; a driver's error may quote one."""
    return _CREDENTIALS.sub(rb"\1***@", body)


def _encode(reply: _Reply, with_body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.code.value} {reply.code.phrase}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *reply.headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (reply.body if with_body else b"")


async def _read_head(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> tuple[bytes, bool]:
    """Return the request up to its empty line, and whether it came to there within the size allowed."""
    head = b""
    while len(head) <= _HEAD_BYTES:
        part = await loop.sock_recv(connection, 4096)
        if not part:
            return b"", False
        head += part
        found = _END.search(head)
        if found is not None and found.start() <= _HEAD_BYTES:
            return head[: found.start()], True
    return head, False


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Return method, path without its query, and headers by lower-case name of a request (RFC 9112).

    Bodies are never read and a connection carries one request, so nothing else of a request matters here.

    Raises:
        ValueError: It is none.
    """
    first, *rest = re.split("\r?\n", head.decode("latin-1"))
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"version {version}")
    headers = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise ValueError("a header without a name")
        headers[name.lower()] = value.strip()
    return method, target.partition("?")[0], headers


def _resolve(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Return the family, and host and port as numbers, of "host:port".

    Raises:
        InputError: It is none, or the name is not known.
    """
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    valid = colon and bare and port.isascii() and port.isdigit() and int(port) < 65536
    if not valid or ((":" in bare) != host.startswith("[")):
        raise InputError(
            f"http = {address!r}: expected an address and a port, like 127.0.0.1:8621 or [::1]:8621 or 0.0.0.0:8621"
        )
    try:
        family, _, _, _, found = socket.getaddrinfo(bare, int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"http = {address!r}: the address {bare} is not known here ({error})") from error
    return family, (str(found[0]), int(found[1]))


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _listen(address: str, family: socket.AddressFamily, target: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restart must not wait for the connections of the process before it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
        listener.listen(4 * _CONNECTIONS)
    except OSError as error:
        listener.close()
        raise InputError(f"http = {address!r}: cannot listen there: {error.strerror}") from error
    listener.setblocking(False)
    return listener
