"""Coral's `edgetpu_compiler`: run where it is installed, and its log read into the table of `check`.

It is a closed program for x86-64 Debian. What its log looks like is known from what it printed in public threads
(versions 2.1 to 16).
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from convert.edgetpu.check import check
from convert.operators import read_operators
from convert.verdicts import Group
from convert.writer import check_target, write_model
from edge.errors import InputError, MissingDependencyError, ModelFileError
from edge.spec.archive import model_part
from edge.spec.twin import COMPILED, with_twin

PROGRAM = "edgetpu_compiler"
TIMEOUT_S = 900

_MAPPED = "Mapped to Edge TPU"
_CUSTOM_OP = "edgetpu-custom-op"
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_TABLE_ROW = re.compile(r"([A-Za-z]\w*)\s+(\d+)\s+(\S.*)")
_FAILURES = re.compile(
    r"(ERROR: .*|Internal compil\w+ error.*|Invalid model: .*|Model not quantized.*|Compilation failed: .*)"
)

_HINTS = {
    "not quantized": "convert it with --to int8",
    "dynamic-sized": "every size must be fixed: convert it with a batch of 1 and with --size",
    "large activation": "convert it for a smaller input with --size",
    "Internal compil": "that is a fault of the compiler: try a smaller --size, or another version of it",
    "Didn't find op": "the file is newer than the compiler: take its newest version",
}


@dataclass(frozen=True)
class Log:
    """What the compiler printed.

    Attributes:
        version: Of the compiler; "" where it did not say.
        compiled: Whether it wrote a model.
        subgraphs: Parts of the graph that run on the Edge TPU.
        groups: Its table of operators; empty when it was not asked for one (`-s`).
        failures: Its lines that say what went wrong.
    """

    version: str
    compiled: bool
    subgraphs: int
    groups: tuple[Group, ...]
    failures: tuple[str, ...]

    @property
    def mapped(self) -> int:
        """Operators that run on the Edge TPU."""
        return sum(group.count for group in self.groups if group.verdict == "maps")

    @property
    def on_cpu(self) -> int:
        """Operators that run on the CPU."""
        return sum(group.count for group in self.groups) - self.mapped


@dataclass(frozen=True)
class Compiled:
    """A compiled model.

    Attributes:
        path: The file for the Edge TPU.
        twin: The file that it was compiled from, which runs on the CPU and must stay beside it.
        log: What the compiler said.
    """

    path: Path
    twin: Path
    log: Log


def parse_log(text: str) -> Log:
    """Read what the compiler printed, on the terminal or into its `.log` file."""
    lines = [line.strip() for line in text.splitlines()]
    version = _VERSION.search(text)
    subgraphs = re.search(r"Number of Edge TPU subgraphs: (\d+)", text)
    groups = []
    in_table = False
    for line in lines:
        row = _TABLE_ROW.fullmatch(line)
        if re.fullmatch(r"Operator\s+Count\s+Status", line):
            in_table = True
        elif in_table and row:
            groups.append(Group(row[1], int(row[2]), "maps" if row[3] == _MAPPED else "cpu", row[3]))
        elif in_table and line:
            in_table = False
    return Log(
        version=version[1] if version else "",
        compiled=re.search(r"^Models? compiled successfully", text, re.MULTILINE) is not None,
        subgraphs=int(subgraphs[1]) if subgraphs else 0,
        groups=tuple(groups),
        failures=tuple(dict.fromkeys(line for line in lines if _FAILURES.fullmatch(line))),
    )


def compiled_path(path: Path) -> Path:
    """Return the name that the compiler gives to the result of a file, beside it."""
    return path.with_name(f"{path.stem}{COMPILED}{path.suffix}")


def compile_model(path: Path, force: bool = False) -> Compiled:
    """Compile a file for the Edge TPU; it stays as the CPU twin of the new file beside it.

    The new file says about itself what the twin says, and names it: the compiler drops that.

    Args:
        path: A full-integer `.tflite`.
        force: Whether an existing result may be replaced.

    Raises:
        MissingDependencyError: The compiler is not installed; see `by_hand`.
        InputError: It refuses the model, or maps nothing of it.
        OutputError: The result cannot be written.
        ModelFileError: `path` is no model.
    """
    target = compiled_path(path)
    check_target(target, force)
    program = shutil.which(PROGRAM)
    if program is None:
        raise MissingDependencyError(f"{PROGRAM} is not installed here; elsewhere run: {by_hand(path)[-2]}")
    try:
        model = model_part(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from error
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in", path.name)
        source.parent.mkdir()
        source.write_bytes(model)
        log = _run(program, source, Path(folder), path)
        try:
            content = Path(folder, target.name).read_bytes()
        except OSError as error:
            raise InputError(f"{path}: {PROGRAM} said that it compiled, but wrote no {target.name}") from error
    if not log.subgraphs or not any(operator.name == _CUSTOM_OP for operator in read_operators(content)):
        raise InputError(f"{path}: {PROGRAM} {log.version} maps nothing of it: {_why(log, model)}")
    # The file cannot be run without the device; that it is read back whole was checked when the tail was written.
    write_model(target, with_twin(content, path), force, lambda _: None)
    return Compiled(target, path, log)


def _run(program: str, source: Path, out: Path, path: Path) -> Log:
    command = [program, "--show_operations", "--out_dir", str(out), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path}: {PROGRAM} did not finish within {TIMEOUT_S} s; try a smaller --size") from error
    except OSError as error:
        raise MissingDependencyError(f"{program} cannot be run ({error.strerror}); it is for x86-64 only") from error
    said = f"{done.stdout}\n{done.stderr}"
    log = parse_log(said)
    if done.returncode or not log.compiled:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        reason = "; ".join(log.failures) or last
        by_itself = f"see what it says by itself: {PROGRAM} --show_operations {path}"
        hint = next((hint for words, hint in _HINTS.items() if words in reason), by_itself)
        version = f" {log.version}" if log.version else ""
        raise InputError(f"{path} was written, but {PROGRAM}{version} refused it ({reason}); {hint}")
    return log


def _why(log: Log, model: bytes) -> str:
    """Return the reason in the compiler's words where it gave a table, else in ours."""
    first = next((group for group in log.groups if group.verdict == "cpu"), None)
    if first is not None:
        return f"{first.op}: {first.reason}"
    return str(check(model))


def by_hand(path: Path) -> tuple[str, ...]:
    """Return the commands that compile a file on another machine (x86-64, Debian or Ubuntu) and finish it here.

    The first compiles; the second, run where the twin is, gives the result its description back. Coral's page "Edge TPU
    Compiler" says how that program is installed.
    """
    name, result = shlex.quote(path.name), shlex.quote(compiled_path(path).name)
    return (
        f"{PROGRAM} --show_operations {name}",
        f"edge inspect {result} --attach {name}",
    )
