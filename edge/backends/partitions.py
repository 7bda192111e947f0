"""How the runtime cuts a model's graph between its CPU delegate and the rest, and what its tensors need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge.backends.litert import quiet_stderr
from edge.backends.runtime import runtime
from edge.errors import BackendError


class Partitions(NamedTuple):
    """Counts of a prepared graph.

    Attributes:
        operators: Operators in the file.
        delegated: Operators that XNNPACK runs.
        partitions: Pieces that those lie in; each border costs a hand-over, so 1 is best.
        arena_bytes: Of all activations that are alive at one operator, where they are most: the least that an arena
            for them can have. What kernels need for themselves comes on top.
    """

    operators: int
    delegated: int
    partitions: int
    arena_bytes: int

    def __str__(self) -> str:
        """Say it in words."""
        plural = "s" * (self.partitions != 1)
        return f"{self.delegated} of {self.operators} operators in {self.partitions} XNNPACK partition{plural}"


def partitions(path: Path) -> Partitions:
    """Load a model as the CPU runs it and count.

    Args:
        path: A `.tflite` file; its main graph is counted.

    Raises:
        BackendError: The runtime cannot load it.
    """
    with quiet_stderr():
        try:
            interpreter = runtime().interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"{path}: {' '.join(str(error).split())}") from error
    # The runtime lists the original operators and, behind them, one DELEGATE node for each partition. Which
    # operators a partition replaced follows from its borders: walk from its outputs up to its inputs.
    nodes = interpreter._get_ops_details()
    originals = [node for node in nodes if node["op_name"] != "DELEGATE"]
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    maker = {int(tensor): node for node in originals for tensor in node["outputs"]}
    replaced: set[int] = set()
    for delegate in delegates:
        border = {int(tensor) for tensor in delegate["inputs"]}
        open_ends = [int(tensor) for tensor in delegate["outputs"]]
        while open_ends:
            node = maker.get(open_ends.pop())
            if node is None or node["index"] in replaced:
                continue
            replaced.add(node["index"])
            open_ends += [int(tensor) for tensor in node["inputs"] if int(tensor) not in border]
    return Partitions(len(originals), len(replaced), len(delegates), _arena_bytes(interpreter, originals))


def _arena_bytes(interpreter: Any, nodes: Sequence[Any]) -> int:
    """Return the most bytes of activations that are alive at the same time, one operator running after another."""
    inputs = {int(tensor["index"]) for tensor in interpreter.get_input_details()}
    outputs = {int(tensor["index"]) for tensor in interpreter.get_output_details()}
    born = dict.fromkeys(inputs, 0)
    last = dict.fromkeys(inputs, 0)
    for i, node in enumerate(nodes):
        # What nothing has made is a constant of the file, and so is what is made of constants alone.
        read = [tensor for tensor in map(int, node["inputs"]) if tensor in born]
        made = [int(tensor) for tensor in node["outputs"]] if read else []
        born |= dict.fromkeys(made, i)
        last |= dict.fromkeys(read + made, i)
    last |= dict.fromkeys(outputs & born.keys(), len(nodes) - 1)
    alive = np.zeros(len(nodes) + 1, np.int64)
    for tensor in interpreter.get_tensor_details():
        index = int(tensor["index"])
        if index in born:
            size = int(np.prod(tensor["shape"], dtype=np.int64)) * np.dtype(tensor["dtype"]).itemsize
            alive[born[index]] += size
            alive[last[index] + 1] -= size
    return int(np.cumsum(alive).max())
