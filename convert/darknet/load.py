"""From `.cfg`, `.weights` and names to a model ready for conversion."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import keras

from convert.darknet.build import Graph
from convert.darknet.cfg import Section, read_cfg
from convert.darknet.weights import WeightsReader
from convert.loaded import LoadedModel, freeze, labels_for
from edge.errors import InputError
from edge.spec import DecoderSpec, InputSpec, ModelSpec, Provenance
from edge.spec.model import Task
from edge.spec.validate import validated

_STEP = 32
"""Down-sampling of the usual detectors; other sizes give grids that do not line up."""


def load_darknet(
    cfg: Path,
    weights: Path,
    labels: Path | None = None,
    size_wh: tuple[int, int] | None = None,
    resize: str | None = None,
    name: str | None = None,
) -> LoadedModel:
    """Read a Darknet network.

    Args:
        cfg: The description.
        weights: The parameters.
        labels: Class names; without them classes are numbers.
        size_wh: Input width and height in pixels instead of those of the cfg.
        resize: How pictures are brought to that size. The original Darknet keeps a detector's aspect ratio, which is
            the default; the AlexeyAB fork stretches. Stretching gains on pictures nearly as square as the input; on
            wide video it finds as many people and several times as much that is not there.
        name: Model name; the stem of the cfg unless given.

    Returns:
        The model. A detector's outputs are its raw heads, named `head_0`, `head_1`, ... in the order of the cfg; a
        classifier's is `scores`.

    Raises:
        InputError: A file is unusable, or the size does not fit the network.
    """
    net, sections = read_cfg(cfg)
    height, width = _input_side(net, "height", size_wh, 1), _input_side(net, "width", size_wh, 0)
    channels = net.integer("channels", 3, minimum=1)
    if channels not in (1, 3):
        raise net.error(f"channels={channels}, expected 3 (RGB) or 1 (grey)", "channels")
    detects = any(section.kind in ("yolo", "region") for section in sections)
    if size_wh and detects and (width % _STEP or height % _STEP):
        raise InputError(f"size {width}x{height}: a Darknet detector needs multiples of {_STEP}")
    image = keras.Input((height, width, channels), name="image")
    graph = Graph(image, WeightsReader.open(weights))
    for section in sections:
        graph.add(section)

    task: Task
    if graph.heads:
        task, decoder, outputs = "detect", _detector(graph, (width, height)), [tensor for _, tensor in graph.heads]
        names = tuple(decoder.outputs.values())
        classes = decoder.params["classes"]
    else:
        task, decoder = "classify", _classifier(sections)
        outputs, names = [keras.layers.Flatten(name="scores")(graph.layers[-1])], ("scores",)
        classes = int(outputs[0].shape[-1])
    graph.weights.finish()
    model = keras.Model(image, outputs, name="darknet")
    spec = ModelSpec(
        name=name or cfg.stem,
        task=task,
        input=validated(
            InputSpec,
            {
                "size_wh": (width, height),
                "color": "RGB" if channels == 3 else "GRAY",
                "mean": (0.0,),
                "std": (255.0,),
                "resize": resize or ("letterbox-center" if task == "detect" else "stretch"),
            },
            "flag --resize",
        ),
        decoder=decoder,
        labels=labels_for(labels, classes),
        provenance=Provenance(
            source=f"{cfg.name} + {weights.name}", source_sha256=hashlib.sha256(weights.read_bytes()).hexdigest()
        ),
    )
    frozen = freeze(lambda x: _as_list(model(x, training=False)), (1, height, width, channels))
    return LoadedModel(frozen, names, spec)


def _as_list(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _input_side(net: Section, key: str, size_wh: tuple[int, int] | None, axis: int) -> int:
    if size_wh is not None:
        if size_wh[axis] < 1:
            raise InputError(f"size {size_wh[0]}x{size_wh[1]}: expected positive numbers of pixels")
        return size_wh[axis]
    if key not in net.options:
        raise net.error(f"{key}= is missing; give the input size with --size WxH")
    return net.integer(key, 0, minimum=1)


def _detector(graph: Graph, size_wh: tuple[int, int]) -> DecoderSpec:
    """Describe the heads: all [yolo], or one [region]."""
    kinds = {section.kind for section, _ in graph.heads}
    if kinds == {"region"} and len(graph.heads) == 1:
        return _region(*graph.heads[0])
    if kinds != {"yolo"}:
        raise graph.heads[-1][0].error("expected either [yolo] heads or one [region] head in a network")
    params: dict[str, Any] = {"anchors": [], "strides": [], "scale_x_y": []}
    per_network: dict[str, tuple[Section, object]] = {}
    for section, tensor in graph.heads:
        params["anchors"].append(_yolo_anchors(section))
        params["strides"].append(_stride(section, tensor, size_wh))
        params["scale_x_y"].append(section.number("scale_x_y", 1.0))
        classes = section.integer("classes", 20, minimum=1)
        _check_channels(section, tensor, len(params["anchors"][-1]), classes)
        for key, value in (("classes", classes), ("new_coords", bool(section.integer("new_coords", 0)))):
            first, expected = per_network.setdefault(key, (section, value))
            if value != expected:
                raise section.error(f"{key} differs from the head at line {first.line}; expected the same", key)
            params[key] = value
    return DecoderSpec(
        name="yolo_anchors", outputs={f"head_{i}": f"head_{i}" for i in range(len(graph.heads))}, params=params
    )


def _yolo_anchors(section: Section) -> list[list[float]]:
    total = section.integer("num", 1, minimum=1)
    values = section.numbers("anchors", ())
    if len(values) != 2 * total:
        raise section.error(f"num={total} needs {2 * total} numbers in anchors, found {len(values)}", "anchors")
    mask = section.integers("mask", tuple(range(total)))
    if any(not 0 <= index < total for index in mask):
        raise section.error(f"mask={section.text('mask', '')}, expected numbers in 0..{total - 1}", "mask")
    return [[values[2 * index], values[2 * index + 1]] for index in mask]


def _region(section: Section, tensor: Any) -> DecoderSpec:
    count = section.integer("num", 1, minimum=1)
    values = section.numbers("anchors", ())
    if len(values) != 2 * count:
        raise section.error(f"num={count} needs {2 * count} numbers in anchors, found {len(values)}", "anchors")
    classes = section.integer("classes", 20, minimum=1)
    _check_channels(section, tensor, count, classes)
    params = {
        "anchors": [[values[2 * index], values[2 * index + 1]] for index in range(count)],
        "classes": classes,
        "softmax": bool(section.integer("softmax", 0)),
    }
    return DecoderSpec(name="region", outputs={"head_0": "head_0"}, params=params)


def _check_channels(section: Section, tensor: Any, anchors: int, classes: int) -> None:
    expected = anchors * (5 + classes)
    if tensor.shape[-1] != expected:
        message = f"{anchors} anchors and {classes} classes need {expected} channels, found {tensor.shape[-1]}"
        raise section.error(f"{message}; set filters={expected} in the [convolutional] before it")


def _stride(section: Section, tensor: Any, size_wh: tuple[int, int]) -> int:
    (width, height), (rows, columns) = size_wh, tensor.shape[1:3]
    if width % columns or height % rows or width // columns != height // rows:
        raise section.error(
            f"a grid of {columns} x {rows} does not divide the {width} x {height} input evenly; "
            f"choose a size that is a multiple of {_STEP}"
        )
    return int(width // columns)


def _classifier(sections: list[Section]) -> DecoderSpec:
    """Describe a network without a detection head, by its last layer that does something."""
    last = next((section for section in reversed(sections) if section.kind not in ("cost", "dropout")), sections[-1])
    if last.kind == "softmax":
        activation = "none"
    elif last.kind in ("connected", "avgpool"):
        linear = last.kind == "avgpool" or last.text("activation", "logistic") == "linear"
        activation = "softmax" if linear else "none"
    else:
        raise last.error("the network ends here, without a head; expected [yolo], [region], [softmax] or [connected]")
    return DecoderSpec(name="classifier", outputs={"scores": "scores"}, params={"activation": activation})
