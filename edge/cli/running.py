"""What `edge detect` and `edge classify` share: outputs that are safe to write, signals, and the run itself."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli import options
from edge.cli.progress import Display
from edge.errors import OutputError

if TYPE_CHECKING:
    from edge.backends.base import Backend
    from edge.pipeline import Infer
    from edge.sinks import Sink
    from edge.sources import Source, SourceOptions

_OPEN_S = 30.0
"""How long a camera may take to open: its driver's own time-outs are shorter."""

Sources = Annotated[
    list[str],
    typer.Option(
        "--source",
        "-s",
        help="File, folder, pattern, camera (0, /dev/video0, csi://0), URL, or a .streams list. Repeatable.",
        show_default=False,
    ),
]
Save = Annotated[
    str | None,
    typer.Option(help="Annotated video (.mp4, .mkv, .avi, .webm), picture, or a folder for all.", show_default=False),
]
Sheet = Annotated[
    str | None,
    typer.Option(help="Contact sheet: a dozen annotated frames of the run in one picture.", show_default=False),
]
Json = Annotated[str | None, typer.Option("--json", help="One JSON line a frame; - is stdout.", show_default=False)]
Csv = Annotated[str | None, typer.Option("--csv", help="Table of results; - is stdout.", show_default=False)]
Show = Annotated[bool, typer.Option("--show", help="Open a window; q or Esc ends.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no closing table.")]


_WORTH_FRAMES = 200
"""A run of fewer frames is over before a second interpreter has paid for its loading."""

_WORTH_BYTES = 32 << 20
"""A second copy of a larger model may not fit into a small board's memory."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output that was asked for: a key of `SINKS`, its target, and the flag that named it."""

    kind: str
    target: str
    flag: str


def plan_outputs(
    sources: Sequence[Source],
    save: str | None = None,
    sheet: str | None = None,
    json: str | None = None,
    json_format: str = "lines",
    csv: str | None = None,
    show: bool = False,
    force: bool = False,
) -> list[Output]:
    """Decide which sinks to make, and check that they destroy nothing.

    Raises:
        OutputError: A target exists (without `force`), is a source, cannot be written, or does not suit the sources.
    """
    outputs = []
    if save is not None:
        outputs.append(Output(_save_kind(save, sources), save, "--save"))
    if sheet is not None:
        outputs.append(Output("sheet", checked_sheet("--sheet", sheet), "--sheet"))
    if json is not None:
        outputs.append(Output(json_format, json, "--json"))
    if csv is not None:
        outputs.append(Output("csv", csv, "--csv"))
    if save in ("-", ""):
        raise OutputError("--save: expected a file or folder; only --json and --csv can go to standard output")
    targets = ["-" if o.target == "-" else os.path.realpath(o.target) for o in outputs]
    for output, target in zip(outputs, targets, strict=True):
        if targets.count(target) > 1:
            raise OutputError(f"{output.flag} {output.target}: two outputs cannot go to the same place")
        if target != "-":
            _check_target(output, Path(output.target), sources, force)
    if show:
        from edge.sinks.window import window_problem

        if problem := window_problem():
            raise OutputError(f"--show: {problem}")
        outputs.append(Output("window", "", "--show"))
    return outputs


def _save_kind(target: str, sources: Sequence[Source]) -> str:
    from edge.sinks.images import PICTURE_FORMATS
    from edge.sinks.video import VIDEO_FORMATS
    from edge.sources.images import IMAGE_SUFFIXES
    from edge.sources.video import VIDEO_SUFFIXES

    suffix = Path(target).suffix.lower()
    stills = [source.frame_count is not None and source.fps is None for source in sources]
    if suffix in VIDEO_FORMATS:
        if len(sources) > 1 and not all(stills):
            raise OutputError(f"--save {target}: {len(sources)} sources do not fit in one video; give a folder")
        return "video"
    if suffix in PICTURE_FORMATS:
        if len(sources) != 1 or not stills[0] or sources[0].frame_count != 1:
            raise OutputError(f"--save {target}: the source is more than one picture; give a folder, or a video name")
        return "picture"
    if suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        known = ", ".join([*VIDEO_FORMATS, *sorted(PICTURE_FORMATS)])
        raise OutputError(f"--save {target}: cannot write {suffix}; expected one of {known}, or a folder")
    return "folder"


