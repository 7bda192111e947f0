"""What the activations of a network do on calibration pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from convert.rescue.network import Float32, Network

_VALUES = 4096
"""Values that are kept of a tensor and a picture: random places of the map, all channels of them."""
_MAX_VALUES = 200_000
"""Values that are kept of a tensor; beyond, ranges hardly move and memory does."""


@dataclass(frozen=True)
class Activation:
    """One tensor on the calibration pictures; C is its last side.

    Attributes:
        low: float32 (C,), smallest value of each channel.
        high: float32 (C,), largest.
        mean: float32 (C,).
        sample: float32 (n, C), values at random places.
    """

    low: Float32
    high: Float32
    mean: Float32
    sample: Float32

    def divided(self, factors: Float32) -> Activation:
        """Return what the tensor does once channel c is divided by `factors[c]`, which is positive."""
        return Activation(self.low / factors, self.high / factors, self.mean / factors, self.sample / factors)


def measure(network: Network, samples: Iterable[Float32], seed: int = 0) -> dict[int, Activation]:
    """Run a float network on calibration pictures.

    Args:
        network: The network.
        samples: Inputs, each float32 (1, H, W, C).
        seed: Of the places that are kept.

    Returns:
        Each activation, by tensor.
    """
    random = np.random.default_rng(seed)
    interpreter = every_tensor(network.pack())
    (image,) = interpreter.get_input_details()
    tensors = network.activations()
    lows: dict[int, Any] = {}
    highs: dict[int, Any] = {}
    sums: dict[int, Any] = {}
    rows: dict[int, list[Float32]] = {tensor: [] for tensor in tensors}
    count = 0
    for sample in samples:
        interpreter.set_tensor(image["index"], sample)
        interpreter.invoke()
        count += 1
        for tensor in tensors:
            values = interpreter.get_tensor(tensor)
            flat = values.reshape(-1, values.shape[-1] if values.ndim else 1)
            low, high, mean = flat.min(axis=0), flat.max(axis=0), flat.mean(axis=0)
            lows[tensor] = np.minimum(lows.get(tensor, low), low)
            highs[tensor] = np.maximum(highs.get(tensor, high), high)
            sums[tensor] = sums.get(tensor, 0) + mean
            places = min(len(flat), max(1, _VALUES // flat.shape[1]))
            rows[tensor].append(flat[random.integers(len(flat), size=places)])
    return {
        tensor: Activation(lows[tensor], highs[tensor], sums[tensor] / count, _some(np.concatenate(rows[tensor])))
        for tensor in tensors
    }


def every_tensor(content: bytes) -> Interpreter:
    """Return an interpreter that keeps every intermediate tensor readable, for which it must run without a delegate."""
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
        num_threads=2,
    )
    interpreter.allocate_tensors()
    return interpreter


def _some(rows: Float32) -> Float32:
    return rows[:: -(-rows.size // _MAX_VALUES)]
