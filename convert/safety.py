"""Safe mode: what a model file may contain before any library is allowed to interpret it.

A Keras configuration is a program: Lambda layers carry Python bytecode, and an object may name any importable
function. Which of that a Keras version refuses by itself has changed with its releases, and for `.h5` files for a
long time nothing was refused. So the file's own JSON is read here first, and a SavedModel's list of operations.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.errors import InputError

OWN_PACKAGE = "edge>"
"""Prefix of the registered name of layers that the trainers of this project save."""

OWN_MODULE = "models.layers"
"""Where those are; a file that gives our prefix to something else is not believed."""

_MAX_CONFIG_BYTES = 64 << 20
_KERAS = re.compile(
    r"keras(\.src)?(\.(layers|models|initializers|regularizers|constraints|activations|dtype_policies|quantizers"
    r"|ops|applications|losses|metrics|optimizers)(\.[a-z0-9_.]+)?)?"
)
_CODE = "carries Python code, which is never run from a file"
_PATH = "loads a file that the model names, which is never done"
_REFUSED = {
    **dict.fromkeys(("Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"), _CODE),
    **dict.fromkeys(("TFSMLayer", "StringLookup", "IntegerLookup", "TextVectorization"), _PATH),
}
# Operations that run Python, load libraries, or touch files when the graph runs. A SavedModel restores its variables
# with RestoreV2 and carries the saver's own operations; both work on its own folder.
_UNSAFE_OPERATIONS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles"}


def check_keras_config(config: Any, path: Path) -> None:
    """Refuse a configuration that brings code or names anything but Keras's own classes.

    Args:
        config: Parsed JSON of a model.
        path: The file, for messages.

    Raises:
        InputError: It does; the message names the layer and the reason.
    """
    # How the model was trained is never loaded, so its losses and metrics may be anyone's.
    network = {key: value for key, value in config.items() if key != "compile_config"}
    for entry in _objects(network):
        kind, module = str(entry["class_name"]), entry.get("module")
        name = _layer_name(entry)
        if kind in _REFUSED:
            raise InputError(
                f"{path}: layer {name} is a {kind}: it {_REFUSED[kind]}; replace it with plain Keras layers "
                "(Rescaling, Reshape, ...) and save the model again"
            )
        if module is None or (module == OWN_MODULE and _own(entry)):
            continue
        if module == "builtins" and kind == "function":
            continue  # the name of a function, looked up among those that are registered
        if not _KERAS.fullmatch(str(module)):
            raise InputError(
                f"{path}: {name} is a {module}.{kind}, which is not Keras's own; code that a file names is not "
                "imported: rebuild the model from Keras layers and save it again"
            )


def uses_own_layers(config: Any) -> bool:
    """Return whether a configuration names layers of this project's trainers."""
    return any(_own(entry) for entry in _objects(config))


def _own(entry: dict[str, Any]) -> bool:
    return str(entry.get("registered_name") or "").startswith(OWN_PACKAGE)


def read_keras_zip_config(path: Path) -> Any:
    """Return the configuration in a `.keras` archive.

    Raises:
        InputError: The archive is broken, or has no configuration of a reasonable size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("config.json")
            if info.file_size > _MAX_CONFIG_BYTES:
                raise InputError(f"{path}: config.json claims {info.file_size:,} bytes; this is no model")
            text = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path}: expected a .keras archive with a config.json ({_brief(error)})") from error
    return parse_config(text, path)


def parse_config(text: str | bytes, path: Path) -> Any:
    """Return a configuration from its JSON text.

    Raises:
        InputError: It is no JSON object.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the model's configuration is not JSON ({_brief(error)})") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected the model's configuration as a JSON object")
    return config


def check_saved_model(folder: Path) -> None:
    """Refuse a SavedModel whose graph runs Python or touches files.

    Raises:
        InputError: It does, or it cannot be read.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "saved_model.pb"
    try:
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except (DecodeError, OSError) as error:
        raise InputError(f"{file}: expected a SavedModel ({_brief(error)})") from error
    for meta in saved.meta_graphs:
        graph = meta.graph_def
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        for node in nodes:
            if node.op in _UNSAFE_OPERATIONS:
                raise InputError(
                    f"{folder}: its graph has the operation {node.op} ({node.name}), which runs code or touches files; "
                    "such a model is not converted: export it without that operation"
                )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Give every serialised object of a configuration, however deep; without recursion, which a file could exhaust."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _layer_name(entry: dict[str, Any]) -> str:
    config = entry.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return repr(str(name or entry.get("name") or entry["class_name"]))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
