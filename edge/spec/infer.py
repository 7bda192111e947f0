"""What shapes, the graph and TFLite Metadata settle about a model, and the sentence that asks for the rest."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edge.errors import SpecError
from edge.spec.families import FAMILIES, Family
from edge.spec.graph import Graph
from edge.spec.inputs import RANGES, Scaling, describe, free, level_by_level, named_range, size_wh, tensor_range
from edge.spec.labels import UNNAMED
from edge.spec.model import Color, DecoderSpec, InputSpec, Layout, ModelSpec, Provenance, Resize
from edge.tensor import TensorInfo

log = logging.getLogger(__name__)

ATTACH = "or attach a description: edge inspect MODEL --attach spec.json"

_GRIDS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
_BACKGROUND = (UNNAMED, "background", "dummy")
_SSD_NAMES = {
    "boxes": ("location", "locations", "detection_boxes", "boxes"),
    "classes": ("category", "categories", "classes", "detection_classes"),
    "scores": ("score", "scores", "detection_scores"),
    "count": ("number of detections", "num_detections", "count"),
}
_PROBABILITY_MAKERS = {"SOFTMAX", "LOGISTIC"}
_LINEAR_MAKERS = {"ADD", "BATCH_MATMUL", "CONV_2D", "FULLY_CONNECTED"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model besides its tensors and graph; None and empty where nothing is.

    Attributes:
        path: The file.
        decoder: Head family, when the user named it.
        labels: Class names.
        value_range: A key of RANGES that the user gave.
        scaling: Mean and std that the file gives.
        color: Channel order.
        resize: How pictures are fitted.
        layout: Order of the input's axes.
        channels: Of the input.
        output_names: Names that TFLite Metadata gives the outputs, in the order of the graph.
        pixels: TFLite Metadata says that boxes are pixels.
        conf: Score threshold.
        licence: Of the model.
        size_wh: Input size, for a tensor of free size.
    """

    path: Path
    layout: Layout
    channels: int
    decoder: str | None = None
    labels: tuple[str, ...] = ()
    value_range: str | None = None
    scaling: Scaling | None = None
    color: Color | None = None
    resize: Resize | None = None
    output_names: tuple[str, ...] = ()
    pixels: bool = False
    conf: float | None = None
    licence: str | None = None
    size_wh: tuple[int, int] | None = None


def infer(facts: Facts, input_info: TensorInfo, outputs: tuple[TensorInfo, ...], graph: Graph) -> ModelSpec:
    """Complete what is known into a spec, from evidence only.

    Raises:
        SpecError: Something is not settled; the message says what to pass.
    """
    decoder, labels = _decoder(facts, input_info, outputs, graph)
    family = FAMILIES[decoder.name]
    color: Color = facts.color or ("GRAY" if facts.channels == 1 else family.color)
    mean, std = _scaling(facts, family, color, input_info)
    return ModelSpec(
        name=facts.path.stem,
        task=family.task,
        input=InputSpec(
            size_wh=facts.size_wh,
            layout=facts.layout,
            color=color,
            mean=mean,
            std=std,
            resize=facts.resize or family.resize,
        ),
        decoder=decoder,
        labels=labels,
        conf=0.25 if facts.conf is None else facts.conf,
        provenance=Provenance(licence=facts.licence),
    )


def _scaling(facts: Facts, family: Family, color: str, info: TensorInfo) -> Scaling:
    if facts.value_range is not None:
        return level_by_level(named_range(facts.value_range, color), info)
    if facts.scaling is not None:
        return level_by_level(facts.scaling, info)
    implied = tensor_range(info)
    if implied is not None:
        return implied
    if family.value_range is not None:
        return named_range(family.value_range, color)
    quantised = f", quantised with scale {info.scale:.6g} and zero point {info.zero_point}" if info.quantized else ""
    raise SpecError(
        f"{facts.path}: nothing says which values the input {info.name} ({info.dtype}{quantised}) takes; pass "
        f"--input-range {' or '.join(RANGES)} (Teachable Machine, MobileNet, EfficientNet-Lite: -1..1; most "
        f"PyTorch exports: 0..1 or imagenet; Keras' EfficientNet: 0..255), {ATTACH}"
    )


