"""Whole files, small, of every form that edge reads: what the fuzz tests damage."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tempfile
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fixtures import CLASSES, constant_model, tiny_classifier, tiny_detector
from media import clip
from spec.metadata_buffers import tflite_metadata

from edge.bundled import BUNDLED, bundled_model
from edge.config.template import template
from edge.spec.archive import model_part, read_tail, with_tail

Seeds = dict[str, dict[str, bytes]]
"""Name -> file name -> content."""


@cache
def models() -> dict[str, tuple[bytes, bytes]]:
    """Return model without its archive -> (flatbuffer, description as JSON), sealed with no hash."""
    found = {}
    for family, dtype in (
        ("anchor_free", "float32"),
        ("anchor_free", "int8"),
        ("yolov8", "float16"),
        ("ssd_postprocess", "float32"),
        ("yolo_anchors", "uint8"),
    ):
        tiny = tiny_detector(family, dtype)
        found[tiny.spec.name] = (tiny.model, tiny.spec.model_dump_json().encode())
    for dtype in ("float32", "int8"):
        tiny = tiny_classifier(dtype)
        found[tiny.spec.name] = (tiny.model, tiny.spec.model_dump_json().encode())
    for name in BUNDLED:
        path = bundled_model(name)
        assert path is not None
        description = json.loads(read_tail(path)["metadata.json"])
        # A damaged file that has its hash is refused for that alone.
        description["provenance"].pop("model_sha256", None)
        found[name] = (model_part(path.read_bytes()), json.dumps(description).encode())
    return found


def whole_model(name: str, flatbuffer: bytes | None = None) -> dict[str, bytes]:
    """Return a model file with its description; `flatbuffer` in place of its own."""
    own, description = models()[name]
    return {"model.tflite": (own if flatbuffer is None else flatbuffer) + _archive(description)}


def model_with(name: str, description: bytes) -> dict[str, bytes]:
    """Return a model file with another description."""
    return {"model.tflite": models()[name][0] + _archive(description)}


@lru_cache(64)
def _archive(description: bytes) -> bytes:
    return with_tail(b"model", {"metadata.json": description})[len(b"model") :]


@cache
def bundled_files() -> Seeds:
    """Return the shipped files as they are, hash, self-test and all."""
    found = {}
    for name in BUNDLED:
        path = bundled_model(name)
        assert path is not None
        found[name] = {"model.tflite": path.read_bytes()}
    return found


def ultralytics() -> dict[str, Any]:
    """Return metadata as Ultralytics writes it."""
    return {
        "description": "Ultralytics YOLOv8n model trained on coco.yaml",
        "version": "8.2.23",
        "license": "AGPL-3.0",
        "stride": 32,
        "task": "detect",
        "batch": 1,
        "imgsz": [96, 128],
        "names": dict(enumerate(CLASSES)),
        "args": {"nms": False},
    }


ULTRALYTICS_MODEL = tiny_detector("yolov8").model


def ultralytics_file(member: str, content: bytes) -> dict[str, bytes]:
    """Return a model with a member as Ultralytics adds it."""
    return {"model.tflite": with_tail(ULTRALYTICS_MODEL, {member: content})}


SSD = {
    "boxes": np.tile(np.float32([0.1, 0.1, 0.5, 0.5]), (1, 10, 1)),
    "classes": np.zeros((1, 10), np.float32),
    "scores": np.full((1, 10), 0.9, np.float32),
    "count": np.float32([10]),
}


@cache
def tflite_buffer() -> bytes:
    """Return the buffer that TensorFlow's tools describe an SSD with."""
    return tflite_metadata([127.5], [127.5], ("location", "category", "score", "number of detections"), ["labels.txt"])


def tflite_file(buffer: bytes, labels: bytes = b"???\nperson\ncar\n") -> dict[str, bytes]:
    """Return a model with such a buffer and a label file."""
    return {
        "model.tflite": with_tail(constant_model(SSD, metadata={"TFLITE_METADATA": buffer}), {"labels.txt": labels})
    }


LABELS: Seeds = {
    "plain": {"labels.txt": b"person\nbicycle\ncar\n"},
    "numbered": {"labels.txt": b"0 person\n1: bicycle\n7  car\n"},
    "unicode": {"labels.txt": "\ufeffkäse\r\nпоезд\r\n".encode()},
}


@cache
def pictures() -> Seeds:
    """Return a small picture of each kind that OpenCV reads."""
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 256, (36, 48, 3), np.uint8), (0, 0), 2)
    found = {}
    for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm", ".gif"):
        done, data = cv2.imencode(suffix, image)
        if done:
            found[suffix] = {f"picture{suffix}": data.tobytes()}
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    found["progressive"] = {"picture.jpg": data.tobytes()}
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    plain = found[".jpg"]["picture.jpg"]
    found["turned"] = {"picture.jpg": plain[:2] + segment + plain[2:]}
    return found


