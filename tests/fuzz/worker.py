"""A process of its own that reads damaged files, one at a time: whatever happens to it, the tests go on.

Started as a script. Each line of standard input is a JSON list of a target's name and a folder; each is answered by one
JSON line on the file descriptor that its argument names. A target's file or files lie in the folder.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from edge.errors import EdgeError

MAX_MEMORY_BYTES = 3 << 30
"""Of addresses, which is far more than what is used. TensorFlow takes more."""

MAX_FRAMES = 60

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What a message of one line has not."""


def model(folder: Path) -> None:
    """Load a model file as `edge detect` does, and run it once."""
    import numpy as np

    from edge.classifier import Classifier
    from edge.detector import Detector
    from edge.loader import load_model

    loaded = load_model(folder / "model.tflite", threads=1)
    try:
        image = np.full((48, 64, 3), 90, np.uint8)
        if loaded.spec.task == "classify":
            Classifier(loaded).classify(image)
        else:
            Detector(loaded).detect(image)
    finally:
        loaded.backend.close()


def labels(folder: Path) -> None:
    """Read a label file."""
    from edge.spec.labels import read_labels

    assert read_labels(folder / "labels.txt")


def source(folder: Path) -> None:
    """Read a picture or a video as a source, and each file as a picture."""
    from edge.sources import open_source

    (path,) = folder.iterdir()
    with open_source(str(path)) as frames:
        for frame in islice(frames, MAX_FRAMES):
            assert frame.image.ndim == 3 and frame.image.shape[2] == 3 and frame.image.size


def config(folder: Path) -> None:
    """Read an edge.toml."""
    from edge.config.load import load_config

    load_config(folder / "edge.toml")


def labelled(folder: Path) -> None:
    """Read labelled pictures, and the pictures."""
    from edge.labelled import default_split, open_labelled

    path = _data_set(folder)
    pictures = open_labelled(path, default_split(path))
    for index in range(min(4, len(pictures))):
        assert pictures.read(index).ndim == 3


def objects(folder: Path) -> None:
    """Read labelled objects, and the pictures."""
    from edge.labelled.objects import object_splits, open_objects

    for split in object_splits(folder):
        found = open_objects(folder, split)
        with found.reader() as read:
            for picture in found.dataset["images"][:4]:
                read(picture["file_name"])


def darknet(folder: Path) -> None:
    """Read a network's description and its numbers, and build it."""
    from convert.darknet.load import load_darknet

    load_darknet(folder / "net.cfg", folder / "net.weights")


def _crash(folder: Path) -> None:
    import ctypes

    ctypes.string_at(1)


def _hang(folder: Path) -> None:
    time.sleep(60)


def _traceback(folder: Path) -> None:
    assert 1 // 0


def _memory(folder: Path) -> None:
    assert b"x" * (300 << 20)


def _lines(folder: Path) -> None:
    class Untidy(EdgeError):
        def __str__(self) -> str:
            return "one\ntwo"

    raise Untidy


def _peak_kb() -> int:
    """Return the most memory that this process ever used, in kB.

    Not `ru_maxrss`, which begins with what the parent had: nothing would be noticed under a large test run.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


TARGETS: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (model, labels, source, config, labelled, objects, darknet, _crash, _hang, _traceback, _memory, _lines)
}


def _data_set(folder: Path) -> Path:
    files = list(folder.iterdir())
    return files[0] if len(files) == 1 and files[0].suffix == ".npz" else folder


def answer(name: str, folder: Path) -> dict[str, Any]:
    """Run a target; returns what came of it."""
    try:
        TARGETS[name](folder)
    except EdgeError as error:
        said = str(error)
        tidy = bool(said) and _STEERING.search(said) is None and len(said) <= 2000
        return {"outcome": "refused" if tidy else "untidy", "said": said[:4000]}
    except BaseException:  # this is what is looked for
        lines = (line[:300] for line in traceback.format_exc().splitlines()[-14:])
        return {"outcome": "traceback", "said": "\n".join(lines)}
    return {"outcome": "read", "said": ""}


def requests() -> Iterator[list[str]]:
    """Yield what is asked for."""
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("error")
    logging.disable()
    replies = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    for name, folder in requests():
        if name != "darknet":
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
        found = answer(name, Path(folder))
        found["peak_kb"] = _peak_kb()
        replies.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
