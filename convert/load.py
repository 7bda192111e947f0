"""`load`: any source that `edge convert` takes, to a model ready for conversion."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from convert.darknet import load_darknet
from convert.describe import Description, Facts, describe
from convert.keras_model import activation_of, call, load_keras, output_names, scales_input
from convert.loaded import LoadedModel, freeze
from convert.safety import check_saved_model
from edge.errors import InputError
from edge.spec import Provenance


def load(source: Path, weights: Path | None = None, given: Description | None = None) -> LoadedModel:
    """Load a model to convert.

    Args:
        source: A Darknet `.cfg`, a Keras `.keras` or `.h5`, or the folder of a SavedModel.
        weights: The `.weights` of a `.cfg`; the file beside it of the same name unless given.
        given: What the user says about the model.

    Raises:
        InputError: A file is unusable.
        SpecError: The model does not say what it is; the message names the flag that does.
    """
    given = given or Description()
    if source.suffix.lower() == ".cfg":
        return _darknet(source, weights or source.with_suffix(".weights"), given)
    if weights is not None:
        raise InputError(f"{weights}: only a Darknet .cfg has separate weights, {source} has not")
    if source.suffix.lower() == ".weights":
        raise InputError(f"{source}: holds Darknet weights alone; pass the .cfg first, then the .weights")
    sidecar = source.with_name(f"{source.stem}.spec.json")
    if given.spec is None and sidecar.is_file():
        given = replace(given, spec=sidecar)
    if source.is_dir():
        if not (source / "saved_model.pb").is_file():
            raise InputError(f"{source}: expected a SavedModel, but there is no saved_model.pb in this folder")
        return _saved_model(source, given)
    return _keras(source, given)


def _darknet(cfg: Path, weights: Path, given: Description) -> LoadedModel:
    unused = {
        "--spec": given.spec,
        "--decoder": given.decoder,
        "--anchors": given.anchors,
        "--strides": given.strides,
        "--input-range": given.input_range,
        "--color": given.color,
    }
    for flag, value in unused.items():
        if value is not None:
            raise InputError(f"{flag} is for Keras models; {cfg} says this itself")
    loaded = load_darknet(cfg, weights, given.labels, given.size_wh, given.resize, given.name)
    provenance = given.provenance(loaded.spec.provenance)
    return replace(loaded, spec=loaded.spec.model_copy(update={"provenance": provenance}))


def _keras(path: Path, given: Description) -> LoadedModel:
    model = load_keras(path)
    if len(model.inputs or ()) != 1:
        raise InputError(f"{path}: expected a model with one input, a picture; found {len(model.inputs or ())}")
    source = _Source(
        path,
        tuple(model.inputs[0].shape),
        dict(zip(output_names(model), (tuple(tensor.shape) for tensor in model.outputs), strict=True)),
        lambda image: call(model, image),
        scales_input(model),
        activation_of(model),
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    return _trace(source, given)


def _saved_model(folder: Path, given: Description) -> LoadedModel:
    check_saved_model(folder)
    try:
        restored = tf.saved_model.load(str(folder))
    except (ValueError, OSError, RuntimeError, KeyError, AttributeError, tf.errors.OpError) as error:
        raise InputError(f"{folder}: TensorFlow cannot load it: {' '.join(str(error).split())[:300]}") from error
    signatures = restored.signatures
    if "serving_default" not in signatures and len(signatures) != 1:
        raise InputError(f"{folder}: expected a signature serving_default, found {', '.join(signatures) or 'none'}")
    signature = signatures["serving_default" if "serving_default" in signatures else next(iter(signatures))]
    arguments = signature.structured_input_signature[1]
    if len(arguments) != 1:
        raise InputError(f"{folder}: expected a signature with one input, a picture; found {', '.join(arguments)}")
    ((key, tensor),) = arguments.items()
    outputs = {name: tuple(signature.structured_outputs[name].shape) for name in sorted(signature.structured_outputs)}

    def run(image: Any) -> list[Any]:
        results = signature(**{key: tf.cast(image, tensor.dtype)})
        return [results[name] for name in outputs]

    digest = hashlib.sha256((folder / "saved_model.pb").read_bytes()).hexdigest()
    return _trace(_Source(folder, tuple(tensor.shape), outputs, run, False, "auto", digest), given)


class _Source(NamedTuple):
    """A Keras model or a signature before it is traced.

    Attributes:
        path: The file, for messages.
        input_shape: Of the picture, batch included; None for a free side.
        outputs: Name -> shape, in the order of `run`.
        run: From a picture (1, H, W, C), or (1, H, W) when that is the input, to the outputs.
        scales_input: See `Facts`.
        activation: See `Facts`.
        digest: SHA-256 of the file.
    """

    path: Path
    input_shape: tuple[int | None, ...]
    outputs: dict[str, tuple[int | None, ...]]
    run: Callable[[Any], list[Any]]
    scales_input: bool
    activation: str
    digest: str


def _trace(source: _Source, given: Description) -> LoadedModel:
    """Trace a model at its final size and describe it."""
    shape, flat = _image_shape(source, given.size_wh), len(source.input_shape) == 3
    shapes = list(source.outputs.values())
    classifies = given.spec is None and given.decoder in (None, "classifier")
    one_unit = classifies and len(shapes) == 1 and shapes[0][1:] == (1,)
    if one_unit and source.activation == "auto":
        raise InputError(
            f"{source.path}: ends in one unit, and nothing says whether that is a probability; end it with two classes"
        )

    def function(image: Any) -> list[Any]:
        outputs = source.run(tf.squeeze(image, -1) if flat else image)
        if one_unit:
            second = tf.sigmoid(outputs[0]) if source.activation == "softmax" else outputs[0]
            return [tf.concat([1.0 - second, second], axis=-1)]
        # Some training code splits the anchors off the channels, (1, H, W, A, 5 + C); a convolution does not.
        return [tf.reshape(x, (*x.shape[:3], -1)) if len(x.shape) == 5 else x for x in outputs]

    try:
        graph = freeze(function, shape)
    except (ValueError, TypeError, RuntimeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{source.path}: its graph cannot be fixed for inference ({reason}); if this was exported from Keras, "
            "convert the .keras file"
        ) from error
    names = tuple(source.outputs)
    facts = Facts(
        source.path,
        (shape[2], shape[1]),
        shape[3],
        {name: tuple(int(side) for side in tensor.shape) for name, tensor in zip(names, graph.outputs, strict=True)},
        source.scales_input,
        "none" if one_unit else source.activation,
    )
    spec = describe(facts, given, Provenance(source=source.path.name, source_sha256=source.digest))
    return LoadedModel(graph, names, spec)


def _image_shape(source: _Source, size_wh: tuple[int, int] | None) -> tuple[int, int, int, int]:
    """Return the shape (1, H, W, C) of the input that the file will have.

    Raises:
        InputError: The input is no picture, or its size is open and not given, or given and not open.
    """
    shape = source.input_shape if len(source.input_shape) == 4 else (*source.input_shape, 1)
    shown = tuple("?" if side is None else side for side in source.input_shape)
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise InputError(f"{source.path}: expected a picture (?, H, W, 3) or (?, H, W, 1) as input, found {shown}")
    if size_wh is None:
        if None in shape[1:3]:
            raise InputError(f"{source.path}: its input {shown} is of any size; pass --size WxH")
        return (1, int(shape[1] or 0), int(shape[2] or 0), int(shape[3]))
    width, height = size_wh
    if shape[1] not in (None, height) or shape[2] not in (None, width):
        raise InputError(f"{source.path}: its input {shown} has a fixed size; --size {width}x{height} does not fit")
    return (1, height, width, int(shape[3]))
