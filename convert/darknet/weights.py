"""The `.weights` file: a header and then float32 numbers, section after section."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convert.darknet.cfg import Section
from edge.errors import InputError

BATCH_NORM_EPSILON = 1e-6
"""Added to the variance before the square root.

Darknet itself does not agree with itself: its CPU code divides by `sqrt(variance) + 1e-6`, its CUDA code and the
AlexeyAB fork by `sqrt(variance + 1e-5)`. OpenCV's reader, the one that can still be run and compared everywhere, uses
`sqrt(variance + 1e-6)`, which is also within rounding of the CPU code for every variance above 1e-4.
"""

Array = npt.NDArray[np.float32]


@dataclass
class WeightsReader:
    """Hands out the numbers of a `.weights` file in order.

    Attributes:
        path: The file.
        transposed: Whether connected layers are stored input-major (very old files).
        floats: float32 (n,), everything behind the header.
        needed: Numbers asked for so far, whether or not the file has them.
    """

    path: Path
    transposed: bool
    floats: Array
    needed: int = 0
    _short: Section | None = None
    _problem: InputError | None = None

    @classmethod
    def open(cls, path: Path) -> WeightsReader:
        """Read a file.

        The header is three int32 (major, minor, revision) and the number of pictures seen in training, 64 bits wide
        from version 0.2 on and 32 bits before.

        Raises:
            InputError: The file cannot be read, has no header, or ends within a number.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        if len(data) < 16:
            raise InputError(f"{path}: {len(data)} bytes, expected a Darknet .weights file with a header of 16 or 20")
        major, minor, revision = (int(value) for value in np.frombuffer(data, "<i4", 3))
        if min(major, minor, revision) < 0 or max(major % 1000, minor % 1000, revision) > 100:
            raise InputError(f"{path}: version {major}.{minor}.{revision} in the header; this is no Darknet .weights")
        header = 20 if major * 10 + minor >= 2 else 16
        if len(data) < header or (len(data) - header) % 4:
            raise InputError(
                f"{path}: {len(data)} bytes; expected {header} and then whole 4-byte numbers: the file is cut or broken"
            )
        return cls(path, major > 1000 or minor > 1000, np.frombuffer(data, "<f4", offset=header))

    def take(self, section: Section, shape: tuple[int, ...]) -> Array:
        """Return the next numbers.

        A file that is too short yields zeros here, so that `finish` can say how many numbers the whole network needs.

        Args:
            section: The section that they belong to, for messages.
            shape: Shape of the result.

        Returns:
            float32 array.
        """
        start, count = self.needed, int(np.prod(shape))
        self.needed += count
        if self.needed > len(self.floats):
            self._short = self._short or section
            return np.zeros(shape, np.float32)
        values = self.floats[start : self.needed].astype(np.float32)
        if not np.isfinite(values).all():
            self._note(section.error(f"{self.path} holds numbers here that are not finite"))
            return np.zeros(shape, np.float32)
        return values.reshape(shape)

    def convolution(self, section: Section, shape: tuple[int, ...], normalized: bool) -> tuple[Array, Array]:
        """Return the kernel and the bias of a convolution, batch normalisation folded in.

        Stored order: bias, then (when normalised) scale, mean, variance, then the kernel.

        Args:
            section: The section.
            shape: Kernel (filters, channels / groups, height, width).
            normalized: Whether the layer has batch normalisation.

        Returns:
            Kernel of `shape` and bias (filters,).
        """
        filters = shape[0]
        bias = self.take(section, (filters,))
        norm = self.take(section, (3, filters)) if normalized else None
        return self._fold(section, self.take(section, shape), bias, norm)

    def connected(self, section: Section, outputs: int, inputs: int, normalized: bool) -> tuple[Array, Array]:
        """Return the matrix (outputs, inputs) and the bias of a connected layer, batch normalisation folded in.

        Stored order: bias, matrix, then (when normalised) scale, mean, variance.
        """
        bias = self.take(section, (outputs,))
        if self.transposed:
            matrix = np.ascontiguousarray(self.take(section, (inputs, outputs)).T)
        else:
            matrix = self.take(section, (outputs, inputs))
        norm = self.take(section, (3, outputs)) if normalized else None
        return self._fold(section, matrix, bias, norm)

    def finish(self) -> None:
        """Check that the file held exactly what the network needs.

        Raises:
            InputError: It is too short (naming the layer where it ran out) or too long, or what was read from it can
                be no parameters of this network.
        """
        if self._short:
            found = f"{self.path}: expected {self.needed:,} numbers, found {len(self.floats):,}"
            raise self._short.error(f"the weights run out here ({found}); are these the weights of this .cfg?")
        if self.needed != len(self.floats):
            raise InputError(
                f"{self.path}: expected {self.needed:,} numbers, found {len(self.floats):,}: "
                f"{len(self.floats) - self.needed:,} left over; are these the weights of this .cfg?"
            )
        if self._problem is not None:
            raise self._problem

    def _note(self, problem: InputError) -> None:
        """Remember the first problem: a file of the wrong length explains it better, and is known at the end."""
        self._problem = self._problem or problem

    def _fold(self, section: Section, kernel: Array, bias: Array, norm: Array | None) -> tuple[Array, Array]:
        """Fold batch normalisation into kernel (outputs first) and bias, in double precision."""
        if norm is None:
            return kernel, bias
        gamma, mean, variance = norm.astype(np.float64)
        if (variance < 0).any():
            self._note(section.error(f"{self.path} holds a negative variance; are these the weights of this .cfg?"))
        factor = gamma / np.sqrt(np.maximum(variance, 0) + BATCH_NORM_EPSILON)
        with np.errstate(over="ignore"):
            folded = (kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))).astype(np.float32)
            moved = (bias - mean * factor).astype(np.float32)
        if not (np.isfinite(folded).all() and np.isfinite(moved).all()):
            self._note(section.error(f"{self.path} holds a normalisation here that makes weights infinite"))
        return folded, moved
