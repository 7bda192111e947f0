"""The bundled model on the second halves of two real clips, object by object, against marks made by hand."""

from __future__ import annotations

import cv2
import golden_videos
import numpy as np
import pytest
from golden_videos import Clip, Found, Track

from edge.bundled import default_model
from edge.detector import Detector

ENOUGH = 0.8
"""Share of the frames in which an object must be found."""

CLIPS = golden_videos.clips()
MEASURED = [(clip, track) for clip in CLIPS for track in clip.tracks if track.half == "second"]


@pytest.fixture(scope="module")
def found(shared_data) -> dict[str, Found]:
    """What the bundled model finds with its own defaults while something is wholly visible."""
    paths = {clip.video: shared_data(f"video/{clip.video}") for clip in CLIPS}
    detector = Detector.load(default_model())
    frames = {clip.video: [f for c, track in MEASURED if c is clip for f in track.frames] for clip in CLIPS}
    return {video: golden_videos.detect(detector, path, frames[video]) for video, path in paths.items()}


@pytest.mark.parametrize(
    ("clip", "track"),
    [pytest.param(clip, track, id=f"{clip.video}: {track.name}") for clip, track in MEASURED],
)
def test_the_bundled_model_finds(found: dict[str, Found], clip: Clip, track: Track) -> None:
    share = track.recall(found[clip.video])
    assert share >= ENOUGH, f"{track.name}: found in {share:.0%} of frames {track.first} to {track.last}"


@pytest.mark.parametrize("clip", CLIPS, ids=[clip.video for clip in CLIPS])
def test_the_marks_are_whole(clip: Clip) -> None:
    assert clip.tracks and clip.measured_from == (clip.frames + 1) // 2
    for track in clip.tracks:
        assert 0 <= track.first <= track.last < clip.frames
        assert track.half == ("first" if track.last < clip.measured_from else "second")
        assert track.half == "first" or track.first >= clip.measured_from
        assert min(track.keyframes) == track.first and max(track.keyframes) == track.last
        assert max(np.diff(sorted(track.keyframes))) <= 10
        boxes = np.array(list(track.keyframes.values()))
        assert (boxes[:, :2] < boxes[:, 2:]).all() and (boxes >= 0).all() and (boxes <= clip.size_wh * 2).all()


@pytest.mark.parametrize("clip", CLIPS, ids=[clip.video for clip in CLIPS])
def test_the_marks_are_of_these_clips(shared_data, clip: Clip) -> None:
    capture = cv2.VideoCapture(str(shared_data(f"video/{clip.video}")))
    keys = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    assert [capture.get(key) for key in keys] == [clip.frames, clip.fps, *clip.size_wh]
    capture.release()


def test_a_score_counts_frames_with_the_right_label_at_the_right_place() -> None:
    track = Track("a car", "car", "second", 10, 14, {10: (0, 0, 100, 50), 14: (40, 0, 140, 50)})
    np.testing.assert_array_equal(track.box(11), [10, 0, 110, 50])
    right = {frame: [("bus", track.box(frame)), ("car", track.box(frame))] for frame in range(10, 15)}
    assert track.recall(right) == 1
    assert track.recall({**right, 11: [("bus", track.box(11))], 12: []}) == 0.6
    # Of two boxes that are 100 wide, one d to the side, the IoU is (100 - d) / (100 + d): 0.4 at 42.86.
    assert track.recall({10: [("car", track.box(10) + np.float32([42, 0, 42, 0]))]}) == 0.2
    assert track.recall({10: [("car", track.box(10) + np.float32([44, 0, 44, 0]))]}) == 0
    assert track.recall({frame: right[10] for frame in (9, 15)}) == 0
