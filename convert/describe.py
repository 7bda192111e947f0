"""What the flags and the graph say about a Keras model: the ModelSpec of the file that will be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.loaded import labels_for
from edge.errors import InputError, SpecError
from edge.spec import DecoderSpec, InputSpec, ModelSpec, Provenance
from edge.spec.families import FAMILIES
from edge.spec.inputs import RANGES, named_range
from edge.spec.resolve import parse_spec
from edge.spec.validate import validated

Shapes = Mapping[str, tuple[int, ...]]
"""Output name -> shape, batch 1 included."""


@dataclass(frozen=True)
class Description:
    """What the user says about a model; None leaves it to the model.

    Attributes:
        spec: JSON file with a whole ModelSpec; the other fields change it.
        labels: Text file, one class name a line.
        decoder: Head family, a key of `edge.spec.families.FAMILIES`.
        anchors: Anchor sizes [w, h] of each head, smallest stride first or in the order of `strides`.
        strides: Input pixels per cell of each head.
        input_range: A key of `edge.spec.inputs.RANGES`.
        color: "RGB", "BGR" or "GRAY".
        resize: "letterbox-center", "letterbox-topleft", "stretch" or "center-crop".
        size_wh: Input size in pixels, for a model that leaves it open.
        name: Model name.
        licence: SPDX identifier or a sentence.
        attribution: Text that must travel with the model.
    """

    spec: Path | None = None
    labels: Path | None = None
    decoder: str | None = None
    anchors: tuple[tuple[tuple[float, float], ...], ...] | None = None
    strides: tuple[int, ...] | None = None
    input_range: str | None = None
    color: str | None = None
    resize: str | None = None
    size_wh: tuple[int, int] | None = None
    name: str | None = None
    licence: str | None = None
    attribution: str | None = None

    def provenance(self, base: Provenance) -> Provenance:
        """Return `base` with the fields that the user gave."""
        given = {"licence": self.licence, "attribution": self.attribution}
        return base.model_copy(update={key: value for key, value in given.items() if value is not None})

    def input_changes(self, color: str) -> dict[str, Any]:
        """Return the fields of an InputSpec that the user gave; `color` is the order when none is given."""
        changes: dict[str, Any] = {}
        if self.color is not None:
            changes["color"] = self.color.upper()
        if self.resize is not None:
            changes["resize"] = self.resize.lower()
        if self.input_range is not None:
            changes["mean"], changes["std"] = named_range(self.input_range, changes.get("color", color))
        return changes


@dataclass(frozen=True)
class Facts:
    """What a graph tells about itself.

    Attributes:
        path: The file, for messages.
        size_wh: Input size.
        channels: Of the input.
        outputs: Names and shapes.
        scales_input: Whether the graph begins by scaling pixels of 0..255.
        activation: Of a classifier's output: "none" (probabilities), "softmax" (logits), "auto" when hidden.
    """

    path: Path
    size_wh: tuple[int, int]
    channels: int
    outputs: Shapes
    scales_input: bool
    activation: str


def describe(facts: Facts, given: Description, provenance: Provenance) -> ModelSpec:
    """Complete what is known of a Keras model into a spec.

    Raises:
        SpecError: Something is not settled; the message names the flag that settles it.
        InputError: A file that was given is unusable.
    """
    if given.spec is not None:
        return _from_file(facts, given, provenance)
    decoder, classes = _decoder(facts, given)
    family = FAMILIES[decoder.name]
    color = "GRAY" if facts.channels == 1 else family.color
    fields: dict[str, Any] = {"size_wh": facts.size_wh, "color": color, "resize": family.resize}
    fields |= given.input_changes(color)
    if "mean" not in fields:
        value_range = "0..255" if facts.scales_input else family.value_range
        if value_range is None:
            raise SpecError(
                f"{facts.path}: nothing in it says which values its input takes (no Rescaling or Normalization layer); "
                f"pass --input-range {', '.join(RANGES)} (Teachable Machine and MobileNet: -1..1; x / 255: 0..1)"
            )
        fields["mean"], fields["std"] = named_range(value_range, str(fields["color"]))
    labels = labels_for(given.labels, classes) if classes is not None else ()
    return ModelSpec(
        name=given.name or facts.path.stem,
        task=family.task,
        input=validated(InputSpec, fields, "flags --color, --resize, --input-range"),
        decoder=decoder,
        labels=labels,
        provenance=given.provenance(provenance),
    )


def _from_file(facts: Facts, given: Description, provenance: Provenance) -> ModelSpec:
    assert given.spec is not None
    try:
        text = given.spec.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {given.spec}: {error.strerror}") from error
    spec = parse_spec(text, given.spec)
    missing = [name for name in spec.decoder.outputs.values() if name not in facts.outputs]
    if missing:
        have = ", ".join(facts.outputs)
        raise SpecError(f"{given.spec}: names the outputs {', '.join(missing)}; {facts.path} has {have}")
    if spec.input.size_wh is not None and spec.input.size_wh != facts.size_wh:
        raise SpecError(
            f"{given.spec}: says {spec.input.size_wh[0]} x {spec.input.size_wh[1]} pixels, {facts.path} takes "
            f"{facts.size_wh[0]} x {facts.size_wh[1]}"
        )
    own = {key: value for key, value in spec.provenance.model_dump().items() if value is not None}
    changes = {**spec.input.model_dump(), "size_wh": facts.size_wh, "name": None}
    changes |= given.input_changes(spec.input.color)
    return spec.model_copy(
        update={
            "name": given.name or spec.name,
            "input": validated(InputSpec, changes, f"{given.spec}, input"),
            "labels": labels_for(given.labels, len(spec.labels)) if given.labels and spec.labels else spec.labels,
            "provenance": given.provenance(provenance.model_copy(update=own)),
        }
    )


def _decoder(facts: Facts, given: Description) -> tuple[DecoderSpec, int | None]:
    """Return the decoder and the number of classes (None where the runtime finds it)."""
    shapes = facts.outputs
    name = given.decoder
    if name is None:
        if len(shapes) == 1 and _flat(next(iter(shapes.values()))):
            name = "classifier"
        else:
            raise SpecError(
                f"{facts.path}: its outputs ({_text(shapes)}) do not say what they are; pass --decoder "
                f"({', '.join(FAMILIES)}), or --spec FILE.json with a whole description"
            )
    if name not in FAMILIES:
        raise SpecError(f"--decoder {name!r}: expected one of {', '.join(FAMILIES)}")
    if name == "classifier":
        output, shape = _only(facts, name)
        if not _flat(shape):
            raise SpecError(f"{facts.path}: decoder classifier expects (1, classes), found {_text(shapes)}")
        return DecoderSpec(name=name, outputs={"scores": output}, params={"activation": facts.activation}), max(shape)
    if name in ("yolo_anchors", "region"):
        return _anchors(facts, given, name)
    if name == "anchor_free":
        return _anchor_free(facts, given)
    if FAMILIES[name].roles == ("output",):
        output, shape = _only(facts, name)
        return DecoderSpec(name=name, outputs={"output": output}), _row_classes(name, shape)
    raise SpecError(f"--decoder {name}: flags cannot describe it; pass --spec FILE.json with a whole description")


def _row_classes(name: str, shape: tuple[int, ...]) -> int | None:
    """Return the classes of a head of rows; None where the shape does not tell."""
    if len(shape) != 3 or name == "end2end":
        return None
    return min(shape[1:]) - (4 if name == "yolov8" else 5)


def _anchors(facts: Facts, given: Description, name: str) -> tuple[DecoderSpec, int]:
    """Match heads (1, H, W, A * (5 + C)) to strides and anchors."""
    shapes = facts.outputs
    if given.anchors is None:
        raise SpecError(f"{facts.path}: decoder {name} needs its anchors: --anchors 'w,h w,h w,h; w,h w,h w,h'")
    if len(given.anchors) != len(shapes) or any(len(shape) != 4 for shape in shapes.values()):
        raise SpecError(f"{facts.path}: --anchors describes {len(given.anchors)} heads, the model has {_text(shapes)}")
    heads = sorted(((facts.size_wh[0] / shape[2], output) for output, shape in shapes.items()))
    strides = given.strides or tuple(int(stride) for stride, _ in heads)
    by_stride = dict(heads)
    if sorted(strides) != [stride for stride, _ in heads]:
        found = ", ".join(f"{stride:g}" for stride, _ in heads)
        raise SpecError(f"{facts.path}: its heads have the strides {found}; --strides says {strides}")
    classes = {shapes[by_stride[s]][3] / len(a) - 5 for s, a in zip(strides, given.anchors, strict=True)}
    count = int(min(classes))
    if len(classes) > 1 or count != min(classes) or count < 1:
        raise SpecError(f"{facts.path}: its heads ({_text(shapes)}) do not have anchors x (5 + classes) channels")
    params: dict[str, Any] = {"anchors": [[list(pair) for pair in head] for head in given.anchors], "classes": count}
    if name == "region":
        params["anchors"] = params["anchors"][0]
    else:
        params["strides"] = list(strides)
    outputs = {f"head_{index}": by_stride[stride] for index, stride in enumerate(strides)}
    return DecoderSpec(name=name, outputs=outputs, params=params), count


def _anchor_free(facts: Facts, given: Description) -> tuple[DecoderSpec, int]:
    """Match pairs of heads, `box_s` of 4 channels and `cls_s` of C, by name or else by shape."""
    shapes = facts.outputs
    if any(len(shape) != 4 for shape in shapes.values()):
        raise SpecError(f"{facts.path}: decoder anchor_free expects heads (1, H, W, channels), found {_text(shapes)}")
    outputs: dict[str, str] = {}
    for output, shape in shapes.items():
        stride = facts.size_wh[0] // shape[2]
        kind = "box" if output.startswith("box") else "cls" if output.startswith("cls") else None
        kind = kind or ("box" if shape[3] == 4 else "cls")
        outputs.setdefault(f"{kind}_{stride}", output)
    strides = given.strides or tuple(sorted({int(role.split("_")[1]) for role in outputs}))
    wanted = [f"{kind}_{stride}" for stride in strides for kind in ("box", "cls")]
    if sorted(wanted) != sorted(outputs) or len(outputs) != len(shapes):
        raise SpecError(
            f"{facts.path}: cannot tell which of {_text(shapes)} is box and which cls of each stride; name the outputs "
            "box_8, cls_8, ... or pass --spec FILE.json"
        )
    classes = shapes[outputs[f"cls_{strides[0]}"]][3]
    ordered = {role: outputs[role] for role in wanted}
    return DecoderSpec(name="anchor_free", outputs=ordered, params={"strides": list(strides)}), classes


def _only(facts: Facts, name: str) -> tuple[str, tuple[int, ...]]:
    if len(facts.outputs) != 1:
        raise SpecError(f"{facts.path}: decoder {name} expects one output, found {_text(facts.outputs)}")
    return next(iter(facts.outputs.items()))


def _flat(shape: tuple[int, ...]) -> bool:
    """Return whether an output is one score a class: (1, C) or (1, 1, 1, C)."""
    return len(shape) in (2, 4) and all(side == 1 for side in shape[:-1])


def _text(shapes: Shapes) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
