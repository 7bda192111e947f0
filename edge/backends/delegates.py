"""Accelerator delegates of the TFLite interpreter, by the name that `--delegate` takes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from edge.backends.runtime import runtime
from edge.errors import DelegateError, InputError


class Delegate(NamedTuple):
    """A loaded delegate.

    Attributes:
        label: For humans.
        handle: What the interpreter takes; None for the CPU.
    """

    label: str
    handle: Any


def load(text: str) -> Delegate:
    """Load the delegate that a `--delegate` value names.

    Args:
        text: A key of `DELEGATES`, with an argument behind a colon ("edgetpu:usb"), or the path of an external
            delegate's shared library with options: "libfoo.so?key=value&other=value".

    Raises:
        InputError: The text names no delegate.
        DelegateError: The library is missing, is no delegate, or finds no device.
    """
    name, _, argument = text.partition(":")
    if name in DELEGATES:
        return DELEGATES[name](argument)
    path, _, query = text.partition("?")
    if ".so" in path:
        return _external(path, _options(text, query), path.rsplit("/", 1)[-1], "check the path")
    raise InputError(
        f"--delegate {text}: expected cpu, gpu, edgetpu, or the path of a delegate's .so with options: "
        "PATH.so?key=value&other=value"
    )


def _options(text: str, query: str) -> dict[str, str]:
    """Return the options behind a delegate's path.

    Raises:
        InputError: One of them is no key with a value, or is there twice.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        pairs = [("", "")]
    options = dict(pairs)
    if "" in options or len(options) < len(pairs):
        raise InputError(f"--delegate {text}: expected options as in PATH.so?key=value&other=value, each key once")
    return options


def _cpu(argument: str) -> Delegate:
    if argument:
        raise InputError(f"--delegate cpu takes no argument, found {argument!r}")
    return Delegate("CPU", None)


def _edgetpu(argument: str) -> Delegate:
    """Load Coral's libedgetpu; `argument` is "", "usb", "pci" or a device number."""
    if argument and argument not in ("usb", "pci") and not argument.isdecimal():
        raise InputError(f"--delegate edgetpu:{argument}: expected edgetpu, edgetpu:usb, edgetpu:pci or edgetpu:N")
    options = {"device": f":{argument}" if argument.isdecimal() else argument} if argument else {}
    hint = "install Coral's libedgetpu1-std and plug the device in"
    return _external("libedgetpu.so.1", options, "Edge TPU", hint)


def _external(library: str, options: dict[str, str], label: str, hint: str) -> Delegate:
    # The runtime's own loader, when it fails, prints an ignored AttributeError besides raising: look first.
    try:
        found = ctypes.CDLL(library)
    except OSError as error:
        raise DelegateError(f"delegate {label}: cannot load {library} ({error}); {hint}") from error
    if not hasattr(found, "tflite_plugin_create_delegate"):
        raise DelegateError(
            f"delegate {label}: {library} is no TFLite delegate (it has no tflite_plugin_create_delegate); {hint}"
        )
    try:
        return Delegate(label, runtime().load_delegate(library, options))
    except ValueError as error:
        reason = " ".join(str(error).split()).removeprefix(f"Failed to load delegate from {library}").strip()
        raise DelegateError(
            f"delegate {label}: {library} refused to start ({reason or 'no device, no permission, wrong option'})"
        ) from error


DELEGATES: dict[str, Callable[[str], Delegate]] = {"cpu": _cpu, "edgetpu": _edgetpu}
"""Name -> loader, called with what follows the colon. The GPU needs another runtime: `edge.backends.gpu`."""
