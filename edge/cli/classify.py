"""`edge classify`: name what pictures, videos, cameras and streams show."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli import options, running

if TYPE_CHECKING:
    from edge.result import Result


class PrintSink:
    """One line of text per frame on standard output."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Prepare.

        Args:
            labels: Class names by class index.
        """
        self._labels = labels
        self.outputs: list[Path] = []

    def write(self, result: Result) -> None:
        """Print the best classes of one frame."""
        assert result.classification is not None
        found = zip(result.classification.class_id, result.classification.score, strict=True)
        names = "; ".join(f"{self._name(class_id)} {score:.3f}" for class_id, score in found)
        frame = result.frame
        place = frame.source if frame.still else f"{frame.source} {frame.index}"
        print(f"{place}: {names}", flush=True)

    def _name(self, class_id: int) -> str:
        return self._labels[class_id] if class_id < len(self._labels) else str(class_id)

    def close(self) -> None:
        """Do nothing."""


def classify(
    source: running.Sources,
    model: options.Model,
    top: Annotated[int, typer.Option(help="Classes to name per frame.")] = 5,
    save: running.Save = None,
    json: running.Json = None,
    csv: running.Csv = None,
    show: running.Show = False,
    force: running.Force = False,
    quiet: running.Quiet = False,
    threads: options.Threads = None,
    delegate: options.Delegate = "cpu",
    decoder: options.Decoder = None,
    labels: options.Labels = None,
    input_range: options.InputRange = None,
    color: options.Color = None,
    resize: options.Resize = None,
    layout: options.Layout = None,
) -> None:
    """Name what pictures, videos, cameras and streams show."""
    with running.native_silence(), ExitStack() as stack:
        sources = running.open_sources(source, stack)
        outputs = running.plan_outputs(sources, save, json, "lines", csv, show, force)
        # Only now: what cannot be read or written is said before a model is loaded.
        from edge.classifier import Classifier
        from edge.spec.resolve import Overrides

        overrides = Overrides(
            decoder=decoder, labels=labels, input_range=input_range, color=color, resize=resize, layout=layout
        )
        classifier = Classifier.load(model, overrides, top, threads, delegate)
        names = classifier.spec.labels
        # Standard output carries one kind of data.
        extra = [] if "-" in (json, csv) else [PrintSink(names)]
        name = f"{classifier.spec.name}: {classifier.backend.description}"
        running.run(classifier.classify, names, name, sources, outputs, quiet, extra)
