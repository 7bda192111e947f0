"""How a service logs: text or JSON lines on stderr, with the priorities of the journal."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

_CREDENTIALS = re.compile(r"(\w[\w+.-]*://)[^\s\"'<>]*@")

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""From this level on -> the priority of syslog(3). DEBUG and less: 7."""


def configure(form: Literal["text", "json"], level: int | None = None) -> None:
    """Have everything logged to stderr in one form; may be called again with another one.

    Where stderr is the journal, each line begins with its priority ("<4>"), which the journal takes off: `journalctl -p
    warning` works. A crash inside a library prints where each thread was: after a signal nothing else is left to ask.

    Args:
        form: "text" or "json".
        level: The lowest level that is logged; INFO by default, and DEBUG where `--verbose` asked for it.
    """
    root = logging.getLogger()
    if level is None:
        level = min(root.level, logging.INFO) if root.level else logging.INFO
    journal = stderr_is_journal()
    formatter: logging.Formatter = JsonFormatter(journal) if form == "json" else TextFormatter(journal)
    handler = _StderrHandler()
    handler.setFormatter(formatter)
    root.handlers[:] = [h for h in root.handlers if type(h) not in (logging.StreamHandler, _StderrHandler)]
    root.addHandler(handler)
    root.setLevel(level)
    _report_crashes()


class TextFormatter(logging.Formatter):
    """A level and a message, "warning: ..."; with the time where nothing else notes it."""

    def __init__(self, journal: bool) -> None:
        """Prepare.

        Args:
            journal: Whether the journal reads the lines: it wants priorities, and has the time already.
        """
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines of a record."""
        text = _message(record)
        if record.exc_info:
            text += "\n" + _mask(self.formatException(record.exc_info))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        if not self._journal:
            return f"{_local_time(record)} {level}{text}"
        # Each line is an entry of its own there.
        return "\n".join(_prefix(record) + line for line in (level + text).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and exception where there is one."""

    def __init__(self, journal: bool) -> None:
        """Prepare.

        Args:
            journal: Whether the journal reads the lines, and wants priorities.
        """
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info:
            entry["exception"] = _mask(self.formatException(record.exc_info))
        line = json.dumps(entry, ensure_ascii=False)
        return _prefix(record) + line if self._journal else line


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment, not to what it was when it was made."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def stderr_is_journal() -> bool:
    """Return whether stderr goes to the journal: systemd.exec(5) says which file $JOURNAL_STREAM names."""
    try:
        device, inode = (int(part) for part in os.environ.get("JOURNAL_STREAM", "").split(":"))
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # io.UnsupportedOperation, of a stream in memory, is both
        return False
    return (found.st_dev, found.st_ino) == (device, inode)


def _message(record: logging.LogRecord) -> str:
    return _mask(record.getMessage())


def _mask(text: str) -> str:
    """Take out the credentials of URLs: a last net under messages that libraries make."""
    return _CREDENTIALS.sub(r"\1***@", text) if "@" in text else text


def _prefix(record: logging.LogRecord) -> str:
    return f"<{next((priority for level, priority in _PRIORITIES if record.levelno >= level), 7)}>"


def _local_time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]


_crash_fd = -1


def _report_crashes() -> None:
    """Have SIGSEGV, SIGABRT (systemd's watchdog sends it) and their like print the stacks of all threads."""
    global _crash_fd
    if faulthandler.is_enabled():
        return
    try:
        # A copy: descriptor 2 may be turned elsewhere meanwhile, or closed.
        _crash_fd = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):
        return
    faulthandler.enable(_crash_fd)
