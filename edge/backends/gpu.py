"""A GPU as a backend: LiteRT's CompiledModel, which brings WebGPU on Vulkan in its own wheel."""

from __future__ import annotations

import atexit
import logging
import mmap
import os
import re
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.backends.litert import check_file, default_threads, describe, one_line, quiet_stderr
from edge.backends.runtime import runtime
from edge.errors import BackendError, DelegateError, InputError, ModelFileError
from edge.spec.archive import read_tail
from edge.spec.resolve import METADATA_NAME, parse_spec
from edge.tensor import TensorInfo

log = logging.getLogger(__name__)

_REFUSED = "not supported by GPU delegate"
_COUNT = re.compile(r"(\d+) operations will run on the GPU, and the remaining (\d+)")


class GpuBackend:
    """One model on the GPU; used by one thread at a time. See `edge.backends.base.Backend`."""

    failure: str | None = None

    def __init__(self, path: Path, threads: int | None = None, precision: str = "") -> None:
        """Load a model.

        Args:
            path: A `.tflite` file.
            threads: CPU threads, for operators that the GPU refuses; None for `default_threads()`.
            precision: "float32" to compute in 32-bit floats; "" for what the GPU is fastest in, often 16 bits, unless
                the file says that it needs 32.

        Raises:
            ModelFileError: The file is missing, empty or no TFLite model, or no picture goes in.
            DelegateError: There is no GPU that LiteRT can use, or it takes nothing of the model.
            BackendError: The GPU fails to run the model.
            InputError: `threads` or `precision` is no such value.
        """
        if precision not in ("", "float32"):
            raise InputError(f"--delegate gpu:{precision}: expected gpu or gpu:float32")
        if threads is not None and threads < 1:
            raise InputError(f"--threads {threads}: expected 1 or more")
        check_file(path)
        if not _may_make_code():
            raise DelegateError(
                "delegate gpu: a GPU's driver makes code while it runs, which MemoryDenyWriteExecute=yes forbids; "
                "edge service install writes a unit that allows it where a model asks for a GPU"
            )
        _hush_at_exit()
        full = precision == "float32" or _needs_float32(path)
        self._path = path
        self._held: dict[str, Any] = {}  # what belongs to the runtime
        with quiet_stderr(and_stdout=True) as said:
            self.input, self.outputs = _interface(path)
            problem = self._compile(threads or default_threads(), full)
        if problem is not None:
            raise DelegateError(_explain(path, problem, said))
        weakref.finalize(self, _let_go, self._held)
        self.description = f"{runtime().label}, {_where(path, said)}" + (", float32" if full else "")
        self._buffers()
        if self.input.dtype.kind in "iu":
            log.warning(
                "%s: an integer model, which the GPU computes in floating point: results differ from the CPU's; a "
                "float16 file suits it better",
                path,
            )

    def _compile(self, threads: int, full: bool) -> str | None:
        """Build the model; returns what went wrong, to be explained with what was said on stderr meanwhile."""
        try:
            from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, GpuOptions, Options
            from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        except ImportError as error:  # tflite-runtime, or a LiteRT before 2.3
            return str(error)
        options = Options(
            hardware_accelerators=HardwareAccelerator.GPU | HardwareAccelerator.CPU,
            cpu_options=CpuOptions(num_threads=threads),
            gpu_options=GpuOptions(enforce_f32=full),
        )
        try:
            self._held["model"] = CompiledModel.from_file(str(self._path), options=options)
        except (RuntimeError, ValueError) as error:
            # As text: the error holds on to the runtime's objects, which must go while nobody listens.
            return str(error)
        return None

    def _buffers(self) -> None:
        """Make the memory of the input and the outputs, and run once."""
        model = self._held["model"]
        # The signature has its own names, in the order of the buffers; the tensors' are among the details.
        details = model.get_output_tensor_details(next(iter(model.get_signature_list())))
        named = [details[name] for name in model.get_signature_by_index(0)["outputs"]]
        self._results = [(info["name"], tuple(info["shape"]), np.dtype(info["dtype"])) for info in named]
        self._array = np.zeros(self.input.shape, self.input.dtype)
        with quiet_stderr():
            self._held["inputs"] = model.create_input_buffers(0)
            self._held["outputs"] = model.create_output_buffers(0)
            self.infer(lambda _: None)  # compiles the shaders, and shows whether they run

    def infer(self, fill: Callable[[npt.NDArray[Any]], None]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once; see `Backend.infer`."""
        fill(self._array)
        inputs, outputs = self._held["inputs"], self._held["outputs"]
        try:
            inputs[0].write(self._array)
            self._held["model"].run_by_index(0, inputs, outputs)
            return {
                name: buffer.read(prod(shape), dtype).reshape(shape)
                for (name, shape, dtype), buffer in zip(self._results, outputs, strict=True)
            }
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"{self._path}: inference failed on the GPU ({one_line(error)})") from error

    def resize(self, shape: tuple[int, ...]) -> None:
        """Give the input another size; see `Backend.resize`."""
        with quiet_stderr():
            try:
                self._held["model"].resize_input_tensor(0, shape, strict=False)
                self.input, self.outputs = _interface(self._path, shape)
            except (RuntimeError, ValueError) as error:
                said = one_line(error)
                raise BackendError(f"{self._path}: cannot take an input of {shape} on the GPU ({said})") from error
        self._buffers()

    def close(self) -> None:
        """Free the model."""
        _let_go(self._held)


def _let_go(held: dict[str, Any]) -> None:
    with quiet_stderr():  # the runtime chats when it lets go of the GPU
        held.clear()


def _may_make_code() -> bool:
    """Return whether memory may be written and executed: a driver that finds out by itself ends the process."""
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except PermissionError:
        return False
    return True


@cache
def _hush_at_exit() -> None:
    """Close stderr behind Python's last word: the runtime says good-bye there, where nobody can stop it."""

    def hush() -> None:
        sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    atexit.register(hush)


def _needs_float32(path: Path) -> bool:
    """Return whether a file was kept in 32 bits for the GPU, as `edge convert` does where 16 bits overflow."""
    try:
        spec = parse_spec(read_tail(path).get(METADATA_NAME, b""), path)
    except ModelFileError:
        return False  # said where the description is used
    return spec.quantization == "float32" and spec.conversion is not None and spec.conversion.target == "gpu"


def _interface(path: Path, shape: tuple[int, ...] | None = None) -> tuple[TensorInfo, tuple[TensorInfo, ...]]:
    """Return the input and outputs; CompiledModel does not know their scales."""
    try:
        interpreter = runtime().interpreter(model_path=str(path), num_threads=1)
    except (ValueError, RuntimeError) as error:
        raise DelegateError(f"{path}: cannot be loaded ({one_line(error)})") from error
    if shape is not None:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
        interpreter.allocate_tensors()
    return describe(path, interpreter, resized=shape is not None)


def _where(path: Path, said: Sequence[str]) -> str:
    """Say how much of the model the GPU took, from what the runtime said: it answers no question about it reliably."""
    if not any(_REFUSED in line for line in said):
        return "GPU (WebGPU)"
    counts = next(filter(None, map(_COUNT.search, said)), None)
    refused = [
        line.partition(":")[0]
        for line in said[next(i for i, line in enumerate(said) if _REFUSED in line) + 1 :]
        if re.match(r"(CUSTOM )?\w+: ", line)
    ]
    if counts is None:
        raise DelegateError(
            f"delegate gpu: takes no operator of {path} (it refuses {', '.join(dict.fromkeys(refused)) or 'all'}); "
            "run it on the CPU"
        )
    return f"GPU (WebGPU) for {counts[1]} operators and CPU for {counts[2]}"


def _explain(path: Path, error: str, said: Sequence[str]) -> str:
    if any("No adapters found" in line for line in said):
        return (
            "delegate gpu: no GPU found that Vulkan offers; install its driver (vulkaninfo --summary lists what there "
            "is), or run on the CPU"
        )
    if "ai_edge_litert" in error:
        return "delegate gpu: needs LiteRT 2.3 or newer; install it with: pip install -U ai-edge-litert"
    reason = next((line for line in said if line.startswith("ERROR")), error)
    return f"delegate gpu: refused {path} ({one_line(reason)})"
