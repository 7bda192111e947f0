"""Cameras on a board's ribbon connector (CSI): csi://0."""

from __future__ import annotations

import importlib
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.errors import SourceError, SourceLostError
from edge.frame import Frame
from edge.sources.adjust import Thinning, thinned_fps, turned
from edge.sources.base import SourceBase
from edge.sources.gstreamer import APPSINK, SYSTEM_OPENCV, has_gstreamer, open_pipeline
from edge.sources.options import DEFAULTS, SourceOptions
from edge.sources.reduce import shrunk
from edge.sources.video import CaptureSource

log = logging.getLogger(__name__)

DEFAULT_SIZE_WH = (1280, 720)
DEFAULT_FPS = 30.0

_OLDEST_S = 10.0
"""A sensor's time of a frame that is further away is on another clock."""


def csi_source(uri: str, options: SourceOptions = DEFAULTS) -> CaptureSource | PicameraSource:
    """Open a camera through what the board has: picamera2, or GStreamer with Jetson's or libcamera's source.

    Args:
        uri: csi:// and the number of the camera.
        options: Size and rate to ask for, which frames to give and how to turn them.

    Raises:
        SourceError: There is no such camera, or nothing to read it with.
    """
    number = csi_number(uri)
    if is_jetson():
        if not has_gstreamer():
            raise SourceError(
                f"{uri}: on a Jetson the camera is read through GStreamer, which this OpenCV lacks; use the system's: "
                "a virtual environment with --system-site-packages and without the opencv-python wheel"
            )
        return CaptureSource(uri, open_pipeline(uri, argus_pipeline(number, options), options), True, options)
    try:
        picamera2 = importlib.import_module("picamera2")
    except ImportError as error:
        problem = error
    else:
        return PicameraSource(uri, number, picamera2, options)
    if has_gstreamer() and number == 0:
        return CaptureSource(uri, open_pipeline(uri, libcamera_pipeline(options), options), True, options)
    if not (isinstance(problem, ModuleNotFoundError) and (problem.name or "").partition(".")[0] == "picamera2"):
        raise SourceError(f"{uri}: picamera2 does not load ({str(problem).splitlines()[0]})") from problem
    raise SourceError(
        f"{uri}: nothing here reads a CSI camera; on a Raspberry Pi: sudo apt install python3-picamera2, and a virtual "
        f"environment with --system-site-packages; on another board: an OpenCV with GStreamer, {SYSTEM_OPENCV}"
    )


def csi_number(uri: str) -> int:
    """Return which camera a csi:// name means.

    Raises:
        SourceError: None.
    """
    text = uri.removeprefix("csi://")
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise SourceError(f"{uri}: expected the number of a camera, like csi://0")
    return int(text)


def is_jetson() -> bool:
    """Whether this is one of NVIDIA's boards."""
    if Path("/etc/nv_tegra_release").exists():
        return True
    try:
        return b"nvidia,tegra" in Path("/proc/device-tree/compatible").read_bytes()
    except OSError:
        return False


def argus_pipeline(number: int, options: SourceOptions) -> str:
    """Return the pipeline for a Jetson's camera."""
    return (
        f"nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),{_caps(options)} "
        f"! nvvidconv ! video/x-raw,format=BGRx ! {APPSINK}"
    )


def libcamera_pipeline(options: SourceOptions) -> str:
    """Return the pipeline for libcamera's first camera."""
    return f"libcamerasrc ! video/x-raw,{_caps(options)} ! {APPSINK}"


def _caps(options: SourceOptions) -> str:
    width, height = options.size_wh or DEFAULT_SIZE_WH
    fps = options.fps or DEFAULT_FPS
    rate = f"{round(fps)}/1" if math.isclose(fps, round(fps)) else f"{round(fps * 1000)}/1000"
    return f"width=(int){width},height=(int){height},framerate=(fraction){rate}"


class PicameraSource(SourceBase):
    """A Raspberry Pi's camera, through picamera2."""

    live = True
    captured = 0

    def __init__(self, name: str, number: int, picamera2: Any, options: SourceOptions = DEFAULTS) -> None:
        """Start the camera and read its first frame.

        Args:
            name: What the user named.
            number: Of the camera.
            picamera2: The module.
            options: Size and rate to ask for, which frames to give and how to turn them.

        Raises:
            SourceError: There is no such camera, or another program uses it.
        """
        self.name = name
        self._options = options
        found = picamera2.Picamera2.global_camera_info()
        if number >= len(found):
            said = ", ".join(f"csi://{i} {info.get('Model', '')}".strip() for i, info in enumerate(found))
            raise SourceError(f"{name}: there is no such camera; found {said or 'none: is the ribbon cable seated?'}")
        self._camera: Any = None
        self.beat()
        try:
            self._camera = picamera2.Picamera2(number)
            # In memory "RGB888" is blue, green, red.
            main = {"size": options.size_wh or DEFAULT_SIZE_WH, "format": "RGB888"}
            controls = {} if options.fps is None else {"FrameRate": options.fps}
            self._camera.configure(self._camera.create_video_configuration(main=main, controls=controls))
            self._camera.start()
            self.beat()
            self._ahead: tuple[Any, float] | None = self._read()
        except (RuntimeError, OSError, IndexError) as error:
            self.close()
            raise SourceError(f"{name}: the camera does not start ({error}); does another program use it?") from error
        image = turned(shrunk(self._ahead[0], options.reduce), options)
        self.size_wh = image.shape[1], image.shape[0]
        given = (self._ahead[0].shape[1], self._ahead[0].shape[0])
        if options.size_wh is not None and given != options.size_wh:
            log.warning("%s: the camera gives %dx%d instead of %dx%d", name, *given, *options.size_wh)
        self.fps = thinned_fps(options.fps or DEFAULT_FPS, options)

    def _read(self) -> tuple[Any, float]:
        """Return the next picture and `time.monotonic()` of its exposure."""
        self.beat()
        request = self._camera.capture_request()
        try:
            now = time.monotonic()
            image = request.make_array("main")
            # Nanoseconds since the board started, time in sleep included.
            sensor_ns = request.get_metadata().get("SensorTimestamp", 0)
            age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - sensor_ns / 1e9
        finally:
            request.release()
        self.beat()
        return image, now - age_s if 0 <= age_s < _OLDEST_S else now

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            SourceLostError: The camera stopped delivering.
        """
        thinning = Thinning(self._options)
        start: float | None = None
        while not self._interrupted:
            try:
                image, captured_s = self._ahead or self._read()
            except (RuntimeError, OSError) as error:
                self.close()
                raise SourceLostError(f"{self.name}: the camera stopped delivering ({error})") from error
            self._ahead = None
            start = captured_s if start is None else start
            self.captured += 1
            if not thinning.keeps(self.captured - 1, captured_s - start):
                self.skipped_frames += 1
                continue
            wall_s = time.time() - (time.monotonic() - captured_s)
            image = turned(shrunk(image, self._options.reduce), self._options)
            index, timestamp_s = self.captured - 1, captured_s - start
            yield Frame(image, index, self.name, timestamp_s, captured_s, wall_s, self.fps, True)

    def close(self) -> None:
        """Stop the camera, and let others use it."""
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.stop()
            camera.close()
