"""Tiny models that find coloured squares: one of each head family, in each dtype, made in milliseconds.

The picture is cut into cells of 32 x 32 pixels. A cell that is all red, green or blue is an object of that class, its
box is the cell; black, white and gray cells are nothing. So a test paints cells and knows every box.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tflite_builder import Builder, Quant
from tiny_nets import CELL, HEADS, LOGITS, UNIT, Net

from edge.spec import DecoderSpec, InputSpec, ModelSpec
from edge.spec.archive import with_tail

CLASSES = ("red", "green", "blue")
SIZE_WH = (128, 96)
FAMILIES = (
    "yolo_anchors",
    "region",
    "yolov5",
    "yolov8",
    "end2end",
    "yolox",
    "ssd_postprocess",
    "ssd_anchors",
    "anchor_free",
)
DTYPES = ("float32", "float16", "int8", "uint8")
"""float16 has float32 inputs and outputs over float16 weights; int8 and uint8 have integer inputs and outputs."""

_BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


@dataclass(frozen=True)
class Tiny:
    """A model and its description.

    Attributes:
        model: The bare flatbuffer.
        spec: What it is.
    """

    model: bytes
    spec: ModelSpec

    def save(self, path: Path, described: bool = True) -> Path:
        """Write the file, with its description behind it or without."""
        members = {"metadata.json": self.spec.model_dump_json().encode()}
        path.write_bytes(with_tail(self.model, members) if described else self.model)
        return path


def paint(cells: Iterable[tuple[str, int, int]], size_wh: tuple[int, int] = SIZE_WH) -> npt.NDArray[np.uint8]:
    """Return a black uint8 BGR picture with coloured cells, each as (class name, column, row)."""
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for name, column, row in cells:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = _BGR[name]
    return image


def tiny_detector(
    family: str = "anchor_free",
    dtype: str = "float32",
    layout: str = "NHWC",
    size_wh: tuple[int, int] = SIZE_WH,
    labels: tuple[str, ...] = CLASSES,
) -> Tiny:
    """Return a detector of coloured cells; its labels can be made wrong."""
    net = Net(dtype, layout, size_wh)
    outputs, params = HEADS[family](net)
    if family.startswith("ssd"):
        resize = "stretch"
    else:
        resize = "letterbox-topleft" if family == "yolox" else "letterbox-center"
    spec = ModelSpec(
        name=f"tiny-{family}-{dtype}",
        task="detect",
        input=InputSpec(layout=layout, mean=(0.0,), std=(255.0,), resize=resize),
        decoder=DecoderSpec(name=family, outputs={role: name for role, (name, _) in outputs.items()}, params=params),
        labels=labels,
    )
    return Tiny(net.build([tensor for _, tensor in outputs.values()]), spec)


def tiny_classifier(
    dtype: str = "float32",
    size_wh: tuple[int, int] = SIZE_WH,
    softmax: bool = True,
    labels: tuple[str, ...] = CLASSES,
    layout: str = "NHWC",
    any_batch: bool = False,
    box: tuple[float, float, float, float] | None = None,
) -> Tiny:
    """Return a classifier that names the colour of the whole picture.

    Args:
        dtype: One of DTYPES.
        size_wh: Of the input.
        softmax: Whether it gives probabilities, not logits.
        labels: Class names.
        layout: Of the input.
        any_batch: Whether its input can be resized to a batch.
        box: Makes it a localiser that always says this box, x1 y1 x2 y2 as fractions of the input.
    """
    net = Net(dtype, layout, size_wh, cell=None, any_batch=any_batch)
    scores = net.graph.op("RESHAPE", [net.cells, net.batched(1, 3)], (1, 3))
    if softmax:
        scores = net.graph.op("SOFTMAX", [scores], (1, 3), beta=1.0)
    outputs = {"scores": net.out("scores", scores, (1, 3), UNIT if softmax else LOGITS)}
    if box is not None:
        where = net.conv(net.cells, np.zeros((4, 3)), box)
        outputs["box"] = net.out("box", where, (1, 4), UNIT)
    kind = "classifier" if box is None else "localizer"
    spec = ModelSpec(
        name=f"tiny-{kind}-{dtype}",
        task="classify",
        input=InputSpec(layout=layout, resize="stretch"),
        decoder=DecoderSpec(
            name=kind, outputs={role: role for role in outputs}, params={"activation": "none" if softmax else "softmax"}
        ),
        labels=labels,
    )
    return Tiny(net.build(list(outputs.values())), spec)


def constant_model(
    outputs: dict[str, npt.NDArray[Any]],
    input_shape: tuple[int, ...] = (1, 64, 64, 3),
    input_dtype: str = "float32",
    input_quant: Quant | None = None,
    quant: dict[str, Quant] | None = None,
    signature: dict[str, str] | None = None,
    metadata: dict[str, bytes] | None = None,
) -> bytes:
    """Return a model whose outputs are always the same arrays, whatever goes in: for shapes and names.

    Args:
        outputs: Tensor name -> value.
        input_shape: With -1 for free dimensions.
        input_dtype: Of the input.
        input_quant: Of the input.
        quant: Tensor name -> scale and zero point.
        signature: Name in the signature -> tensor name.
        metadata: Metadata buffers inside of the flatbuffer.
    """
    graph = Builder()
    free = input_shape if -1 in input_shape else None
    source = graph.tensor("picture", tuple(max(1, n) for n in input_shape), input_dtype, input_quant, signature=free)
    made = {}
    for name, value in outputs.items():
        kind, scale = value.dtype.name, (quant or {}).get(name)
        constant = graph.constant(value, kind, quant=scale)
        shape = graph.constant(value.shape, "int32")
        made[name] = graph.op("RESHAPE", [constant, shape], value.shape, name, kind, scale)
    names = None if signature is None else {key: made[name] for key, name in signature.items()}
    return graph.build([source], list(made.values()), metadata, names)


BROKEN_TAILS = ("bomb", "traversal", "absolute", "backslash", "symlink", "duplicate", "many", "encrypted")
BROKEN_METADATA = ("newer", "bad-metadata", "not-json")


def broken(kind: str) -> bytes:
    """Return a file that must be refused.

    Args:
        kind: One of BROKEN_TAILS (archives that must not be read) or BROKEN_METADATA, or "empty", "garbage",
            "truncated", "edgetpu" (an operator that only the Edge TPU has), "wrong-size" and "wrong-labels" (metadata
            that contradicts the tensors).
    """
    tiny = tiny_detector()
    made: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "garbage": lambda: np.random.default_rng(0).bytes(5000),
        "truncated": lambda: tiny.model[: len(tiny.model) // 2],
        "bomb": lambda: tiny.model + _zip([("metadata.json", "0" * (4 << 20))], zipfile.ZIP_DEFLATED),
        "traversal": lambda: tiny.model + _zip([("../../evil.txt", "x")]),
        "absolute": lambda: tiny.model + _zip([("/etc/evil.txt", "x")]),
        "backslash": lambda: tiny.model + _zip([("..\\evil.txt", "x")]),
        "symlink": lambda: tiny.model + _zip([("link", "/etc/passwd")], mode=0o120777),
        "duplicate": lambda: tiny.model + _zip([("a.txt", "x"), ("a.txt", "y")]),
        "many": lambda: tiny.model + _zip([(f"{i}.txt", "x") for i in range(500)]),
        "encrypted": lambda: tiny.model + _zip([("a.txt", "x")], flags=1),
        "edgetpu": _edgetpu,
        "wrong-size": lambda: described(tiny, input={"size_wh": [320, 320], "std": [255]}),
        "wrong-labels": lambda: described(tiny, labels=["one"]),
        "newer": lambda: described(tiny, schema_version=99),
        "bad-metadata": lambda: described(tiny, task="cook", colour="red"),
        "not-json": lambda: with_tail(tiny.model, {"metadata.json": b"{not json"}),
    }
    return made[kind]()


def described(tiny: Tiny, **changes: Any) -> bytes:
    """Return the file with a description in which some keys were replaced, right or wrong."""
    value = tiny.spec.model_dump(mode="json") | changes
    return with_tail(tiny.model, {"metadata.json": json.dumps(value).encode()})


def _zip(
    members: list[tuple[str, str]], method: int = zipfile.ZIP_STORED, mode: int = 0o100644, flags: int = 0
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = method
            archive.NameToInfo.pop(name, None)  # zipfile warns of a name that it knows
            archive.writestr(info, text)
            info.flag_bits |= flags  # for the directory, which is written last
    return buffer.getvalue()


def _edgetpu() -> bytes:
    graph = Builder()
    source = graph.tensor("input", (1, 32, 32, 3), "uint8", (1 / 128, 128))
    output = graph.tensor("scores", (1, 3), "uint8", (1 / 256, 0))
    graph.custom("edgetpu-custom-op", [source], [output], {"4": 1})
    return graph.build([source], [output])
