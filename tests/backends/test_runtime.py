"""Which runtime is taken, and what is said when none works."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import pytest

from edge.backends import runtime as module
from edge.errors import MissingDependencyError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    module.runtime.cache_clear()
    yield
    module.runtime.cache_clear()


def block(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, f"{name}.interpreter", None)


def fake_runtime(monkeypatch: pytest.MonkeyPatch, interpreter: object) -> None:
    package = types.ModuleType("tflite_runtime")
    sub = types.ModuleType("tflite_runtime.interpreter")
    sub.Interpreter = interpreter  # type: ignore[attr-defined]
    sub.load_delegate = None  # type: ignore[attr-defined]
    package.interpreter = sub  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tflite_runtime", package)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", sub)
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "2.14.0")


def test_litert_comes_first() -> None:
    assert module.runtime().label.startswith("LiteRT ")


def test_falls_back_to_tflite_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert.interpreter import Interpreter

    fake_runtime(monkeypatch, Interpreter)
    block(monkeypatch, "ai_edge_litert")
    assert module.runtime().label == "tflite-runtime 2.14.0"


def test_a_runtime_that_imports_but_cannot_run_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise SystemError("initialization of _pywrap_tensorflow_interpreter_wrapper raised unreported exception")

    fake_runtime(monkeypatch, broken)
    block(monkeypatch, "ai_edge_litert")
    with pytest.raises(MissingDependencyError) as caught:
        module.runtime()
    text = str(caught.value)
    assert "tflite-runtime: initialization of" in text and "pip install ai-edge-litert" in text and "\n" not in text


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert", "tflite_runtime"):
        block(monkeypatch, name)
    with pytest.raises(MissingDependencyError, match="no TFLite runtime works here"):
        module.runtime()
