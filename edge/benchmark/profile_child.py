"""The process that times operators through LiteRT's C interface; see `edge.benchmark.profile`.

Declarations: litert/c/litert_{environment,model,options,opaque_options,compiled_model,tensor_buffer,profiler}.h and
litert_profiler_event.h of LiteRT 2.x.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Iterable
from typing import Any, NoReturn

from edge.benchmark.profile import library_path

_CPU = 1
_WARM_UP = 5
_OPERATOR, _DELEGATE_OPERATOR, _DELEGATE_PROFILED = 2, 4, 8
_TYPE_BYTES = 512
"""More than a LiteRtRankedTensorType, which only the library itself reads."""

_Handle = ctypes.c_void_p
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Event(ctypes.Structure):
    """ProfiledEventData."""

    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("node", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


class _LiteRt:
    """The library; every call is checked."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)

    def call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name, None)
        if function is None:
            _give_up(f"this LiteRT has no profiler (no {name})")
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status:
            _give_up(f"this LiteRT cannot profile the model ({name} answers {status})")

    def make(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        handle = _Handle()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle


def _give_up(reason: str) -> NoReturn:
    print(f"edge: {reason}", file=sys.stderr, flush=True)
    os._exit(1)


def main() -> None:
    """Time the operators of one model and print them."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    job: dict[str, Any] = json.loads(sys.argv[2])
    path = library_path()
    if path is None:
        _give_up("this runtime has no profiler: it comes with LiteRT 2 (pip install -U ai-edge-litert)")
    lite = _LiteRt(path)
    environment = lite.make("LiteRtCreateEnvironment", 0, (_Handle * 1)())
    model = lite.make("LiteRtCreateModelFromFile", environment, os.fsencode(job["path"]))
    options = lite.make("LiteRtCreateOptions")
    lite.call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
    kept: list[Any] = [deleter := _Deleter(lambda pointer: None)]
    for name, text in (
        (b"runtime_options_string", b"enable_profiling = true\n"),
        (b"xnnpack", b"num_threads = %d\n" % job["threads"]),
    ):
        kept.append(content := ctypes.create_string_buffer(text))
        opaque = lite.make("LiteRtCreateOpaqueOptions", name, ctypes.cast(content, _Handle), deleter)
        lite.call("LiteRtAddOpaqueOptions", options, opaque)
    compiled = lite.make("LiteRtCreateCompiledModel", environment, model, options)
    profiler = lite.make("LiteRtCompiledModelGetProfiler", compiled)
    if not profiler.value:
        _give_up("this LiteRT gives no profiler for the model")
    signature = lite.make("LiteRtGetModelSignature", model, ctypes.c_size_t(0))
    inputs, outputs = (_buffers(lite, environment, signature, compiled, kind) for kind in ("Input", "Output"))

    def run() -> float:
        start = time.perf_counter()
        lite.call(
            "LiteRtRunCompiledModel",
            compiled,
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(inputs)),
            inputs,
            ctypes.c_size_t(len(outputs)),
            outputs,
        )
        return (time.perf_counter() - start) * 1e3

    for _ in range(_WARM_UP):
        run()
    events, invoke_ms = [], []
    for _ in range(job["runs"]):
        lite.call("LiteRtResetProfiler", profiler)
        lite.call("LiteRtStartProfiler", profiler)
        invoke_ms.append(run())
        lite.call("LiteRtStopProfiler", profiler)
        events.append(_events(lite, profiler))
    print(json.dumps({"events": events, "invoke_ms": invoke_ms}), flush=True)
    os._exit(0)


def _buffers(lite: _LiteRt, environment: Any, signature: Any, compiled: Any, kind: str) -> Any:
    count = ctypes.c_size_t()
    lite.call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
    buffers = (_Handle * count.value)()
    for i in range(count.value):
        index = ctypes.c_size_t(i)
        tensor = lite.make(f"LiteRtGetSignature{kind}TensorByIndex", signature, index)
        kind_of_tensor = ctypes.create_string_buffer(_TYPE_BYTES)
        lite.call("LiteRtGetRankedTensorType", tensor, kind_of_tensor)
        wanted = lite.make(f"LiteRtGetCompiledModel{kind}BufferRequirements", compiled, ctypes.c_size_t(0), index)
        buffers[i] = lite.make("LiteRtCreateManagedTensorBufferFromRequirements", environment, kind_of_tensor, wanted)
    return buffers


def _events(lite: _LiteRt, profiler: Any) -> list[tuple[str, int, float]]:
    count = ctypes.c_int()
    lite.call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
    if not count.value:
        return []
    events = (_Event * count.value)()
    lite.call("LiteRtGetProfilerEvents", profiler, count, events)
    return operators(events)


def operators(events: Iterable[Any]) -> list[tuple[str, int, float]]:
    """Return name, node and milliseconds of the operators among a profiler's events."""
    events = list(events)
    inside = any(event.kind == _DELEGATE_PROFILED for event in events)
    found = []
    for event in events:
        name = (event.tag or b"").decode(errors="replace")
        # A delegate that times its own operators is listed as one operator too: not twice.
        delegate = "delegate" in name.lower()
        if event.kind == _DELEGATE_PROFILED or (event.kind == _OPERATOR and not (inside and delegate)):
            found.append((name, int(event.node), event.elapsed_us / 1e3))
        elif event.kind == _DELEGATE_OPERATOR and not inside:
            found.append((name, int(event.node), event.elapsed_us / 1e3))
    return found
