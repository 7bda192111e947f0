"""The outputs of a camera: each may fail and come back without disturbing the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edge.errors import OutputError
from edge.result import Result
from edge.runner.status import SinkStatus
from edge.sinks.base import Sink

log = logging.getLogger(__name__)

RETRY_S = 10.0
"""How long an output rests after it failed: a full disk does not empty faster."""


class GuardedSink:
    """One output of one camera. An output that fails rests for a while and is tried again."""

    def __init__(self, camera: str, name: str, kind: str, make: Callable[[], Sink], retry_s: float = RETRY_S) -> None:
        """Prepare; the output is made by the first result.

        Args:
            camera: Of the camera, for messages.
            name: Of the output in the configuration.
            kind: Of the output.
            make: Makes it.
            retry_s: How long it rests after it failed.
        """
        self._where = f"{camera}: sink {name}"
        self._name, self._kind = name, kind
        self._make = make
        self._retry_s = retry_s
        self._sink: Sink | None = None
        self._again_s = 0.0
        self._error: str | None = None
        self._errors = 0
        self._lost = 0

    def write(self, result: Result) -> None:
        """Pass a result on, or count it as lost."""
        if not self._try(lambda sink: sink.write(result)):
            self._lost += 1

    def tick(self) -> None:
        """Let an output that does things by the clock do them while no frame comes, or before the first one came."""
        self._try(lambda sink: sink.tick() if hasattr(sink, "tick") else None)

    def _try(self, use: Callable[[Sink], None]) -> bool:
        if self._error is not None and time.monotonic() < self._again_s:
            return False
        try:
            if self._sink is None:
                self._sink = self._make()
            use(self._sink)
        except OutputError as error:
            self._again_s = time.monotonic() + self._retry_s
            if self._error is None:
                self._errors += 1
                log.error("%s: %s; detecting goes on, tried again every %g s", self._where, error, self._retry_s)
            self._error = str(error)
            return False
        if self._error is not None:
            log.warning("%s: it works again", self._where)
            self._error = None
        return True

    def close(self) -> None:
        """Finish the files."""
        if self._sink is None:
            return
        try:
            self._sink.close()
        except OutputError as error:
            log.error("%s: %s", self._where, error)

    def status(self) -> SinkStatus:
        """Return what is known of it."""
        return SinkStatus(self._name, self._kind, self._error, self._errors, self._lost)
