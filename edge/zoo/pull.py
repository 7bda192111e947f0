"""From a name in the table to one self-describing `.tflite` in the cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from edge.coco import CATEGORY_IDS
from edge.errors import InputError, ModelFileError, OutputError
from edge.loader import load_model
from edge.spec import Provenance
from edge.spec.archive import read_tail
from edge.spec.resolve import METADATA_NAME, Overrides, parse_spec
from edge.spec.seal import check_sha256, sealed
from edge.zoo.cache import model_path
from edge.zoo.download import fetch
from edge.zoo.table import MODELS, PublicModel, Remote


class Converter(Protocol):
    """Converts a Darknet model."""

    def __call__(self, name: str, row: PublicModel, cfg: Path, weights: Path, labels: Path, out: Path) -> None:
        """Write `out` in one step, licence and attribution included."""
        ...


def public_model(name: str) -> PublicModel:
    """Return a row of the table.

    Raises:
        InputError: There is none of that name.
    """
    if name not in MODELS:
        raise InputError(f"no public model is called {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


def is_pulled(name: str) -> bool:
    """Say whether the model lies in the cache, undamaged and made from the files that the table names."""
    path, row = model_path(name), public_model(name)
    if not path.is_file():
        return False
    try:
        check_sha256(path)
        spec = parse_spec(read_tail(path).get(METADATA_NAME, b""), path)
    except ModelFileError:
        return False
    return spec.provenance.source_sha256 == row.weights.sha256


def pull(
    name: str,
    convert: Converter,
    report: Callable[[Remote, int], None] = lambda file, done: None,
    waiting: Callable[[], None] = lambda: None,
) -> Path:
    """Fetch a model, make it describe itself, and put it into the cache; harmless when repeated.

    Args:
        name: A key of `MODELS`.
        convert: Called for a Darknet model.
        report: Called with a file and how many of its bytes are there.
        waiting: Called once where another process is pulling, which is waited for.

    Returns:
        The model's path.

    Raises:
        InputError: There is no such model.
        DownloadError: See `fetch`.
        OutputError: The cache cannot be written.
        EdgeError: The model does not run here.
    """
    row, path = public_model(name), model_path(name)
    downloads = path.parent / "downloads" / name
    _make(path.parent)
    with _alone(path.parent / ".lock", waiting):
        if is_pulled(name):
            return path
        _make(downloads)
        files = {file: fetch(file, downloads, _reporter(report, file)) for file in row.files}
        labels = files[row.labels] if row.labels is not None else None
        if row.cfg is None:
            _describe(name, row, files[row.weights], labels, path)
        else:
            convert(name, row, files[row.cfg], files[row.weights], labels or _coco_labels(downloads), path)
        shutil.rmtree(downloads, ignore_errors=True)  # all of it is in the model now
    return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritten(folder, error) from error


def _reporter(report: Callable[[Remote, int], None], file: Remote) -> Callable[[int], None]:
    return lambda done: report(file, done)


@contextmanager
def _alone(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Keep other processes out until the context ends."""
    try:
        file = lock.open("a")
    except OSError as error:
        raise _unwritten(lock, error) from error
    with file:  # closing it gives the lock back, and so does a kill
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks
            raise OutputError(f"{lock}: cannot be locked ({error.strerror}); set XDG_CACHE_HOME") from error
        yield


def _describe(name: str, row: PublicModel, model: Path, labels: Path | None, out: Path) -> None:
    """Write a `.tflite` with a description: labels, licence, origin."""
    loaded = load_model(model, Overrides(labels=labels, name=name), threads=1)
    loaded.backend.close()
    origin = Provenance(
        source=row.weights.url,
        source_sha256=row.weights.sha256,
        licence=row.licence,
        attribution=row.attribution,
    )
    spec = loaded.spec.model_copy(update={"provenance": origin})
    members = {member: data for member, data in read_tail(model).items() if member != METADATA_NAME}
    _write(out, sealed(model.read_bytes(), spec, members))


def _coco_labels(folder: Path) -> Path:
    path = folder / "coco.names"
    _write(path, "".join(f"{label}\n" for label in CATEGORY_IDS).encode())
    return path


def _write(path: Path, data: bytes) -> None:
    """Write a file beside its name and rename it."""
    temporary: Path | None = None
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(beside)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); make room or set XDG_CACHE_HOME")
