"""A web server on this machine that misbehaves on demand."""

from __future__ import annotations

import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `files` (name -> content) with ranges.

    Attributes:
        cuts: Name -> how many bytes each connection gives before it is cut, in turn; then all.
        answers: Name -> an HTTP status instead of the file.
        ranges: Whether it honours a Range header.
        silent: Whether it takes connections and says nothing.
        asked: Name -> how many times it was asked for.
        starts: The first bytes asked for, in order.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cuts, self.answers = {}, {}, {}
        self.ranges, self.silent = True, False
        self.asked, self.starts = Counter(), []
        self.closing = threading.Event()

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


@contextmanager
def serving():
    """Run a server until the context ends; nothing of it is left."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.removeprefix("/")
        server.asked[name] += 1
        if server.silent:
            server.closing.wait()
            return
        if name not in server.files or name in server.answers:
            self.send_error(server.answers.get(name, 404))
            return
        data = server.files[name]
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and server.ranges else 0
        server.starts.append(start)
        if start and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cuts = server.cuts.get(name)
        self.wfile.write(data[start : start + cuts.pop(0)] if cuts else data[start:])

    def log_message(self, *words):
        pass
