"""The error tree: everything that edge raises on purpose.

::

    EdgeError
    |-- InputError              2   something that was given cannot be used (flag, file, image, labels)
    |   |-- SourceError         2   a source cannot be opened or holds nothing
    |   |-- ModelFileError      2   the file is not a usable model, or its metadata is broken
    |   |   `-- SpecError       2   the file does not say what it is, or contradicts itself
    |   `-- OutputError         2   a result cannot be written
    |-- MissingDependencyError  2   an extra or a system library is not installed
    |-- GateError               4   a converted model lost more accuracy than allowed
    |-- SourceLostError         3   a source that worked is gone
    |-- DownloadError           3   a public model cannot be fetched, or is not the one expected
    |-- ServiceError            4   systemd refused, or the service did not start
    `-- BackendError            4   the model failed to load or to run
        |-- DelegateError       4   an accelerator failed to load or to run
        `-- SelfTestError       4   the model does not compute what it computed when it was made

The number is the process exit code. A message is one line: what, what was expected, what was found, and
what to do. The command line prints it and exits; the library never prints.
"""

from __future__ import annotations

import re
from typing import ClassVar

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What ends a line, steers a terminal, or turns the direction of writing."""

_LONGEST = 2000
"""Characters of a message; its end says what to do."""


def one_line(text: str) -> str:
    """Return a message as one line of some length that neither steers a terminal nor turns the direction of writing."""
    text = _STEERING.sub("?", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 500]} ... {text[-495:]}"


class EdgeError(Exception):
    """Base of every error that edge raises on purpose."""

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        """Return the message, one line of some length whatever stands in it: it may quote names and words of a file."""
        return one_line(super().__str__())


class InputError(EdgeError):
    """Something that was given cannot be used."""


class SourceError(InputError):
    """A source cannot be opened, or holds no frame."""


class ModelFileError(InputError):
    """A file is not a usable model, or its embedded metadata is broken."""


class SpecError(ModelFileError):
    """A model does not say what it is, or says something that its tensors contradict."""


class OutputError(InputError):
    """A result cannot be written."""


class MissingDependencyError(EdgeError):
    """A Python extra or a system library that this operation needs is not installed."""


class GateError(EdgeError):
    """A converted model lost more accuracy than the user allows."""

    exit_code: ClassVar[int] = 4


class SourceLostError(EdgeError):
    """A source that had delivered frames stopped delivering them."""

    exit_code: ClassVar[int] = 3


class DownloadError(EdgeError):
    """A public model cannot be fetched, or what came is not what was expected."""

    exit_code: ClassVar[int] = 3


class ServiceError(EdgeError):
    """The manager of services refused what was asked, or the service did not start."""

    exit_code: ClassVar[int] = 4


class BackendError(EdgeError):
    """The runtime failed to load or to run a model."""

    exit_code: ClassVar[int] = 4


class DelegateError(BackendError):
    """An accelerator delegate failed to load or to run."""


class SelfTestError(BackendError):
    """A model runs, and does not compute here what it computed when it was made."""
