"""NumPy, the runtime, and the model that edge brings."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from edge.doctor.finding import Finding, count, missing, ok, warning
from edge.doctor.host import Host
from edge.doctor.isolate import Ending, Outcome
from edge.doctor.trouble import split_mend, unfinished


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def runtime(host: Host) -> Iterator[Finding]:
    """Whether an interpreter can be built, and how fast it runs the bundled model."""
    outcome = host.attempt("runtime")
    if outcome.ending is not Ending.DONE:
        yield _no_runtime(host, outcome)
        return
    value = outcome.value
    yield ok("NumPy", value["numpy"], version=value["numpy"])
    yield ok("runtime", f"{value['runtime']} builds an interpreter and runs it", version=value["runtime"])
    names = ("model", "threads", "inference_ms", "runs", "operators", "delegated", "partitions")
    facts = {name: value[name] for name in names}
    plural = "s" * (value["partitions"] != 1)
    found = (
        f"{value['model']}: {value['inference_ms']:.1f} ms an inference with {count(value['threads'], 'thread')}; "
        f"{value['delegated']} of {value['operators']} operators in {value['partitions']} XNNPACK partition{plural}"
    )
    if value["delegated"]:
        yield ok("model", found, **facts)
    else:
        yield warning("model", f"{found}: without XNNPACK it is several times slower", **facts)


def _no_runtime(host: Host, outcome: Outcome) -> Finding:
    for library in ("NumPy", "pydantic"):
        if library in outcome.stage:
            return unfinished(host, library, outcome, needed=True)
    if outcome.kind != "MissingDependencyError":
        return unfinished(host, "runtime", outcome, needed=True)
    numpy, old = _version("numpy") or "", _version("tflite-runtime")
    narrow = host.machine == "armv7l" or host.bits == 32
    if old is not None and int(numpy.partition(".")[0] or 0) >= 2:
        found = f"tflite-runtime {old} loads, but cannot build an interpreter: it needs NumPy 1, found {numpy}"
        mend = "pip install 'numpy<2'" if narrow else "pip install ai-edge-litert"
    else:
        found, _ = split_mend(host, outcome.problem)
        mend = "pip install " + ("tflite-runtime 'numpy<2'" if narrow else "ai-edge-litert")
        if "GLIBC" in found:
            mend = "use a newer system: Debian 12, Ubuntu 22.04 or later"
    return missing("runtime", found, mend, needed=True)


def selftest(host: Host) -> Iterator[Finding]:
    """Whether the bundled model finds here what it found when it was made."""
    first = host.known("runtime")
    if first is not None and first.ending is not Ending.DONE:
        yield missing("self-test", "not run: it needs a runtime", needed=True)
        return
    outcome = host.attempt("selftest")
    if outcome.ending is not Ending.DONE:
        if "OpenCV" in outcome.stage:
            yield missing("self-test", "not run: it needs OpenCV", needed=True)
        else:
            yield unfinished(host, "self-test", outcome, needed=True)
        return
    value = outcome.value
    facts = {"passed": value["passed"], "pictures": value["pictures"], "boxes": value["boxes"]}
    if value["passed"]:
        yield ok("self-test", f"passed: {value['boxes']} boxes as when the model was made", **facts)
    else:
        yield missing("self-test", f"{value['summary']}; do not trust results here", "", True, **facts)