def checked_sheet(flag: str, target: str) -> str:
    """Return the name of a sheet.

    Raises:
        OutputError: It is no picture's.
    """
    from edge.sinks.images import PICTURE_FORMATS

    if Path(target).suffix.lower() not in PICTURE_FORMATS:
        raise OutputError(f"{flag} {target}: expected a picture name ending in {', '.join(sorted(PICTURE_FORMATS))}")
    return target


def _check_target(output: Output, path: Path, sources: Sequence[Source], force: bool) -> None:
    name = f"{output.flag} {output.target}"
    origins = [origin for source in sources for origin in source.paths]
    if output.kind == "folder":
        if path.exists() and not path.is_dir():
            raise OutputError(f"{name}: is a file; expected a folder, or a video or picture name")
        if path.is_dir() and any(path.samefile(folder) for folder in {origin.parent for origin in origins}):
            raise OutputError(f"{name}: the source lies in this folder and would be overwritten; give another")
        if not force and path.is_dir() and any(path.iterdir()):
            raise OutputError(f"{name}: the folder is not empty; give another, or pass --force to write into it")
    else:
        if path.is_dir():
            raise OutputError(f"{name}: is a folder; expected a file name")
        if path.exists() and any(path.samefile(origin) for origin in origins if origin.exists()):
            raise OutputError(f"{name}: is a source itself; give another name")
        if not force and path.is_file():
            raise OutputError(f"{name}: exists; give another name, or pass --force to overwrite it")
    existing = path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(existing, os.W_OK):
        raise OutputError(f"{name}: no permission to write to {existing}")


def at_once(mode: options.Mode, sources: Sequence[Source], model: Path, threads: int | None, delegate: str) -> int:
    """Return how many frames are worked on at the same time, each on one thread; 1: one after another, on all of them.

    Frames side by side scale better than threads inside one frame, and cost the memory of one more interpreter each.
    """
    from edge.backends.litert import default_threads

    available = threads or default_threads()
    if mode is not options.Mode.AUTO:
        return 1 if mode is options.Mode.LATENCY else available
    counts = [source.frame_count for source in sources]
    few = None not in counts and sum(count or 0 for count in counts) < _WORTH_FRAMES
    if delegate != "cpu" or few or any(source.live for source in sources):
        return 1
    return 1 if not model.is_file() or model.stat().st_size > _WORTH_BYTES else available


def run(
    infers: Sequence[Infer],
    backends: Sequence[Backend],
    labels: Sequence[str],
    model: str,
    sources: Sequence[Source],
    outputs: Sequence[Output],
    quiet: bool,
) -> None:
    """Run the pipeline with a progress display, and print the closing table.

    Args:
        infers: Each runs the model on one frame; several, on several frames at the same time.
        backends: What they run on; closed in the end.
        labels: Class names by class index.
        model: What runs, for the closing table.
        sources: Opened sources.
        outputs: From `plan_outputs`.
        quiet: Show neither progress nor table.

    Raises:
        EdgeError: As `Pipeline.run`; the table is printed before.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP ended the run; all files are closed.
    """
    from edge.pipeline import Pipeline
    from edge.sinks import SINKS, Overlay, SinkContext

    sinks: list[Sink] = []
    known = [source.frame_count for source in sources]
    total = sum(count for count in known if count is not None) if None not in known else None
    with Display(total, quiet) as display:
        fallen_back = partial(_fallen_back, backends)
        pipeline = Pipeline(infers, sinks, display.update, fallen_back)

        def stop() -> None:
            pipeline.stop()
            for source in sources:
                # One that waits for a camera to come back would not notice.
                source.interrupt()

        context = SinkContext(labels, Overlay(labels), stop, lambda: pipeline.stopped)
        with _signals(stop) as interrupted, ExitStack() as cleanup:
            for backend in backends:
                cleanup.callback(backend.close)
            for output in outputs:
                sinks.append(SINKS[output.kind](output.target, context))
                cleanup.callback(sinks[-1].close)
            try:
                pipeline.run(sources)
            finally:
                written = [path for sink in sinks for path in sink.outputs]
                display.close(pipeline.stats, labels, model, written, nothing_asked=not sinks)
    if interrupted():
        raise KeyboardInterrupt


