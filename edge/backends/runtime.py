"""Which TFLite runtime this machine has: LiteRT, or its predecessor tflite-runtime."""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import logging
import zlib
from functools import cache
from typing import Any, NamedTuple

from edge.errors import MissingDependencyError

log = logging.getLogger(__name__)

# A model of one ABS operator on one float. A runtime that imports may still be unable to build an interpreter
# (tflite-runtime 2.14 under NumPy 2 raises SystemError), so it is asked to run something.
_PROBE = zlib.decompress(
    base64.b64decode(
        "eNqTYGBgCHHzMWZg4GMQYRBg4GHgAIqwAHkMQB4DgwwQXwBiZiBmBGKILAhC+CA1PHCdLEASImYDxA5A7IKkjoGBCywPUscFNYsHKg/D"
        "DFj4TEBsALaXgeHJ////kfVVIqnlgbqeAeoOZHUVaOYKQNVzI6lPhViXCgCwgwqe"
    )
)

_CANDIDATES = (("ai_edge_litert", "ai-edge-litert", "LiteRT"), ("tflite_runtime", "tflite-runtime", "tflite-runtime"))


class Runtime(NamedTuple):
    """A runtime that works here.

    Attributes:
        label: Name and version for humans.
        interpreter: Its Interpreter class.
        load_delegate: Its loader of external delegates.
    """

    label: str
    interpreter: Any
    load_delegate: Any


@cache
def runtime() -> Runtime:
    """Return the first runtime that runs a model.

    Raises:
        MissingDependencyError: None does; the message holds what each one said.
    """
    said = []
    for package, distribution, label in _CANDIDATES:
        try:
            module = importlib.import_module(f"{package}.interpreter")
            probe = module.Interpreter(model_content=_PROBE)
            probe.allocate_tensors()
            probe.invoke()
        except ModuleNotFoundError as error:
            said.append(f"{distribution} is not installed" if error.name == package else f"{distribution}: {error}")
        except (ImportError, SystemError, RuntimeError, ValueError, AttributeError, OSError) as error:
            said.append(f"{distribution}: {' '.join(str(error).split()) or type(error).__name__}")
        else:
            log.debug("runtime %s; passed over: %s", distribution, said)
            return Runtime(
                f"{label} {importlib.metadata.version(distribution)}", module.Interpreter, module.load_delegate
            )
    raise MissingDependencyError(
        f"no TFLite runtime works here ({'; '.join(said)}); install one with: pip install ai-edge-litert"
    )
