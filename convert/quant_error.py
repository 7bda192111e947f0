"""Where quantisation costs what: the signal-to-noise ratio of every tensor, float model against quantised model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

_CLEAN_DB = 45.0
"""What 8 bits give at best: an operator whose inputs are cleaner is judged as if they were this clean."""
_PICTURES = 16
"""Pictures that are measured; the ratios of a tensor differ little between pictures."""


@dataclass(frozen=True)
class TensorError:
    """What quantisation did to one tensor.

    Attributes:
        name: Of the tensor, as the float model calls it.
        op: Kind of the operator that computes it.
        sqnr_db: Ten times the decadic logarithm of mean square signal over mean square error, all errors before it
            included. 40 is clean, below 20 shows, at 0 the noise is as strong as the signal.
        lost_db: How much worse that is than the worst of the operator's own inputs, between 0 and 45: what was lost
            here. Negative where an operator averages noise away.
    """

    name: str
    op: str
    sqnr_db: float
    lost_db: float


class _Sums:
    """Sums of squares of one tensor, and where it comes from."""

    def __init__(self, op: str, inputs: tuple[str, ...]) -> None:
        self.op, self.inputs = op, inputs
        self.signal = self.error = 0.0

    @property
    def sqnr_db(self) -> float:
        """The ratio so far."""
        if self.error == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.error) if self.signal > 0 else -math.inf


def tensor_errors(
    float_model: bytes, quantized: bytes, samples: Iterable[npt.NDArray[np.float32]]
) -> list[TensorError]:
    """Compare every tensor that two forms of one model share, found by its name.

    Args:
        float_model: A float32 `.tflite` with one input.
        quantized: The same model quantised, with any type of input.
        samples: Inputs, float32 (1, H, W, C); the first 16 are used.

    Returns:
        The tensors, the one at which most was lost first; a tensor that is equal in both has an infinite ratio.

    Raises:
        ValueError: There are no samples: a bug in the caller.
    """
    reference, other = _Model(float_model), _Model(quantized)
    names = [name for name in reference.tensors if name in other.tensors]
    sums = {name: _Sums(*reference.origin(name)) for name in names}
    count = 0
    for sample in islice(samples, _PICTURES):
        count += 1
        reference.run(sample)
        other.run(sample)
        for name, total in sums.items():
            expected, found = reference.value(name), other.value(name)
            if expected.shape == found.shape:
                total.signal += float(np.square(expected).mean())
                total.error += float(np.square(expected - found).mean())
    if not count:
        raise ValueError("expected samples to compare the models on")
    errors = [_judged(name, sums) for name in names]
    return sorted(errors, key=lambda error: (-error.lost_db, error.sqnr_db))


def _judged(name: str, sums: dict[str, _Sums]) -> TensorError:
    total = sums[name]
    before = min((sums[source].sqnr_db for source in total.inputs if source in sums), default=math.inf)
    # A tensor that is all zeros in one model has a ratio of minus infinity, one that is equal in both of plus infinity.
    lost = float(np.clip(min(before, _CLEAN_DB), 0, None) - np.clip(total.sqnr_db, 0, _CLEAN_DB))
    return TensorError(name, total.op, total.sqnr_db, lost)


class _Model:
    """A model whose intermediate tensors can be read, for which it must run without a delegate.

    Attributes:
        tensors: Name -> details of each tensor that an operator computes.
    """

    def __init__(self, content: bytes) -> None:
        self._interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
            num_threads=2,
        )
        self._interpreter.allocate_tensors()
        self._ops = self._interpreter._get_ops_details()
        self._details: dict[int, dict[str, Any]] = {d["index"]: d for d in self._interpreter.get_tensor_details()}
        self._maker = {int(output): op for op in self._ops for output in op["outputs"]}
        self.tensors = {self._details[i]["name"]: self._details[i] for i in self._maker if i in self._details}

    def origin(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Return the kind of the operator that computes a tensor, and the names of what it reads."""
        op = self._maker[self.tensors[name]["index"]]
        return op["op_name"], tuple(self._details[int(i)]["name"] for i in op["inputs"] if int(i) in self._details)

    def run(self, sample: npt.NDArray[np.float32]) -> None:
        """Compute all tensors."""
        (image,) = self._interpreter.get_input_details()
        scale, zero_point = image["quantization"]
        if scale:
            limits = np.iinfo(image["dtype"])
            sample = np.clip(np.round(sample / scale) + zero_point, limits.min, limits.max)
        self._interpreter.set_tensor(image["index"], sample.astype(image["dtype"]))
        self._interpreter.invoke()

    def value(self, name: str) -> npt.NDArray[np.float32]:
        """Return the real values of a tensor."""
        detail = self.tensors[name]
        values = self._interpreter.get_tensor(detail["index"])
        scale, zero_point = detail["quantization"]
        if not scale:
            return np.asarray(values, np.float32)
        real: npt.NDArray[np.float32] = (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
        return real
