"""Separate head scales: an anchor head as four outputs, so that int8 keeps each of them.

One output tensor has one scale. In a YOLOv3 head the class logits span a hundred units, and the logarithm of a width
has to be known to a few hundredths. The last convolution is cut by channels into four that compute exactly what it did.
"""

from __future__ import annotations

import numpy as np

from convert.rescue.network import Network
from edge.spec import ModelSpec

_VALUES = {"xy": (0, 1), "wh": (2, 3), "obj": (4,)}
"""Part -> places among an anchor's 5 + C values; the classes are the rest. The roles are those of the decoder."""


def split_heads(network: Network, names: tuple[str, ...], spec: ModelSpec) -> tuple[tuple[str, ...], ModelSpec]:
    """Split the heads of a network in place.

    Args:
        network: The network.
        names: Of its outputs, in order.
        spec: Says which output is which head.

    Returns:
        The new names and the spec that fits them; what was given where there is nothing to split.
    """
    if spec.decoder.name != "yolo_anchors" or spec.decoder.params.get("new_coords"):
        return names, spec
    makers = {op.outputs[0]: op for op in network.ops}
    roles = dict(spec.decoder.outputs)
    result = list(names)
    for role, name in spec.decoder.outputs.items():
        tensor = network.outputs[result.index(name)]
        maker = makers.get(tensor)
        if maker is None or maker.kind != "CONV_2D" or maker.activation != "NONE":
            continue
        anchors = len(spec.decoder.params["anchors"][int(role.rpartition("_")[2])])
        channels = np.arange(network.shape(tensor)[-1]).reshape(anchors, -1)
        places = _VALUES | {"cls": tuple(range(5, channels.shape[1]))}
        parts = {f"{role}_{part}": channels[:, chosen].ravel() for part, chosen in places.items()}
        network.split_output(tensor, list(parts.values()), list(parts))
        position = result.index(name)
        result[position : position + 1] = list(parts)
        del roles[role]
        roles |= {part: part for part in parts}
    decoder = spec.decoder.model_copy(update={"outputs": roles})
    return tuple(result), spec.model_copy(update={"decoder": decoder})
