"""Finding out what a model is: from the user, a sidecar, the file itself, or its shapes; never by guessing."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import ModelFileError, SpecError
from edge.spec import tflite_metadata, ultralytics
from edge.spec.archive import read_tail
from edge.spec.families import FAMILIES
from edge.spec.graph import Graph, read_graph
from edge.spec.infer import Facts, infer
from edge.spec.inputs import free, layout_of, level_by_level, named_range, size_wh
from edge.spec.labels import read_labels
from edge.spec.model import MAX_SCALING, SCHEMA_VERSION, InputSpec, Layout, ModelSpec
from edge.spec.validate import validated
from edge.tensor import TensorInfo

log = logging.getLogger(__name__)

METADATA_NAME = "metadata.json"
"""The member of the archive behind a model that describes it."""

_MAX_BYTES = 16 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user says about a model; None leaves it to the file.

    Attributes:
        decoder: Head family, a name of `edge.decoders`.
        labels: File with a class name a line.
        input_range: Values that the input takes: "0..1", "-1..1", "0..255" or "imagenet".
        color: "RGB", "BGR" or "GRAY".
        resize: "letterbox-center", "letterbox-topleft", "stretch" or "center-crop".
        layout: "NHWC" or "NCHW".
        name: Name of the model.
    """

    decoder: str | None = None
    labels: Path | None = None
    input_range: str | None = None
    color: str | None = None
    resize: str | None = None
    layout: str | None = None
    name: str | None = None


def resolve(
    path: Path,
    input_info: TensorInfo,
    outputs: tuple[TensorInfo, ...],
    overrides: Overrides | None = None,
) -> ModelSpec:
    """Find out what a model is.

    Asked in this order: the user's flags, the sidecar `<model>.json`, the file's own `metadata.json`, Ultralytics'
    metadata, TFLite Metadata with the graph and the shapes.

    Args:
        path: The model file.
        input_info: Its input.
        outputs: Its outputs.
        overrides: The user's flags.

    Returns:
        A complete spec; the outputs' shapes are for the decoder to check.

    Raises:
        SpecError: Something is not settled or contradicts the tensors; the message says what to pass.
        ModelFileError: The file's metadata is broken.
        InputError: The label file cannot be used.
    """
    overrides = overrides or Overrides()
    flags = _input_flags(overrides)
    members = read_tail(path)
    described = _described(path, members, input_info, outputs)
    labels = read_labels(overrides.labels) if overrides.labels is not None else None
    if described is not None and overrides.decoder in (None, described.decoder.name):
        spec = described if labels is None else described.model_copy(update={"labels": labels})
    else:
        graph = read_graph(path)
        facts = _facts(path, input_info, overrides, labels, described or _from_file(path, members, graph))
        spec = infer(facts, input_info, outputs, graph)
    spec = _with_input(spec, path, input_info, flags, overrides.input_range)
    if spec.decoder.name not in FAMILIES:
        raise SpecError(f"{path}: unknown decoder {spec.decoder.name!r}; expected one of {', '.join(FAMILIES)}")
    # Labels are drawn and printed: control characters in them could steer a terminal.
    names = tuple(_CONTROL.sub("?", label) for label in spec.labels)
    return spec.model_copy(update={"labels": names, "name": overrides.name or spec.name})


def parse_spec(data: bytes, where: str | Path) -> ModelSpec:
    """Read a description of a model, as JSON.

    Args:
        data: The JSON text of a ModelSpec.
        where: Its file, for messages.

    Raises:
        SpecError: It is no JSON, was written for a newer version, or does not fit; one line.
    """
    return _own(_json(data, str(where)), str(where))


def _own(value: Any, where: str) -> ModelSpec:
    version = value.get("schema_version", SCHEMA_VERSION) if isinstance(value, dict) else SCHEMA_VERSION
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise SpecError(
            f"{where}: written for schema version {version}, this edge reads up to {SCHEMA_VERSION}; update edge"
        )
    return validated(ModelSpec, value, where)


def _json(data: bytes, where: str) -> Any:
    if len(data) > _MAX_BYTES:
        raise SpecError(f"{where}: expected a description of at most {_MAX_BYTES} bytes, found {len(data)}")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{where}: expected JSON ({error})") from error


def _described(
    path: Path, members: Mapping[str, bytes], input_info: TensorInfo, outputs: tuple[TensorInfo, ...]
) -> ModelSpec | None:
    """Return the spec of a file that describes itself, or has a sidecar that does."""
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        try:
            with sidecar.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise ModelFileError(f"{sidecar}: cannot be read: {error.strerror or error}") from error
        spec = _from_value(_json(data, str(sidecar)), str(sidecar), path, input_info, outputs)
        if spec is not None:
            return spec
        log.warning("%s lies beside the model and describes no model: it is not used", sidecar)
    for member in dict.fromkeys((METADATA_NAME, *ultralytics.MEMBERS)):
        if member in members:
            where = f"{path}, {member}"
            data = members[member]
            value = _json(data, where) if member == METADATA_NAME else ultralytics.parse(data, where)
            spec = _from_value(value, where, path, input_info, outputs)
            if spec is not None:
                return spec
    return None


