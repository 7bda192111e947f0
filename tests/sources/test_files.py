"""Pictures, folders, patterns and video files as sources."""

from __future__ import annotations

import logging
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import clip, film, noise, picture

from edge.errors import SourceError
from edge.sources import open_source
from edge.sources.base import natural_key
from edge.sources.images import read_image
from edge.sources.urls import check_url, without_credentials


def test_a_picture_is_one_still_frame(tmp_path: Path) -> None:
    path = picture(tmp_path / "a b [1] é.png", 77)
    with open_source(str(path)) as source:
        frames = list(source)
    assert (source.frame_count, source.live, source.fps, source.size_wh) == (1, False, None, (32, 24))
    assert [(f.index, f.source, f.timestamp_s, f.still) for f in frames] == [(0, str(path), 0.0, True)]
    assert (frames[0].image == 77).all()


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("grey.png", np.full((8, 10), 60, np.uint8)),
        ("alpha.png", np.dstack([np.full((8, 10, 3), 60, np.uint8), np.zeros((8, 10), np.uint8)])),
        ("deep.png", np.full((8, 10, 3), 60 * 257, np.uint16)),
        ("deep_grey.tiff", np.full((8, 10), 60 * 257, np.uint16)),
    ],
)
def test_every_pixel_format_becomes_bgr_bytes(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    path = tmp_path / name
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    image = read_image(path)
    assert image.shape == (8, 10, 3)
    assert image.dtype == np.uint8
    assert (image == 60).all()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 250
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    # An APP1 segment with the one tag Orientation (0x112) = 6: turn right.
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    image = read_image(path)
    assert image.shape == (32, 16, 3)
    assert image[:12].mean() > 240
    assert image[20:].mean() < 10


def test_a_folder_is_read_in_natural_order_and_a_bad_picture_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (10, 9, 1):
        picture(tmp_path / f"frame{number}.png", number)
    (tmp_path / "frame2.png").write_bytes(b"\x89PNG garbage")
    (tmp_path / "notes.txt").write_text("no picture")
    picture(tmp_path / ".hidden.png")
    with caplog.at_level(logging.WARNING), open_source(str(tmp_path)) as source:
        frames = list(source)
    assert [Path(f.source).name for f in frames] == ["frame1.png", "frame9.png", "frame10.png"]
    assert [f.index for f in frames] == [0, 2, 3]
    assert [int(f.image[0, 0, 0]) for f in frames] == [1, 9, 10]
    assert source.skipped == 1
    assert len(caplog.records) == 1
    assert "frame2.png" in caplog.text


def test_a_pattern_matches_files_at_any_depth_and_may_mix_videos(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    clip(tmp_path / "2.mp4", 5)
    with open_source(str(tmp_path / "**" / "*.*")) as source:
        names = [(Path(f.source).name, f.index, f.still) for f in source]
    assert source.frame_count is None
    assert names == [*(("2.mp4", i, False) for i in range(5)), ("1.png", 1, True)]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    picture(tmp_path / "cat1.png", 1)
    path = picture(tmp_path / "cat[1].png", 2)
    with open_source(str(path)) as source:
        assert [int(f.image[0, 0, 0]) for f in source] == [2]


def test_a_video_gives_its_frames_times_and_rate(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", 12, 12.5)
    with open_source(str(path)) as source:
        frames = list(source)
    assert (source.fps, source.frame_count, source.size_wh, source.live) == (12.5, 12, (64, 48), False)
    assert [f.index for f in frames] == list(range(12))
    assert [round(f.timestamp_s, 3) for f in frames] == [round(i * 0.08, 3) for i in range(12)]
    assert [round(float(f.image.mean()) / 10) for f in frames] == [i + 2 for i in range(12)]
    assert all(f.fps == 12.5 and not f.still for f in frames)


def test_rotation_in_the_container_is_applied(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    data = path.read_bytes()
    upright = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    # Only the matrix of the track header counts; it is the second of the file.
    place = data.index(upright, data.index(b"tkhd"))
    turned = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])
    with open_source(str(path)) as source:
        assert source.size_wh == (48, 64)
        assert {f.size_wh for f in source} == {(48, 64)}


def test_a_video_that_is_cut_gives_what_it_holds_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = clip(tmp_path / "clip.avi", 40, codec="MJPG")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING), open_source(str(path)) as source:
        frames = list(source)
    assert 5 < len(frames) < 35
    assert len(caplog.records) == 1
    assert f"announces 40 frames and gives {len(frames)}" in caplog.text


def test_frames_that_an_edit_list_hides_are_not_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # What a phone writes after a cut: all frames are in the file, the first half is not to be shown.
    path = film(tmp_path / "clip.mp4", (noise(i) for i in range(48)), 12.0)
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 12
    duration, _ = struct.unpack_from(">II", data, place)
    media = data.index(b"mdhd") + 16
    ticks, length = struct.unpack_from(">II", data, media)
    struct.pack_into(">II", data, place, duration // 2, length // 2)
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24)):
        struct.pack_into(">I", data, data.index(box) + offset, duration // 2)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING), open_source(str(path)) as source:
        frames = list(source)
    assert source.frame_count == 48
    assert 20 <= len(frames) <= 28
    assert not caplog.records


def test_a_whole_video_causes_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, codec in (("a.mp4", "mp4v"), ("a.mkv", "mp4v"), ("a.avi", "MJPG"), ("a.webm", "VP80")):
        with caplog.at_level(logging.WARNING), open_source(str(clip(tmp_path / name, 30, codec=codec))) as source:
            assert len(list(source)) == 30
    assert not caplog.records


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def cut(path: Path, part: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


def no_frames(path: Path) -> None:
    clip(path, 0)


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("missing.mp4", lambda p: None, "no such file"),
        ("empty.mp4", lambda p: p.touch(), "empty"),
        ("empty.jpg", lambda p: p.touch(), "empty"),
        ("empty", lambda p: p.touch(), "empty"),
        ("garbage.mp4", garbage, "cannot open"),
        ("garbage.jpg", garbage, "neither a picture nor a video"),
        ("garbage", garbage, "neither a picture nor a video"),
        ("text.txt", lambda p: p.write_text("FFmpeg would play this as ANSI art\n" * 99), "neither"),
        ("noindex.mp4", lambda p: cut(clip(p, 40), 0.6), "cut short or damaged"),
        ("noframe.mp4", no_frames, "noframe.mp4"),
        ("cut.jpg", lambda p: cut(picture(p, size_wh=(200, 200)), 0.7), "cut short"),
        ("cut.png", lambda p: cut(picture(p, size_wh=(200, 200)), 0.5), "cut short or damaged"),
        ("folder", lambda p: p.mkdir(), "found no file"),
        ("texts", lambda p: (p.mkdir(), (p / "a.txt").touch()), "1 other files"),
        ("bad", lambda p: (p.mkdir(), (p / "a.jpg").write_bytes(b"x")), "none of its 1 files"),
        ("*.jpg", lambda p: None, "no file matches"),
        ("", lambda p: None, ""),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_at_once(tmp_path: Path, name: str, make, said: str) -> None:
    path = tmp_path / name if name else tmp_path / "x"
    make(path)
    with pytest.raises(SourceError) as caught:
        open_source(str(path) if name else "")
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert name in message
    assert caught.value.exit_code == 2


def test_a_picture_with_a_thumbnail_inside_is_recognised_as_cut(tmp_path: Path) -> None:
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))[1].tobytes()
    thumbnail = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    inside = b"Exif\0\0" + thumbnail
    data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(inside) + 2) + inside + whole[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == (99, 99, 3)
    path.write_bytes(data[:-500])
    with pytest.raises(SourceError, match="cut short"):
        read_image(path)
    # What cameras put behind the picture does not matter.
    path.write_bytes(data + b"trailer" * 100)
    assert read_image(path).shape == (99, 99, 3)


def test_a_picture_without_a_suffix_is_recognised_by_content(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 5)
    clip(tmp_path / "b.mp4", 3)
    shutil.move(tmp_path / "a.png", tmp_path / "image")
    shutil.move(tmp_path / "b.mp4", tmp_path / "video")
    with open_source(str(tmp_path / "image")) as image, open_source(str(tmp_path / "video")) as video:
        assert [len(list(image)), len(list(video))] == [1, 3]


def test_natural_order() -> None:
    names = ["b1", "a10", "A9", "a2", "a", "²", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a2", "A9", "a10", "b1", "²"]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://admin:s3cret@cam.local:554/live", "rtsp://***@cam.local:554/live"),
        ("http://cam/v?user=admin&pwd=s3cret&ch=1", "http://cam/v?user=***&pwd=***&ch=1"),
        ("http://cam/v?access_token=s3cret", "http://cam/v?access_token=***"),
        ("http://cam/v?ch=1#s3cret", "http://cam/v?ch=1"),
        ("http://a:s3cret@b@c/x", "http://***@c/x"),
        ("http://u:s3cret@[bad/x", "http://***"),
        ("photos/a@b:c.jpg", "photos/a@b:c.jpg"),
        ("rtsp://bob:s3/cret@cam:554/a?b=1", "rtsp://***@cam:554/a?b=1"),
        ("rtsp://bob:s3?cret@cam/a", "rtsp://***@cam/a"),
        ("rtsp://bob:s3#cret@cam/a", "rtsp://***@cam/a"),
        ("rtsp://bob:12/s3cret@10.0.0.1/a", "rtsp://***@10.0.0.1/a"),
        ("rtsp:/bob:s3cret@cam/a", "rtsp:/***@cam/a"),
        ("rtsp:bob:s3cret@cam/a", "rtsp:***@cam/a"),
        ("rtsp://h/user=bob&password=s3c_ret&channel=1", "rtsp://h/user=***&password=***&channel=1"),
        (
            "rtsp://h/user=bob_password=s3c_ret_channel=1_stream=0.sdp",
            "rtsp://h/user=***_password=***_channel=1_stream=0.sdp",
        ),
        (
            "rtsp://h/user=bob_password=s3cret_channel=1.sdp?real_stream",
            "rtsp://h/user=***_password=***_channel=1.sdp?real_stream",
        ),
        ("http://cam/v?u=bob&p=s3c?r/et&ch=1", "http://cam/v?u=***&p=***&ch=1"),
        ("http://cam/v?pw=s3cret", "http://cam/v?pw=***"),
        ("http://cam:8080/top/stop?map=1&group=2", "http://cam:8080/top/stop?map=1&group=2"),
        ("rtsp://cam/@s3cret", "rtsp://cam/@s3cret"),
        ("http://cam/?user=" + "user" * 5000, "http://***"),
    ],
)
def test_credentials_are_never_shown(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown


@pytest.mark.parametrize(
    "url", ["rtsp://bob:hun/ter2@127.0.0.1/x", "rtsp://bob:12?34@127.0.0.1/x", "http://bob:1#2@h.lan/x"]
)
def test_a_password_that_must_be_encoded_is_told_to_be(url: str) -> None:
    with pytest.raises(SourceError, match="write %2F for /") as caught:
        check_url(url)
    assert "bob" not in str(caught.value) and "ter2" not in str(caught.value)
    assert check_url("rtsp://bob:hun%2Fter2@127.0.0.1/x") == ("127.0.0.1", 554)
    assert check_url("http://10.0.0.1:81/a@b.jpg") == ("10.0.0.1", 81)