@cache
def videos() -> Seeds:
    """Return a small video of some kinds."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in ((".mp4", "mp4v"), (".avi", "MJPG"), (".mkv", "mp4v"), (".webm", "VP80")):
            name = f"video{suffix}"
            found[suffix] = {name: clip(Path(folder) / name, frames=8, codec=codec).read_bytes()}
    return found


def _jpeg() -> bytes:
    return pictures()[".jpg"]["picture.jpg"]


@cache
def labelled() -> Seeds:
    """Return labelled pictures of every form."""
    arrays = io.BytesIO()
    x, y = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    np.savez_compressed(arrays, x_train=x, y_train=y, x_test=x, y_test=y, names=np.array(["a", "b"]))
    idx3 = struct.pack(">4B3I", 0, 0, 8, 3, 4, 8, 8) + x.tobytes()
    idx1 = struct.pack(">4BI", 0, 0, 8, 1, 4) + y.astype(np.uint8).tobytes()
    return {
        "npz": {"set.npz": arrays.getvalue()},
        "idx": {"train-images-idx3-ubyte": idx3, "train-labels-idx1-ubyte": idx1},
        "idx.gz": {
            "train-images-idx3-ubyte.gz": gzip.compress(idx3, mtime=0),
            "train-labels-idx1-ubyte.gz": gzip.compress(idx1, mtime=0),
        },
        "coco": {"annotations/instances_train.json": json.dumps(coco()).encode(), "train/a.jpg": _jpeg()},
    }


def coco() -> dict[str, Any]:
    """Return COCO instances of one picture with one box."""
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 48, "height": 36}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 5, 20.5, 10], "area": 205, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }


YOLO_CONFIG = b"path: .\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n"
VOC = (
    b"<annotation><filename>a.jpg</filename><size><width>48</width><height>36</height><depth>3</depth></size>"
    b"<object><name>cat</name><difficult>0</difficult><bndbox><xmin>4</xmin><ymin>5</ymin><xmax>24</xmax>"
    b"<ymax>15</ymax></bndbox></object></annotation>"
)


@cache
def objects() -> Seeds:
    """Return labelled objects of every form."""
    coco_json = json.dumps(coco()).encode()
    return {
        "coco": {"annotations/instances_train.json": coco_json, "images/train/a.jpg": _jpeg()},
        "roboflow": {"train/_annotations.coco.json": coco_json, "train/a.jpg": _jpeg()},
        "yolo": {
            "data.yaml": YOLO_CONFIG,
            "images/train/a.jpg": _jpeg(),
            "labels/train/a.txt": b"0 0.5 0.5 0.2 0.3\n1 0.25 0.25 0.1 0.1\n",
        },
        "voc": {"Annotations/a.xml": VOC, "JPEGImages/a.jpg": _jpeg(), "ImageSets/Main/train.txt": b"a\n"},
    }


CFG = b"""[net]
width=32
height=32
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=7
size=1
stride=1
pad=0
activation=linear
[yolo]
mask=0
anchors=10,13, 16,30
classes=2
num=2
"""


@cache
def darknet() -> Seeds:
    """Return a network with a head, and its numbers."""
    count = 4 * 4 + 4 * 3 * 9 + 7 + 7 * 4
    numbers = np.random.default_rng(2).uniform(0.1, 0.5, count).astype("<f4")
    return {"yolo": {"net.cfg": CFG, "net.weights": struct.pack("<3iq", 0, 2, 5, 0) + numbers.tobytes()}}


def config_values() -> dict[str, Any]:
    """Return a configuration that uses most of what there is."""
    return {
        "service": {"log": "json", "http": "127.0.0.1:8621", "stuck_s": 20},
        "models": {"default": {"path": "edge-yolo-n", "threads": 1, "interpreters": "auto"}},
        "cameras": {
            "front": {"source": "rtsp://u:p@10.0.0.5/s", "conf": 0.3, "classes": ["person"], "max_fps": 10},
            "back": {"source": "0", "model": "default", "size": "1280x720", "sinks": ["log"], "every": 2},
        },
        "sinks": {"log": {"kind": "json", "path": "d/{camera}.jsonl"}, "clips": {"kind": "clips", "path": "c"}},
    }


def toml(value: dict[str, Any]) -> bytes:
    """Write TOML, of values that it cannot hold too: as text that is no TOML then."""
    return "".join(f"{_key(key)} = {_toml(item)}\n" for key, item in value.items()).encode("utf-8", "replace")


def _key(key: object) -> str:
    return json.dumps(str(key))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def config_text() -> bytes:
    """Return the commented example with everything in it taken from its comments."""
    return template("edge.toml").encode()
