"""TFLite Metadata: the flatbuffer in which TensorFlow's tools describe a model.

Field numbers are those of tflite-support's metadata_schema.fbs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge.errors import ModelFileError
from edge.spec.flatbuffer import Table
from edge.spec.labels import read_labels

_FILE_ID = b"M001"
_NORMALIZATION = 1
_SCORE_THRESHOLD = 3
_LABEL_TYPES = (2, 3)  # labels of a tensor's axis, or of its values
_BOXES = 3
_PIXELS = 1


@dataclass(frozen=True, slots=True)
class TFLiteMetadata:
    """What a TFLite Metadata buffer says.

    Attributes:
        name: The model's name.
        licence: Its licence.
        author: Who made it.
        mean: Input normalisation, pixel value that becomes 0, per channel or one; empty where not given.
        std: Pixel distance that becomes 1, likewise.
        outputs: Names of the outputs in the order of the graph's outputs ("location", "category", "score", ...).
        pixels: Boxes are in pixels, not 0..1.
        conf: Score threshold; None where not given.
        label_files: Names of label files in the archive, those for English or no language first.
    """

    name: str
    licence: str
    author: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    outputs: tuple[str, ...]
    pixels: bool
    conf: float | None
    label_files: tuple[str, ...]


def parse(data: bytes) -> TFLiteMetadata:
    """Read the buffer named TFLITE_METADATA.

    Raises:
        ModelFileError: It is broken.
    """
    if data[4:8] != _FILE_ID:
        raise ModelFileError(f"the TFLite metadata is broken: expected the identifier M001, found {data[4:8]!r}")
    model = Table.root(data)
    graphs = model.tables(3)
    inputs = graphs[0].tables(2) if graphs else []
    outputs = graphs[0].tables(3) if graphs else []
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    for options in _units(inputs[:1], _NORMALIZATION):
        mean, std = tuple(options.numbers(0, "f")), tuple(options.numbers(1, "f"))
    conf = None
    for options in _units(outputs, _SCORE_THRESHOLD):
        conf = options.number(0, "f")
    boxes = [found for tensor in outputs if (found := _content(tensor, _BOXES)) is not None]
    files = [file for tensor in outputs for file in tensor.tables(6)]
    files += [file for graph in graphs[:1] for file in graph.tables(4)] + model.tables(6)
    labels = [file for file in files if file.integer(2, "b") in _LABEL_TYPES]
    labels.sort(key=lambda file: file.string(3) not in ("", "en"))
    return TFLiteMetadata(
        name=model.string(0),
        licence=model.string(5),
        author=model.string(4),
        mean=mean,
        std=std,
        outputs=tuple(tensor.string(0) for tensor in outputs),
        pixels=any(found.integer(2, "b") == _PIXELS for found in boxes),
        conf=conf if conf is not None and 0 <= conf <= 1 else None,
        label_files=tuple(dict.fromkeys(file.string(0) for file in labels)),
    )


def labels(metadata: TFLiteMetadata, members: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the class names from the archive behind the model; empty where it has none.

    Raises:
        InputError: The label file is no text.
    """
    for name in metadata.label_files:
        if name in members:
            return read_labels(members[name], name)
    return ()


def _units(tensors: list[Table], kind: int) -> list[Table]:
    """Return the options of the process units of one kind."""
    found = []
    for tensor in tensors:
        for unit in tensor.tables(4):
            options = unit.table(1)
            if unit.integer(0, "B") == kind and options is not None:
                found.append(options)
    return found


def _content(tensor: Table, kind: int) -> Table | None:
    """Return the properties of a tensor's content when they are of one kind."""
    content = tensor.table(3)
    return content.table(1) if content is not None and content.integer(0, "B") == kind else None
