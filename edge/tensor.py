"""TensorInfo: name, shape, dtype and quantisation of a model's input or output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model.

    Attributes:
        name: Tensor name as the runtime gives it.
        shape: Dimensions, batch included; () for a shape that is known only after the first inference.
        dtype: Element type.
        scale: Quantisation step, `real = scale * (q - zero_point)`; 0 for a tensor that is not quantised.
        zero_point: The integer that stands for 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0

    @property
    def quantized(self) -> bool:
        """Whether values are integers with a scale."""
        return self.scale > 0

    def dequantize(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 real values of the same shape (`values` itself when it is float32 already)."""
        if not self.quantized:
            return values if values.dtype == np.float32 else values.astype(np.float32)
        real = values.astype(np.float32)
        real -= np.float32(self.zero_point)
        real *= np.float32(self.scale)
        return real

    def threshold(self, real: float) -> float:
        """Return t in the tensor's own values, so that `value >= t` is `dequantize(value) >= real`.

        Lets a decoder compare raw integers and dequantise only the few that pass.
        """
        if not self.quantized:
            return real
        return math.ceil(round(real / self.scale + self.zero_point, 6))
