"""--reduce: frames at a half, a quarter or an eighth, decoded so where the codec can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mjpeg import MjpegCamera
from typer.testing import CliRunner

from edge.cli.app import app
from edge.errors import InputError
from edge.sources import SourceOptions, open_source
from edge.sources.options import Reduce
from edge.sources.reduce import decoded, gives_jpeg, shrunk
from edge.sources.video import CaptureSource

SIZE_WH = (322, 182)


def picture(shift: int = 0) -> Any:
    """Return something smooth, so that all ways to shrink it agree."""
    x, y = np.meshgrid(np.linspace(0, 4, SIZE_WH[0]), np.linspace(0, 3, SIZE_WH[1]))
    planes = [127 + 100 * np.sin(x + shift / 5), 127 + 100 * np.cos(y), 127 + 50 * np.sin(x + y)]
    return np.stack(planes, axis=2).astype(np.uint8)


def film(path: Path, codec: str) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, SIZE_WH)
    for i in range(5):
        writer.write(picture(i))
    writer.release()
    return path


def alike(found: Any, full: Any, reduce: int) -> bool:
    """Whether a frame is that picture at a fraction of its size."""
    wanted = shrunk(full, reduce)
    return found.shape == wanted.shape and bool(np.abs(found.astype(int) - wanted).mean() < 3)


@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures(tmp_path: Path, suffix: str, reduce: Reduce) -> None:
    path = tmp_path / f"p{suffix}"
    cv2.imwrite(str(path), picture())
    with open_source(str(path), SourceOptions(reduce=reduce)) as source:
        (frame,) = source
    assert alike(frame.image, picture(), reduce)


@pytest.mark.parametrize("reduce", [2, 4])
@pytest.mark.parametrize(("name", "codec"), [("m.avi", "MJPG"), ("m.mp4", "mp4v")])
def test_videos(tmp_path: Path, name: str, codec: str, reduce: Reduce) -> None:
    path = film(tmp_path / name, codec)
    with open_source(str(path)) as source:
        whole = [frame.image.copy() for frame in source]
    with open_source(str(path), SourceOptions(reduce=reduce)) as source:
        small = [frame.image.copy() for frame in source]
        assert source.size_wh == (small[0].shape[1], small[0].shape[0])
    assert len(small) == len(whole) == 5
    assert all(alike(one, other, reduce) for one, other in zip(small, whole, strict=True))


def test_it_comes_before_turning(tmp_path: Path) -> None:
    path = film(tmp_path / "m.avi", "MJPG")
    with open_source(str(path), SourceOptions(reduce=2, rotate=90)) as source:
        assert next(iter(source)).image.shape == (SIZE_WH[0] // 2, SIZE_WH[1] // 2, 3)


def test_a_motion_jpeg_stream() -> None:
    with MjpegCamera(picture()) as camera, open_source(camera.url, SourceOptions(reduce=4)) as source:
        frames = iter(source)
        assert all(alike(next(frames).image, picture(), 4) for _ in range(3))


class UsbCamera:
    """What OpenCV makes of a USB camera, as far as it is asked for here."""

    def __init__(self, code: str, frames: list[Any]) -> None:
        self.code, self.frames, self.raw = code, frames, False

    def getBackendName(self) -> str:  # noqa: N802
        return "V4L2"

    def get(self, what: int) -> float:
        return float(cv2.VideoWriter.fourcc(*self.code)) if what == cv2.CAP_PROP_FOURCC else 0.0

    def set(self, what: int, value: float) -> bool:
        self.raw = what == cv2.CAP_PROP_CONVERT_RGB and value == 0
        return self.raw

    def grab(self) -> bool:
        return bool(self.frames)

    def retrieve(self) -> tuple[bool, Any]:
        image = self.frames.pop(0)
        if not self.raw:
            return True, image
        return True, image if image.ndim == 2 else cv2.imencode(".jpg", image)[1].reshape(1, -1)

    def release(self) -> None:
        pass


@pytest.mark.parametrize(("code", "raw"), [("MJPG", True), ("YUYV", False)])
def test_a_usb_camera(code: str, raw: bool, caplog: pytest.LogCaptureFixture) -> None:
    broken = [np.zeros((1, 500), np.uint8)] * 2 if raw else []
    capture = UsbCamera(code, [picture(0), *broken, picture(1)])
    with CaptureSource("0", capture, True, SourceOptions(reduce=2)) as source:
        frames = iter(source)
        # A frame that cannot be decoded is passed over, as it is by OpenCV's own conversion.
        assert [alike(next(frames).image, picture(i), 2) for i in (0, 1)] == [True, True]
    assert [record.message.partition("; ")[0] for record in caplog.records] == ["0: a damaged frame is left out"] * raw
    assert capture.raw == raw


def test_a_frame_that_opencv_refuses_is_a_damaged_one() -> None:
    whole = cv2.imencode(".jpg", picture())[1].reshape(1, -1)
    assert decoded(whole, 2) is not None
    huge = bytearray(whole.tobytes())
    at = huge.index(b"\xff\xc0") + 5
    huge[at : at + 4] = b"\xff\xff\xff\xff"
    for frame in (np.frombuffer(bytes(huge), np.uint8), np.empty((1, 0), np.uint8), whole[:, :20]):
        assert decoded(frame, 2) is None


def test_nothing_is_asked_of_a_capture_without_it() -> None:
    assert not gives_jpeg(None, 1)


def test_the_flag_and_what_is_no_factor(tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    cv2.imwrite(str(path), picture())
    given = ["detect", "-q", "--source", str(path), "--reduce", "2", "--save", str(tmp_path / "o.png"), "--json", "-"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[0])["source"] == str(path)
    assert cv2.imread(str(tmp_path / "o.png")).shape == (SIZE_WH[1] // 2, SIZE_WH[0] // 2, 3)
    assert CliRunner().invoke(app, [*given, "--reduce", "3"]).exit_code == 2
    # COCO's boxes belong to the whole picture.
    coco = ["detect", "--source", str(path), "--json", str(tmp_path / "c.json"), "--format", "coco"]
    refused = CliRunner().invoke(app, [*coco, "--reduce", "2"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "--format coco with --reduce: " in refused.stderr
    assert not (tmp_path / "c.json").exists()
    with pytest.raises(InputError, match="reduce 3: expected one of 1, 2, 4, 8"):
        SourceOptions(reduce=3)  # type: ignore[arg-type]
