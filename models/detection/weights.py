"""Weights that a detector starts from: another run's, or those of a deployed `.tflite` of the same family.

Networks are matched by the names of their convolutions. Heads of other classes are matched class by class, by
label: a class that both know keeps what was learned about it, a new one starts at its prior.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edge.errors import InputError
from edge.spec.archive import read_tail
from edge.spec.resolve import METADATA_NAME, parse_spec
from models.detection.network import SIZES, convolutions, edge_yolo

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Kernel (kh, kw, in, out), of a depthwise convolution (kh, kw, in, 1), and bias (out,)."""


Start = tuple[dict[str, Arrays], tuple[str, ...]]
"""Weights by convolution, and the classes of their head."""


def folded_weights(model: keras.Model) -> dict[str, Arrays]:
    """Return kernel and bias of every convolution, with the normalisation that follows folded in.

    Args:
        model: A network of `models.detection.network`, folded or not.
    """
    norms = {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    folded = {}
    for layer in convolutions(model):
        kernel, *bias = layer.get_weights()
        name = layer.name
        norm = next((norms[n] for n in (f"{name}_bn", f"{name}_BN", f"bn_{name}") if n in norms), None)
        channels = kernel.shape[2] if isinstance(layer, keras.layers.DepthwiseConv2D) else kernel.shape[3]
        offset = bias[0] if bias else np.zeros(channels, np.float32)
        if norm is not None:
            gamma, beta, mean, variance = norm.get_weights()
            scale = gamma / np.sqrt(variance + norm.epsilon)
            offset = beta + (offset - mean) * scale
            per_channel = (1, 1, -1, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (1, 1, 1, -1)
            kernel = kernel * scale.reshape(per_channel)
        folded[name] = (kernel.astype(np.float32), offset.astype(np.float32))
    return folded


def tflite_weights(content: bytes) -> dict[str, Arrays]:
    """Return kernel and bias of every convolution of a deployed float network, by the name of its Keras layer.

    Args:
        content: A `.tflite` that was converted from a network of `models.detection.network`, float32 or float16.

    Raises:
        InputError: The weights are quantised, or the tensors carry no layer names.
    """
    # Without a delegate the graph's own tensors can be read, the weights among them.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    found: dict[str, Arrays] = {}
    sources: dict[int, int] = {}  # float16 weights pass through a DEQUANTIZE
    for operator in interpreter._get_ops_details():
        kind, inputs, outputs = operator["op_name"], operator["inputs"], operator["outputs"]
        if kind == "DEQUANTIZE":
            sources[int(outputs[0])] = int(inputs[0])
            continue
        if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        kernel, bias = (interpreter.get_tensor(sources.get(int(i), int(i))) for i in inputs[1:3])
        if kernel.dtype.kind != "f":
            raise InputError(f"its weights are {kernel.dtype}; expected the float32 or float16 form of the network")
        names = " ".join(interpreter._get_tensor_details(int(i), 0)["name"] for i in (*inputs[1:3], *outputs))
        match = re.search(r"/([^/;]+?)(?:_\d+)?/(?:convolution|depthwise)", names)
        if match is None:
            raise InputError("its tensors do not name the layers that they come from")
        name = match.group(1)
        # CONV_2D keeps (out, kh, kw, in), DEPTHWISE_CONV_2D (1, kh, kw, out).
        moved = kernel.transpose((1, 2, 3, 0))
        found[name] = (moved.astype(np.float32), bias.astype(np.float32))
    return found


def set_folded(
    model: keras.Model, weights: Mapping[str, Arrays], from_labels: Sequence[str], to_labels: Sequence[str]
) -> list[str]:
    """Give a folded network the weights of another.

    Args:
        model: A folded network with a class head for `to_labels`.
        weights: By name of the convolution, as `folded_weights` or `tflite_weights` give them.
        from_labels: Classes of the network that the weights come from.
        to_labels: Classes of `model`.

    Returns:
        The names of the convolutions that start anew, wholly or for some of the classes.

    Raises:
        InputError: The weights belong to another backbone.
    """
    shared = {label: index for index, label in enumerate(from_labels)}
    anew = []
    for layer in convolutions(model):
        in_head = layer.name.startswith(("box_", "cls_", "head_"))
        own_kernel, own_bias = layer.get_weights()
        kernel, bias = weights.get(layer.name, (None, None))
        if kernel is None and in_head:
            anew.append(layer.name)  # the other network has another kind of head
            continue
        if kernel is None or bias is None:
            raise InputError(f"the weights have nothing for {layer.name}; expected a network of the same size")
        if re.fullmatch(r"cls_\d+", layer.name) and kernel.shape[:3] == own_kernel.shape[:3]:
            known = [(i, shared[label]) for i, label in enumerate(to_labels) if label in shared]
            for mine, theirs in known:
                own_kernel[..., mine], own_bias[mine] = kernel[..., theirs], bias[theirs]
            if len(known) < len(to_labels):
                anew.append(layer.name)
            kernel, bias = own_kernel, own_bias
        if kernel.shape != own_kernel.shape:
            if in_head:
                anew.append(layer.name)
                continue
            raise InputError(
                f"the weights of {layer.name} have the shape {kernel.shape}; expected {own_kernel.shape}, that of a "
                "network of the same size"
            )
        layer.set_weights([kernel, bias])
    return anew


def load_start(path: Path) -> Start:
    """Read the weights that a run starts from.

    Args:
        path: ``best.keras`` of an earlier run, with its ``best.spec.json`` beside it, or a deployed `.tflite`.

    Returns:
        Weights by convolution, and the classes of their head.

    Raises:
        InputError: The file cannot be read, is another network, or does not say what its classes are.
    """
    try:
        if path.suffix == ".tflite":
            described = read_tail(path).get(METADATA_NAME)
            if described is None:
                raise InputError(f"{path}: does not say what it is; expected a file that edge convert wrote")
            return tflite_weights(path.read_bytes()), parse_spec(described, path).labels
        spec = path.with_suffix(".spec.json")
        labels = parse_spec(spec.read_bytes(), spec).labels
        return folded_weights(keras.models.load_model(path, compile=False, safe_mode=True)), labels
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a network ({str(error).splitlines()[0]})") from error


def teaching(weights: Mapping[str, Arrays], labels: Sequence[str], wanted: Sequence[str]) -> keras.Model:
    """Build the network that another learns from, for pictures of any size.

    Args:
        weights: As `load_start` gives them.
        labels: Its classes, likewise.
        wanted: Those of the network that learns.

    Raises:
        InputError: The classes differ, or the weights are of no size of the family or of another head.
    """
    if tuple(labels) != tuple(wanted):
        raise InputError(f"--distill: it knows {', '.join(labels)}; expected {', '.join(wanted)}, in this order")
    width = weights["sppf_in"][0].shape[-1] if "sppf_in" in weights else 0
    size = next((name for name, size in SIZES.items() if size.width == width), None)
    if size is None or "cls_8" not in weights:
        raise InputError(f"--distill: expected an edge-yolo of the sizes {', '.join(SIZES)} with the anchor-free head")
    model = edge_yolo(size, len(wanted), folded=True)
    set_folded(model, weights, labels, wanted)
    model.trainable = False
    return model


def start_credit(weights: str | None) -> str | None:
    """Return whom a network that goes on from other weights owes, as far as these tell.

    Args:
        weights: "imagenet", a file as `load_start` takes, or None.

    Raises:
        InputError: The file or what describes it is not there any more.
    """
    if weights == "imagenet":
        return "MobileNetV2 backbone: ImageNet weights of Keras applications, Apache-2.0"
    return file_credit(Path(weights), "started from") if weights else None


def file_credit(path: Path, owed: str) -> str | None:
    """Return whom a network of ours owes that another comes from.

    Args:
        path: As `load_start` takes it.
        owed: How the other comes from it.

    Raises:
        InputError: The file or what describes it is not there any more.
    """
    file = path if path.suffix == ".tflite" else path.with_suffix(".spec.json")
    try:
        described = read_tail(path)[METADATA_NAME] if file == path else file.read_bytes()
    except (OSError, KeyError) as error:
        raise InputError(f"{file}: cannot be read; whom the weights are owed to stands there ({error})") from error
    spec = parse_spec(described, file)
    return f"{owed} {spec.name}: {spec.provenance.attribution}" if spec.provenance.attribution else None
