"""A Motion JPEG camera on this machine that stops, freezes and comes back on demand."""

from __future__ import annotations

import argparse
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np


class MjpegCamera:
    """Serves /cam for ever, from a picture that it is given or from grey ones.

    Attributes:
        url: Of the stream.
        image: uint8 (H, W, 3) BGR, what it sends; may be changed at any time.
    """

    def __init__(self, image: Any = None, fps: float = 30.0, port: int = 0) -> None:
        self.image = np.full((48, 64, 3), 100, np.uint8) if image is None else image
        self._fps = fps
        self._port = port
        self._frozen = threading.Event()
        self._gone = threading.Event()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/cam"

    def start(self) -> None:
        """Listen, on the port that it had before; or go on after `freeze`."""
        self._frozen.clear()
        if self._server is not None:
            return
        self._gone.clear()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                camera._connections.add(self.connection)
                try:
                    camera._send(self)
                except OSError:
                    pass
                finally:
                    camera._connections.discard(self.connection)

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _send(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        while not self._gone.wait(1 / self._fps):
            while self._frozen.is_set() and not self._gone.is_set():
                time.sleep(0.01)
            jpeg = cv2.imencode(".jpg", self.image)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            handler.wfile.write(head.encode() + jpeg + b"\r\n")

    def freeze(self) -> None:
        """Keep the connections, send nothing."""
        self._frozen.set()

    def stop(self) -> None:
        """Cut the connections and stop listening."""
        if self._server is None:
            return
        self._gone.set()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def main() -> None:
    """Serve a moving square until killed: mjpeg.py WIDTH HEIGHT --port N --fps N."""
    parser = argparse.ArgumentParser()
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fps", type=float, default=15)
    asked = parser.parse_args()
    with MjpegCamera(np.zeros((asked.height, asked.width, 3), np.uint8), asked.fps, asked.port) as camera:
        print(camera.url, flush=True)
        turn = 0
        while True:
            turn += 1
            image = np.full((asked.height, asked.width, 3), 60, np.uint8)
            x = turn * 8 % asked.width
            image[asked.height // 3 : asked.height // 2, x : x + 40] = (0, 0, 255)
            camera.image = image
            time.sleep(1 / asked.fps)


if __name__ == "__main__":
    main()
