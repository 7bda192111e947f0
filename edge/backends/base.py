"""The contract between the pipeline and a runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy.typing as npt

from edge.tensor import TensorInfo


class Backend(Protocol):
    """A loaded model.

    Attributes:
        input: The image input, shape (1, H, W, C) or (1, C, H, W).
        outputs: Every output.
        description: What runs it, for humans: "LiteRT 2.3.0, CPU, 2 threads".
        failure: Why the CPU runs it and not the accelerator that was asked for; None where it runs as asked.
    """

    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    description: str
    failure: str | None

    def infer(self, fill: Callable[[npt.NDArray[Any]], None]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once.

        Args:
            fill: Writes the input into the array that it is given: the runtime's own memory, of `input`'s
                shape and dtype. It must not keep the array.

        Returns:
            Tensor name -> output, views that are valid until the next call. Drop them before it: a view that
            is still alive makes the runtime refuse to run.

        Raises:
            BackendError: The runtime failed.
        """
        ...

    def resize(self, shape: tuple[int, ...]) -> None:
        """Give the input another size: its free dimensions, or a batch of several pictures.

        `input` and `outputs` then have the shapes that follow. A graph that fixes the batch somewhere is refused, or
        its outputs do not grow with the batch: compare their shapes.

        Raises:
            BackendError: The model cannot be prepared at that size; `resize` it to another before it runs again.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...
