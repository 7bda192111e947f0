"""The TFLite interpreter as a backend (LiteRT, or tflite-runtime where that is all there is)."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.backends import delegates
from edge.backends.runtime import runtime
from edge.errors import BackendError, DelegateError, InputError, ModelFileError
from edge.spec.graph import check_model
from edge.tensor import TensorInfo

log = logging.getLogger(__name__)


MOST_THREADS = 4
"""Small networks gain nothing beyond."""


def default_threads() -> int:
    """Return the CPUs that this process may use, `MOST_THREADS` at most."""
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


class LiteRTBackend:
    """One model in one interpreter; used by one thread at a time. See `edge.backends.base.Backend`."""

    failure: str | None = None

    def __init__(self, path: Path, threads: int | None = None, delegate: str = "cpu") -> None:
        """Load a model.

        Args:
            path: A `.tflite` file.
            threads: CPU threads; None for `default_threads()`.
            delegate: See `edge.backends.delegates.load`.

        Raises:
            ModelFileError: The file is missing, empty or no TFLite model, or no picture goes in.
            BackendError: The runtime lacks an operator of the model, or fails to prepare it.
            DelegateError: The delegate cannot be loaded, or refuses the model.
            InputError: `threads` or `delegate` is no such value.
        """
        if threads is not None and threads < 1:
            raise InputError(f"--threads {threads}: expected 1 or more")
        check_file(path)
        self._path = path
        self._threads = threads or default_threads()
        chosen = delegates.load(delegate)
        with quiet_stderr():
            self._interpreter = self._build(chosen)
            self._allocate()
        self._describe_tensors()
        self._on = "" if chosen.handle is None else f" on {chosen.label}"
        self.description = f"{runtime().label}, {chosen.label}, {self._threads} thread{'s' * (self._threads > 1)}"

    def _build(self, chosen: delegates.Delegate) -> Any:
        handles = [chosen.handle] if chosen.handle is not None else None
        try:
            return runtime().interpreter(
                model_path=str(self._path), num_threads=self._threads, experimental_delegates=handles
            )
        except ValueError as error:
            raise ModelFileError(f"{self._path}: not a TFLite model ({one_line(error)})") from error
        except RuntimeError as error:
            if handles:
                raise DelegateError(f"delegate {chosen.label} refused {self._path}: {one_line(error)}") from error
            raise BackendError(f"{self._path}: the runtime cannot load it ({one_line(error)})") from error

    def _allocate(self) -> None:
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            raise BackendError(_explain(self._path, str(error))) from error
        except MemoryError as error:
            raise BackendError(
                f"{self._path}: the model needs more memory than there is ({one_line(error)})"
            ) from error
        except (ValueError, IndexError) as error:
            raise ModelFileError(f"{self._path}: broken model ({one_line(error)})") from error

    def _describe_tensors(self, resized: bool = False) -> None:
        self.input, self.outputs = describe(self._path, self._interpreter, resized)
        self._input_index = int(self._interpreter.get_input_details()[0]["index"])
        self._input = self._interpreter.tensor(self._input_index)
        details = self._interpreter.get_output_details()
        self._outputs = {str(d["name"]): self._interpreter.tensor(d["index"]) for d in details}
        self._fixed = [(info.name, info.shape) for info in self.outputs if info.shape and min(info.shape) > 0]

    def resize(self, shape: tuple[int, ...]) -> None:
        """Give the input another size; see `Backend.resize`."""
        with quiet_stderr():
            try:
                self._interpreter.resize_tensor_input(self._input_index, shape)
            except (RuntimeError, ValueError) as error:
                raise BackendError(f"{self._path}: cannot take an input of {shape} ({one_line(error)})") from error
            self._allocate()
        self._describe_tensors(resized=True)

    def infer(self, fill: Callable[[npt.NDArray[Any]], None]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once; see `Backend.infer`."""
        try:
            tensor = self._input()
        except ValueError as error:
            raise BackendError(f"{self._path}: its input has no memory ({one_line(error)})") from error
        fill(tensor)
        del tensor  # the runtime refuses to run while it is looked at
        try:
            self._interpreter.invoke()
            found = {name: view() for name, view in self._outputs.items()}
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"{self._path}: inference failed{self._on} ({one_line(error)})") from error
        for name, shape in self._fixed:
            if found[name].shape != shape:
                raise BackendError(f"{self._path}: output {name} has shape {found[name].shape}, the file says {shape}")
        return found

    def close(self) -> None:
        """Free the interpreter and the model's memory."""
        del self._input, self._outputs, self._interpreter


