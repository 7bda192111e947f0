"""What may stand in an edge.toml: a pydantic model for each of its tables.

Keys of one table are the fields of one class; descriptions and defaults here are what `edge config init` and the
documentation show. Tracks and zones will get a table each beside `cameras`, and be named in a camera as sinks are.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What cameras, models and sinks may be called: they become parts of file names and topics."""

Positive = Annotated[float, Field(gt=0, lt=1e6)]
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Auto = Literal["auto"]
Whole = BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value)
"""Before a choice of whole numbers: pydantic does not read them from texts by itself."""


class Table(BaseModel):
    """A table of the file: unknown keys are errors, and texts may be numbers, since variables are texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, data: object) -> object:
        # pydantic takes true for 1; nothing takes a bare object.
        if not isinstance(data, dict):
            return data
        wanted = {name for name, field in cls.model_fields.items() if field.annotation is bool}
        return {k: object() if isinstance(v, bool) and k not in wanted else v for k, v in data.items()}


class ServiceConfig(Table):
    """What holds for the whole process."""

    log: Literal["text", "json"] = Field(default="text", description="Form of the log lines on stderr")
    http: str | None = Field(
        default=None,
        description="HOST:PORT of /healthz, /readyz, /status and /metrics; another host than loopback needs a token",
    )
    token: str | None = Field(
        default=None,
        description="What requests must bring as 'Authorization: Bearer TOKEN'",
        repr=False,
        validate_default=True,
    )
    stuck_s: Positive = Field(
        default=20.0,
        description="Seconds after which an inference, a camera or an output that makes no progress counts as hung",
    )

    @field_validator("http")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("token")
    @classmethod
    def _guarded(cls, value: str | None, info: ValidationInfo) -> str | None:
        http = info.data.get("http")
        if http is not None and not value and not _loopback(split_address(http)[0]):
            raise ValueError("is missing or empty, and http can be reached by others: set it, or use 127.0.0.1")
        return value


class ModelConfig(Table):
    """A model, and how it is run."""

    path: Text | None = Field(default=None, description="A .tflite file, or the name of a bundled or pulled model")
    delegate: Text = Field(
        default="cpu", description="cpu, gpu[:float32], edgetpu[:usb|:pci|:N], or a delegate's PATH.so?key=value"
    )
    fallback: bool = Field(default=True, description="Whether the CPU goes on where the delegate fails")
    threads: Annotated[int, Field(ge=1, le=64)] | Auto = Field(
        default="auto", description="CPU threads of each interpreter; auto: the cores shared out among the interpreters"
    )
    interpreters: Annotated[int, Field(ge=1, le=64)] | Auto = Field(
        default="auto",
        description="Frames at the same time; auto: one for each core that has a camera or file, one on an accelerator",
    )
    verify: bool = Field(default=False, description="Whether the model's self-test is replayed at start")
    decoder: str | None = Field(default=None, description="Head family, for a file that does not say it")
    labels: Text | None = Field(
        default=None, description="Text file with one class name a line, for a file that has none"
    )
    input_range: Literal["0..1", "-1..1", "0..255", "imagenet"] | None = Field(
        default=None, description="Values that the input takes, for a file that does not say it"
    )
    color: Literal["RGB", "BGR", "GRAY"] | None = Field(
        default=None, description="Colour order, for a file that does not say it"
    )
    resize: Literal["letterbox-center", "letterbox-topleft", "stretch", "center-crop"] | None = Field(
        default=None, description="How a frame becomes an input, for a file that does not say it"
    )
    layout: Literal["NHWC", "NCHW"] | None = Field(
        default=None, description="Of the input, for a file that does not say it"
    )


class CameraConfig(Table):
    """A camera: what it reads, what looks at it, where results go."""

    source: Text = Field(
        repr=False,
        description="rtsp://, http://, csi:// URL, camera number, /dev/video0, /dev/v4l/by-id/..., or a video file",
    )
    enabled: bool = Field(default=True, description="Whether it runs")
    model: str | None = Field(default=None, description="The model that looks at it; the first one by default")
    conf: Share | None = Field(default=None, description="Lowest score; the model's own by default")
    iou: Share | None = Field(
        default=None, description="Overlap above which the weaker box goes; the model's own by default"
    )
    max_det: Annotated[int, Field(ge=1, le=100_000)] = Field(default=300, description="Most boxes per frame")
    classes: tuple[str, ...] | None = Field(default=None, description="Only these, names or numbers; all by default")
    agnostic: bool = Field(default=False, description="Whether overlaps are suppressed across classes")
    every: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1, description="Only every so-manieth frame is looked at"
    )
    max_fps: Positive | None = Field(default=None, description="At most so many frames a second are looked at")
    size: str | None = Field(default=None, description="Picture size to ask a USB or CSI camera for, WIDTHxHEIGHT")
    fps: Positive | None = Field(default=None, description="Frames per second to ask a USB or CSI camera for")
    format: str | None = Field(default=None, description="Pixel format to ask a USB camera for, such as MJPG or YUYV")
    flip: Literal["horizontal", "vertical", "both"] | None = Field(default=None, description="Mirrors the picture")
    rotate: Annotated[Literal[0, 90, 180, 270], Whole] = Field(default=0, description="Degrees clockwise")
    reduce: Annotated[Literal[1, 2, 4, 8], Whole] = Field(
        default=1, description="Width and height of frames are divided by it; fast for Motion JPEG"
    )
    open_timeout_s: Positive = Field(default=3.0, description="Seconds to wait for a stream to open")
    read_timeout_s: Positive = Field(default=2.0, description="Seconds to wait for its next frame")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="Of RTSP")
    sinks: tuple[str, ...] | None = Field(
        default=None, description="Outputs that it writes to; all by default, [] for none"
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return [str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in value]

    @field_validator("size")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(r"[1-9]\d{0,4}[xX][1-9]\d{0,4}", value) is None:
            raise ValueError("expected WIDTHxHEIGHT in pixels, like 1280x720")
        return value

    @field_validator("format")
    @classmethod
    def _format(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(r"[A-Za-z0-9]{4}", value) is None:
            raise ValueError("expected four letters, like MJPG")
        return value


class FileSinkConfig(Table):
    """What the outputs of results as text share."""

    path: Text = Field(description="The file; {camera} is the camera's name")
    max_mb: Positive = Field(default=50.0, description="Size in MB from which a new file is begun")
    keep: Annotated[int, Field(ge=0, le=10_000)] = Field(default=4, description="Full files that are kept beside it")
    flush_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=2.0, description="Records are written together at this interval in seconds; 0: each at once"
    )
    daily: bool = Field(default=False, description="Whether each day begins a new file, too")


class JsonSinkConfig(FileSinkConfig):
    """One JSON object a line per frame."""

    kind: Literal["json"] = Field(description="JSON lines")


class CsvSinkConfig(FileSinkConfig):
    """One row per detection."""

    kind: Literal["csv"] = Field(description="A table")


class MediaSinkConfig(Table):
    """What the outputs of pictures and video share: a folder, and how much it may hold."""

    path: Text = Field(description="The folder; each camera has one of its own in it")
    max_days: Positive | None = Field(default=None, description="Older files are removed")
    max_gb: Positive | None = Field(
        default=None, description="The oldest files of a camera are removed beyond this size in GB"
    )
    min_free_gb: Annotated[float, Field(ge=0, lt=1e6)] = Field(
        default=0.5, description="The oldest files are removed while less than this is free on the disk"
    )
    overlay: bool = Field(default=True, description="Whether boxes are drawn")
    max_width: Annotated[int, Field(ge=16, le=100_000)] | None = Field(
        default=None, description="Wider pictures are scaled down to it"
    )


class RecordSinkConfig(MediaSinkConfig):
    """Video, all of it, in segments."""

    kind: Literal["record"] = Field(description="Video in segments")
    segment_s: Positive = Field(default=60.0, description="Length of a segment in seconds")
    fps: Positive | None = Field(
        default=None, description="Most frames per second of the video; all that are looked at by default"
    )
    container: Literal["mkv", "mp4"] = Field(default="mkv", description="Both play after a power cut")


class EventSinkConfig(MediaSinkConfig):
    """What the outputs that wait for something to happen share."""

    classes: tuple[str, ...] | None = Field(default=None, description="Only these labels count; all by default")
    min_score: Share = Field(default=0.5, description="Lower scores do not count")


class ClipsSinkConfig(EventSinkConfig):
    """A short video around each event."""

    kind: Literal["clips"] = Field(description="A video around each event")
    pre_s: Annotated[float, Field(ge=0, le=60)] = Field(
        default=5.0, description="Seconds before the event that belong to it"
    )
    post_s: Annotated[float, Field(ge=0, le=600)] = Field(default=5.0, description="Seconds after the last sighting")
    max_s: Positive = Field(default=60.0, description="A longer event is cut into clips of this length")
    container: Literal["mkv", "mp4"] = Field(default="mkv", description="Both play after a power cut")
    tmpfs: bool = Field(
        default=True, description="Whether a clip is put together in memory and written to the disk in one go"
    )


class SnapshotsSinkConfig(EventSinkConfig):
    """A picture of each event."""

    kind: Literal["snapshots"] = Field(description="A picture of each event")
    gap_s: Positive = Field(default=5.0, description="An event ends when nothing was seen for so long, in seconds")
    every_s: Positive = Field(default=30.0, description="A longer event gives a picture each so many seconds")
    crop: bool = Field(default=False, description="Only the box of the best detection, with a margin")
    quality: Annotated[int, Field(ge=1, le=100)] = Field(default=85, description="Of the JPEG")


SinkConfig = Annotated[
    JsonSinkConfig | CsvSinkConfig | RecordSinkConfig | ClipsSinkConfig | SnapshotsSinkConfig,
    Field(discriminator="kind"),
]
SINKS: dict[str, type[Table]] = {
    "json": JsonSinkConfig,
    "csv": CsvSinkConfig,
    "record": RecordSinkConfig,
    "clips": ClipsSinkConfig,
    "snapshots": SnapshotsSinkConfig,
}
"""Kind -> its table."""
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


class Config(Table):
    """The whole file."""

    service: ServiceConfig = ServiceConfig()
    models: dict[Name, ModelConfig] = Field(default_factory=lambda: {"default": ModelConfig()})
    cameras: dict[Name, CameraConfig] = {}
    sinks: dict[Name, SinkConfig] = {}


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT" or "[HOST]:PORT".

    Raises:
        ValueError: It is no such thing.
    """
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare and not host.startswith("[")) or not port.isdecimal() or int(port) > 65535:
        raise ValueError("expected HOST:PORT, like 127.0.0.1:8621")
    return bare, int(port)


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
