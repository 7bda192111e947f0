"""What the GPU takes of models of a few operators: `python gpu_operators.py FOLDER`, run where Vulkan has a device.

Writes JSON to stdout: file name -> operators that run on the GPU.
"""

import json
import re
import sys
from pathlib import Path

from edge.backends.gpu import GpuBackend
from edge.errors import DelegateError


def main(folder: str) -> None:
    """Load every model of a folder; nothing is said where all of it is taken."""
    taken: dict[str, int | None] = {}
    for path in sorted(Path(folder).glob("*.tflite")):
        try:
            backend = GpuBackend(path)
        except DelegateError as error:
            assert "takes no operator" in str(error), error
            taken[path.name] = 0
            continue
        count = re.search(r"for (\d+) operators", backend.description)
        taken[path.name] = int(count[1]) if count else None
        backend.close()
    print(json.dumps(taken))


if __name__ == "__main__":
    main(sys.argv[1])