def describe(path: Path, interpreter: Any, resized: bool = False) -> tuple[TensorInfo, tuple[TensorInfo, ...]]:
    """Return the input and the outputs of a model.

    Args:
        path: Its file, for messages.
        interpreter: It; tensors need no memory yet.
        resized: Whether the input was given another size than the file's.

    Raises:
        ModelFileError: The input is no picture, or two outputs have one name.
    """
    try:
        inputs, details = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, IndexError) as error:  # a name that is no text, a tensor that is not there
        raise ModelFileError(f"{path}: broken model ({one_line(error)})") from error
    if len(inputs) != 1:
        found = ", ".join(f"{d['name']} {list(map(int, d['shape']))}" for d in inputs) or "none"
        raise ModelFileError(f"{path}: expected one input, a picture; found {len(inputs)} ({found})")
    image = _info(inputs[0], resized)
    if len(image.shape) != 4:
        raise ModelFileError(
            f"{path}: expected a picture of shape (1, H, W, C) as input, found {image.name} with shape "
            f"{image.shape}; this is no image model"
        )
    if not resized and image.shape[0] not in (1, -1):
        raise ModelFileError(
            f"{path}: expected a batch of 1, found {image.shape[0]}; export the model again with batch 1"
        )
    outputs = tuple(_info(detail, resized) for detail in details)
    if image.shape[0] == -1:  # as Keras leaves it
        image, outputs = _one_picture(image), tuple(map(_one_picture, outputs))
    names = [info.name for info in outputs]
    if len(set(names)) != len(names):
        raise ModelFileError(f"{path}: two outputs have one name ({', '.join(names)}); name them apart")
    return image, outputs


def _info(detail: dict[str, Any], resized: bool) -> TensorInfo:
    # The signature keeps the free sizes (-1) of the file, also after they were given a size.
    signature = detail["shape"] if resized else detail.get("shape_signature")
    shape = detail["shape"] if signature is None or len(signature) != len(detail["shape"]) else signature
    parameters = detail["quantization_parameters"]
    scales = parameters["scales"]
    # Per-channel activations do not exist in TFLite: an input or output has one scale or none.
    scale, zero_point = (float(scales[0]), int(parameters["zero_points"][0])) if len(scales) else (0.0, 0)
    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in "iu":
        scale, zero_point = 0.0, 0
    return TensorInfo(str(detail["name"]), tuple(int(n) for n in shape), dtype, scale, zero_point)


def _one_picture(info: TensorInfo) -> TensorInfo:
    """Return the info with its first dimension, the batch, set to 1 where it is free."""
    shape = (1, *info.shape[1:]) if info.shape[:1] == (-1,) else info.shape
    return TensorInfo(info.name, shape, info.dtype, info.scale, info.zero_point)


def check_file(path: Path) -> None:
    """Check what a runtime would stumble over.

    Raises:
        ModelFileError: There is no such file, or it is empty, a folder, or cut short.
    """
    if not path.exists():
        raise ModelFileError(f"{path}: no such model file")
    if not path.is_file():
        raise ModelFileError(f"{path}: expected a .tflite file, found a directory or device")
    if not path.stat().st_size:
        raise ModelFileError(f"{path}: the model file is empty")
    check_model(path)


def _explain(path: Path, said: str) -> str:
    """Turn the runtime's complaint into a sentence that says what to do."""
    custom = re.search(r"unresolved custom op: (\S+?)\.?(\s|$)", said)
    if custom and custom[1] == "edgetpu-custom-op":
        return (
            f"{path}: compiled for the Edge TPU, which needs its delegate; pass --delegate edgetpu, or run the "
            "file that it was compiled from on the CPU"
        )
    flex = re.search(r"\bFlex\w+", said)
    if flex and ("Select TensorFlow op" in said or custom):
        return (
            f"{path}: needs the TensorFlow operator {flex[0]}, which a TFLite runtime does not have; convert the "
            "model with built-in operators only (no SELECT_TF_OPS)"
        )
    if custom:
        return f"{path}: needs the custom operator {custom[1]}, which this runtime does not have"
    return f"{path}: the runtime cannot prepare the model ({one_line(said)})"


def one_line(error: object) -> str:
    """Return a message of a runtime without its line breaks."""
    return " ".join(str(error).split())


@contextlib.contextmanager
def quiet_stderr(and_stdout: bool = False) -> Iterator[list[str]]:
    """Send what C++ writes to the process's stderr to the debug log: the runtime chats there while it loads.

    Args:
        and_stdout: Whether stdout is watched as well, where results go.

    Yields:
        The lines, once the context ends.
    """
    lines: list[str] = []
    sys.stderr.flush()
    if and_stdout:
        sys.stdout.flush()
    saved = {}
    for number in (1, 2) if and_stdout else (2,):
        with contextlib.suppress(OSError):  # a service may run with them closed
            saved[number] = os.dup(number)
    with tempfile.TemporaryFile() as said:
        for number in saved:
            os.dup2(said.fileno(), number)
        try:
            yield lines
        finally:
            if and_stdout:
                ctypes.CDLL(None).fflush(None)  # C's own buffer, which would be written later
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)
            said.seek(0)
            lines += said.read().decode(errors="replace").splitlines()
            for line in lines:
                log.debug("runtime: %s", line)