def _decoder(
    facts: Facts, input_info: TensorInfo, outputs: tuple[TensorInfo, ...], graph: Graph
) -> tuple[DecoderSpec, tuple[str, ...]]:
    """Return the decoder, and the labels as its class numbers want them."""
    name = facts.decoder
    if name is not None and FAMILIES[name].needs:
        raise SpecError(
            f"{facts.path}: decoder {name} also needs {', '.join(FAMILIES[name].needs)}, which no flag gives; attach a "
            "description that has them: edge inspect MODEL --attach spec.json"
        )
    if name == "ssd_postprocess" or (name is None and (graph.postprocess or _ssd_like(outputs))):
        return _ssd(facts, outputs, graph)
    if name == "classifier" or (name is None and len(outputs) == 1 and _flat(outputs[0])):
        return _classifier(facts, outputs, graph)
    if name is None:
        name = _grid_head(facts, input_info, outputs)
    if len(outputs) != 1:
        _contradiction(facts, name, "one output", outputs)
    return DecoderSpec(name=name, outputs={FAMILIES[name].roles[0]: outputs[0].name}), facts.labels


def _contradiction(facts: Facts, name: str, expected: str, outputs: tuple[TensorInfo, ...]) -> NoReturn:
    raise SpecError(f"{facts.path}: decoder {name} expects {expected}, the model has {describe(outputs)}")


def _flat(info: TensorInfo) -> bool:
    """Return whether an output is one score a class: (1, C), also as (1, 1, 1, C) or (1, C, 1, 1)."""
    return len(info.shape) in (2, 4) and info.shape[0] == 1 and math.prod(info.shape) == max(info.shape) > 1


def _ssd_like(outputs: tuple[TensorInfo, ...]) -> bool:
    """Return whether four outputs look like boxes (1, N, 4), two (1, N) and a count (1,)."""
    shapes = sorted((info.shape for info in outputs), key=len)
    if len(shapes) != 4 or len(shapes[3]) != 3 or shapes[3][2] != 4:
        return False
    return math.prod(shapes[0]) == 1 and shapes[1] == shapes[2] == shapes[3][:2]


def _ssd(facts: Facts, outputs: tuple[TensorInfo, ...], graph: Graph) -> tuple[DecoderSpec, tuple[str, ...]]:
    """Name the four outputs by the operator that makes them, by the signature, or by TFLite Metadata."""
    names = [info.name for info in outputs]
    if len(graph.postprocess) == 4 and set(graph.postprocess) <= set(names):
        roles = dict(zip(_SSD_NAMES, graph.postprocess, strict=True))
    else:
        given = dict(zip(facts.output_names, names, strict=False)) if len(facts.output_names) == len(names) else {}
        given |= graph.signature
        roles = {
            role: given[known]
            for role, known_names in _SSD_NAMES.items()
            for known in known_names
            if given.get(known) in names
        }
    if not {"boxes", "classes", "scores"} <= set(roles):
        raise SpecError(
            f"{facts.path}: looks like a detector with suppression inside, and nothing says which of its outputs are "
            f"the boxes, classes and scores ({describe(outputs)}); name them in a description (decoder.outputs): edge "
            "inspect MODEL --attach spec.json"
        )
    # The operator counts classes without the background, which label maps of TensorFlow keep as their first line.
    labels = facts.labels[1:] if facts.labels[:1] and facts.labels[0].lower() in _BACKGROUND else facts.labels
    params: dict[str, Any] = {"boxes": "pixels"} if facts.pixels else {}
    return DecoderSpec(name="ssd_postprocess", outputs=roles, params=params), labels


def _classifier(facts: Facts, outputs: tuple[TensorInfo, ...], graph: Graph) -> tuple[DecoderSpec, tuple[str, ...]]:
    if len(outputs) != 1 or not math.prod(outputs[0].shape) == max(outputs[0].shape, default=0) >= 1:
        _contradiction(facts, "classifier", "one output of shape (1, classes)", outputs)
    info = outputs[0]
    decoder = DecoderSpec(
        name="classifier", outputs={"scores": info.name}, params={"activation": _activation(info, graph)}
    )
    return decoder, _fit_labels(facts, math.prod(info.shape))


def _activation(info: TensorInfo, graph: Graph) -> str:
    """Tell by the last operator whether scores are probabilities; measured at run time where it is hidden."""
    maker = graph.makers.get(info.name, "")
    if maker in _PROBABILITY_MAKERS:
        return "none"
    # A matrix product or convolution ends in logits; anything else may be the tail of a softmax, or hide one.
    if maker in _LINEAR_MAKERS:
        return "softmax" if math.prod(info.shape) > 1 else "sigmoid"
    return "none" if _holds_probabilities(info) else "auto"


