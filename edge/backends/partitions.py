"""How the runtime cuts a model's graph between its CPU delegate and the rest."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge.backends.litert import quiet_stderr
from edge.backends.runtime import runtime
from edge.errors import BackendError


class Partitions(NamedTuple):
    """Counts of a prepared graph.

    Attributes:
        operators: Operators in the file.
        delegated: Operators that XNNPACK runs.
        partitions: Pieces that those lie in; each border costs a hand-over, so 1 is best.
    """

    operators: int
    delegated: int
    partitions: int

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
    return Partitions(len(originals), len(replaced), len(delegates))