def _from_value(
    value: Any, where: str, path: Path, input_info: TensorInfo, outputs: tuple[TensorInfo, ...]
) -> ModelSpec | None:
    """Read one description, whichever form it has; None when it is of none."""
    if isinstance(value, dict) and isinstance(value.get("spec"), dict):
        value = value["spec"]  # the output of `edge inspect --json`
    if not isinstance(value, dict):
        return None
    if "schema_version" in value or ("decoder" in value and "input" in value):
        spec = _own(value, where)
        if spec.input.name not in (None, input_info.name):
            raise SpecError(f"{where}: describes the input {spec.input.name!r}, the model has {input_info.name!r}")
        return spec
    if ultralytics.recognised(value):
        spec = ultralytics.to_spec(value, where, path.stem, input_info, outputs)
        layout, _ = _layout(path, input_info)
        return spec.model_copy(update={"input": spec.input.model_copy(update={"layout": layout})})
    return None


def _layout(path: Path, info: TensorInfo) -> tuple[Layout, int]:
    try:
        return layout_of(info)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def _facts(
    path: Path,
    input_info: TensorInfo,
    overrides: Overrides,
    labels: tuple[str, ...] | None,
    source: ModelSpec | Mapping[str, Any],
) -> Facts:
    """Collect what is known of a file that does not describe itself, or whose decoder the user replaces."""
    flags = _input_flags(overrides)
    layout, channels = _layout(path, input_info)
    known: dict[str, Any] = {"layout": layout}
    if isinstance(source, ModelSpec):
        given = source.input
        known |= {"labels": source.labels, "scaling": (given.mean, given.std), "color": given.color}
        known |= {"resize": given.resize, "layout": given.layout, "size_wh": given.size_wh, "conf": source.conf}
    else:
        known |= source
    known |= flags
    if labels is not None:
        known["labels"] = labels
    return Facts(path=path, channels=channels, decoder=overrides.decoder, value_range=overrides.input_range, **known)


def _from_file(path: Path, members: Mapping[str, bytes], graph: Graph) -> dict[str, Any]:
    """Return what TFLite Metadata and the archive's label file say, as fields of Facts."""
    if not graph.metadata:
        return {"labels": _lone_labels(members)}
    try:
        metadata = tflite_metadata.parse(graph.metadata)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    mean, std = metadata.mean, metadata.std
    usable = len(mean) in (1, 3) and len(std) in (1, 3) and all(abs(value) <= MAX_SCALING for value in mean)
    usable = usable and all(1 / MAX_SCALING <= value <= MAX_SCALING for value in std)
    return {
        "labels": tflite_metadata.labels(metadata, members) or _lone_labels(members),
        "output_names": metadata.outputs,
        "pixels": metadata.pixels,
        "conf": metadata.conf,
        "licence": metadata.licence or None,
        "scaling": (mean, std) if usable else None,
    }


def _lone_labels(members: Mapping[str, bytes]) -> tuple[str, ...]:
    """Read the label file of an archive that does not say what its members are, if it has one by its name."""
    found = [name for name in members if name.endswith(".txt") and "label" in name.lower()]
    return read_labels(members[found[0]], found[0]) if len(found) == 1 else ()


def _input_flags(overrides: Overrides) -> dict[str, str]:
    """Return the flags that name a choice of InputSpec; all flags are checked.

    Raises:
        SpecError: A flag has no such value.
    """
    if overrides.decoder is not None and overrides.decoder not in FAMILIES:
        raise SpecError(f"--decoder {overrides.decoder!r}: expected one of {', '.join(FAMILIES)}")
    if overrides.input_range is not None:
        named_range(overrides.input_range, "RGB")
    given = {
        "color": overrides.color and overrides.color.upper(),
        "resize": overrides.resize and overrides.resize.lower(),
        "layout": overrides.layout and overrides.layout.upper(),
    }
    flags = {key: value for key, value in given.items() if value}
    validated(InputSpec, flags, "flags --color, --resize, --layout")
    return flags


def _with_input(
    spec: ModelSpec, path: Path, info: TensorInfo, flags: Mapping[str, str], value_range: str | None
) -> ModelSpec:
    """Apply the flags on the input, and take its size from the tensor."""
    changes: dict[str, Any] = dict(flags)
    if value_range is not None:
        mean, std = level_by_level(named_range(value_range, flags.get("color", spec.input.color)), info)
        changes |= {"mean": mean, "std": std}
    if spec.input.size_wh is None and not free(info) and len(info.shape) == 4:
        changes["size_wh"] = size_wh(info, changes.get("layout", spec.input.layout))
    if not changes:
        return spec
    merged = {**spec.input.model_dump(), **changes}
    return spec.model_copy(update={"input": validated(InputSpec, merged, f"{path}, input")})
