"""How much of two real clips models find: object by object, against marks made by hand (tests/golden/videos).

    python benchmarks/video_recall.py MODEL... [--data FOLDER] [--conf C]

A number is the share of the frames in which an object is wholly visible and a box of its label overlaps its mark with
an IoU of 0.4 or more, scored at least the model's own threshold (or --conf). Objects of the first halves may have been
trained on; `second half` is the mean over the frames of the others. `other boxes` are boxes per frame that overlap no
mark of their label, counted in the frames with an object. Without a MODEL: the bundled one. Printed as Markdown.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from edge.bundled import default_model
from edge.detector import Detector
from edge.errors import EdgeError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import golden_videos  # noqa: E402
from golden_videos import Clip, Found, Track  # noqa: E402


def mean(tracks: list[Track], found: Found) -> float:
    """Return the recall over the frames of some tracks."""
    frames = [len(track.frames) for track in tracks]
    return sum(track.recall(found) * n for track, n in zip(tracks, frames, strict=True)) / sum(frames)


def column(clip: Clip, found: Found) -> list[str]:
    """Return one model's numbers for a clip, in the order of `names`."""
    measured = [track for track in clip.tracks if track.half == "second"]
    shares = [track.recall(found) for track in clip.tracks]
    shares += [mean(list(clip.tracks), found), mean(measured, found)]
    return [*(f"{share:.3f}" for share in shares), f"{golden_videos.other_boxes(clip, found):.2f}"]


def names(clip: Clip) -> list[str]:
    """Return the heads of the rows for a clip."""
    rows = [f"{track.name} ({track.half} half, {track.first} to {track.last})" for track in clip.tracks]
    return [*rows, "**all**", "**second half**", "other boxes a frame"]


def main() -> None:
    """Measure and print one table a clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL")
    parser.add_argument("--data", type=Path, default=os.environ.get("EDGE_TEST_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--conf", type=float, help="lowest score, in place of the models' own")
    options = parser.parse_args()
    try:
        detectors = [Detector.load(path, conf=options.conf) for path in options.models or [default_model()]]
        for clip in golden_videos.clips():
            frames = {frame for track in clip.tracks for frame in track.frames}
            video = Path(options.data) / "video" / clip.video
            columns = [column(clip, golden_videos.detect(detector, video, frames)) for detector in detectors]
            heads = [f"{detector.spec.name} @ {detector.conf:g}" for detector in detectors]
            print(f"\n| {clip.video} | {' | '.join(heads)} |")
            print(f"|---|{'---|' * len(heads)}")
            for name, *cells in zip(names(clip), *columns, strict=True):
                print(f"| {name} | {' | '.join(cells)} |", flush=True)
    except EdgeError as error:
        sys.exit(f"video_recall: {error}")


if __name__ == "__main__":
    main()
