"""Architectures and training, for the workstation only.

`MODELS` maps a name to a ``"module:function"`` string, so that importing this package never loads TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

MODELS: dict[str, str] = {
    "edge-yolo-n": "models.edge_yolo:edge_yolo_n",
}


def build(name: str, **kwargs: Any) -> Any:
    """Build the Keras model registered under a name.

    Args:
        name: A key of `MODELS`.
        **kwargs: Passed on to the builder, for example ``num_classes`` and ``input_size``.

    Returns:
        The `keras.Model`.

    Raises:
        KeyError: No model has this name.
    """
    if name not in MODELS:
        raise KeyError(f"unknown model {name!r}; known models: {', '.join(sorted(MODELS))}")
    module, function = MODELS[name].split(":")
    return getattr(import_module(module), function)(**kwargs)
