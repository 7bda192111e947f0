"""The whole way against OpenCV 4.12: a Darknet network converted by us, and read by OpenCV, on real videos."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from environments import environment

from edge.detector import Detector
from edge.geometry import iou_matrix
from edge.sources import open_source

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def opencv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("venv"), "opencv-python-headless==4.12.*")


@pytest.fixture(scope="module")
def model(shared_data, tmp_path_factory) -> Path:
    cfg, names = shared_data("darknet/yolo-fastest-1.1.cfg"), shared_data("darknet/coco.names")
    out = tmp_path_factory.mktemp("model") / "s.tflite"
    flags = ["--labels", names, "--resize", "stretch", "--out", out]  # stretched, as OpenCV fits pictures
    subprocess.run([sys.executable, "-m", "edge", "convert", *map(str, [cfg, *flags])], check=True)
    return out


@pytest.mark.parametrize("name", ["car-detection", "one-by-one-person-detection"])
def test_same_boxes_on_every_frame(name: str, opencv: Path, model: Path, shared_data, tmp_path: Path) -> None:
    video = shared_data(f"video/{name}.mp4")
    script = Path(__file__).with_name("opencv_darknet.py")
    arguments = [shared_data("darknet/yolo-fastest-1.1.cfg"), shared_data("darknet/yolo-fastest-1.1.weights"), "320"]
    subprocess.run([opencv, script, *arguments, video, tmp_path / "theirs.json"], check=True)
    theirs = [np.array(rows, np.float32).reshape(-1, 6) for rows in json.loads((tmp_path / "theirs.json").read_text())]
    runs = []
    for threads in (1, 2):
        detector = Detector.load(model, conf=0.25, threads=threads)
        with open_source(str(video)) as source:
            runs.append([detector.detect(frame.image)[0] for frame in source])
    ours, again = runs
    assert len(ours) == len(theirs)
    compared = 0
    for mine, same, other in zip(ours, again, theirs, strict=True):
        assert np.array_equal(mine.xyxy, same.xyxy) and np.array_equal(mine.score, same.score)
        rows = np.column_stack([mine.xyxy, mine.score, mine.class_id]).astype(np.float32)
        # Both ways: nothing of theirs is missing, and nothing of ours is extra.
        for left, right in ((rows, other), (other, rows)):
            for row in left[left[:, 4] > 0.3]:
                alike = right[right[:, 5] == row[5]]
                assert len(alike) and iou_matrix(row[None, :4], alike[:, :4]).max() > 0.99
                compared += 1
    assert compared > 200