def _fallen_back(backends: Sequence[Backend]) -> bool:
    return any(backend.failure is not None for backend in backends)


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Let SIGINT, SIGTERM and SIGHUP end the run in good order; yields whether one came.

    The first asks the run to stop; a second changes nothing, so that files are finished; the third gives up.
    """
    count = 0

    def handle(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        stop()
        if count == 3:
            os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    # One that is ignored (by nohup, for instance) stays so.
    caught = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield lambda: count > 0
    finally:
        for number, handler in before.items():
            # After one the command is on its way out: another must not make a traceback of it.
            signal.signal(number, signal.SIG_IGN if count else handler)


def open_sources(
    uris: Sequence[str], stack: ExitStack, options: SourceOptions | None = None, give_up_s: float | None = 60.0
) -> list[Source]:
    """Open every source, to be closed by `stack`. Those that are live are opened anew when they are lost.

    Args:
        uris: As the user names them.
        stack: Closes them.
        options: How to read them.
        give_up_s: How long a lost one is tried again; None for ever.

    Raises:
        SourceError: One of them cannot be used.
    """
    from edge.cv import require_opencv

    require_opencv()
    from edge.sources import SourceOptions, expand_sources, is_live, open_source
    from edge.sources.reader import Opening
    from edge.sources.reconnect import ReconnectingSource

    options = options or SourceOptions()
    names = expand_sources(uris)
    # Side by side: each takes seconds. And the main thread stays free for signals.
    openings = {name: Opening(name, partial(open_source, name, options)) for name in names if is_live(name)}
    for begun in openings.values():
        stack.callback(begun.give_up)
    sources: list[Source] = []
    for name in names:
        opening = openings.pop(name, None)
        source = open_source(name, options) if opening is None else opening.result(_OPEN_S)
        if source.live:
            source = ReconnectingSource(name, options, give_up_s=give_up_s, opened=source)
        sources.append(stack.enter_context(source))
    return sources


def end_if_hanging(code: object) -> None:
    """End the process here and now where a thread of ours is still inside a call of a driver or library.

    Python would take its end while that call runs, and the thread that comes back from it then aborts the process. All
    outputs are closed before.

    Args:
        code: What `SystemExit` carries.
    """
    import sys

    if not any(thread.daemon and thread.name.startswith("edge-") for thread in threading.enumerate()):
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


@contextmanager
def native_silence() -> Iterator[None]:
    """Keep native libraries from writing to the terminal: our one line says what they would say in ten.

    Image and video libraries write to file descriptor 2 and cannot all be told not to. It is sent to nowhere,
    while Python keeps a copy of it. With `--verbose` everything is shown.
    """
    import sys

    def real() -> bool:
        try:
            return sys.stderr.fileno() == 2
        except (OSError, ValueError):
            return False

    if logging.getLogger().isEnabledFor(logging.DEBUG) or not real():
        yield
        return
    sys.stderr.flush()
    kept, shown = os.dup(2), sys.stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    copy = open(kept, "w", buffering=1, encoding=shown.encoding, errors="backslashreplace", closefd=False)
    # A log handler holds on to the stream that it was made with.
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler) and h.stream is shown]
    os.dup2(nowhere, 2)
    sys.stderr = copy
    for handler in handlers:
        handler.setStream(copy)
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(shown)
        sys.stderr = shown
        copy.close()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