def _holds_probabilities(info: TensorInfo) -> bool:
    """Return whether the tensor has the quantisation that TFLite prescribes for the output of softmax and logistic."""
    if not info.quantized or info.dtype.itemsize != 1:
        return False
    return math.isclose(info.scale, 1 / 256, rel_tol=1e-3) and info.zero_point == np.iinfo(info.dtype).min


def _fit_labels(facts: Facts, classes: int) -> tuple[str, ...]:
    """Fit a label list to the classes, for lists that differ by the background line.

    Raises:
        SpecError: The numbers differ otherwise.
    """
    labels = facts.labels
    if not labels or len(labels) == classes or (classes, len(labels)) == (1, 2):
        return labels
    if len(labels) == classes + 1 and labels[0].lower() in _BACKGROUND:
        log.info("%s: the label line %r is left out, the model has no background class", facts.path, labels[0])
        return labels[1:]
    if classes == 1001 and len(labels) == 1000:
        # ImageNet networks of TensorFlow's first years have a background class in front of the 1000.
        log.info("%s: the model has a background class in front of the 1000 labels", facts.path)
        return ("background", *labels)
    raise SpecError(
        f"{facts.path}: the model has {classes} classes, the labels name {len(labels)}; pass the list that belongs to "
        "the model with --labels"
    )


def _grid_head(facts: Facts, input_info: TensorInfo, outputs: tuple[TensorInfo, ...]) -> str:
    """Tell a YOLO head by the number of its rows and the labels.

    Raises:
        SpecError: They do not settle it.
    """
    fits = _fits(facts, input_info, outputs[0].shape) if len(outputs) == 1 else []
    name, classes = fits[0] if len(fits) == 1 else ("", None)
    if classes is not None and len(facts.labels) == classes:
        return name
    if fits:
        kinds = " or ".join(f"{kind} with {n} classes" if n is not None else kind for kind, n in fits)
        advice = f"could be {kinds}; pass {' or '.join(f'--decoder {kind}' for kind, _ in fits)}"
        advice += f" or --labels FILE with {classes} names, " if classes is not None else ", "
    else:
        advice = _advice(facts, input_info, outputs)
    raise SpecError(f"{facts.path}: nothing says what its outputs are ({describe(outputs)}); they {advice}{ATTACH}")


def _advice(facts: Facts, input_info: TensorInfo, outputs: tuple[TensorInfo, ...]) -> str:
    """Return what to do about outputs that no flag can explain."""
    shapes = [info.shape for info in outputs]
    if not free(input_info) and all(_is_grid(shape, size_wh(input_info, facts.layout)) for shape in shapes):
        return "could be raw YOLO heads, whose anchors no flag gives; make the model with edge convert, "
    if [len(shape) for shape in shapes] == [3, 3] and shapes[0][:2] == shapes[1][:2]:
        return "could be raw SSD boxes and scores, whose anchors no flag gives; export with post-processing, "
    usual = ", ".join(kind for kind, family in FAMILIES.items() if not family.needs)
    return f"are of no kind that shapes alone settle; pass --decoder NAME if it is one of {usual}, "


def _is_grid(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Return whether an output has a value for each cell of one of YOLO's grids."""
    grids = {(size[1] // stride, size[0] // stride) for stride in (8, 16, 32, 64)}
    return len(shape) == 4 and (shape[1:3] in grids or shape[2:4] in grids)


def _fits(facts: Facts, input_info: TensorInfo, shape: tuple[int, ...]) -> list[tuple[str, int | None]]:
    """Return the head families that a shape (1, a, b) fits, with the number of classes that each would have."""
    if len(shape) != 3 or shape[0] != 1:
        return []
    _, a, b = shape
    cells: set[int] = set() if free(input_info) else _cells(size_wh(input_info, facts.layout))
    fits: list[tuple[str, int | None]] = []
    if b in cells and a >= 5:
        fits.append(("yolov8", a - 4))
    elif a in cells and b >= 6:
        fits += [("yolox", b - 5), ("yolov5", b - 5), ("yolov8", b - 4)]  # v6 has rows as v5, on the grid of v8
    elif a in {3 * n for n in cells} and b >= 6:
        fits.append(("yolov5", b - 5))
    elif b == 6:
        fits.append(("end2end", None))
    return fits


def _cells(size: tuple[int, int]) -> set[int]:
    """Return the numbers of cells that usual sets of strides give."""
    return {sum(-(-size[0] // s) * -(-size[1] // s) for s in strides) for strides in _GRIDS}
