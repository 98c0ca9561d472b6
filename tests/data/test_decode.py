"""Decoding: the right frames, the right part of the picture, a plain word for every broken file."""

import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from lingen_kit.data.decode import probe, read_clip
from lingen_kit.data.media import UnreadableVideo
from tests.data.conftest import H264, Encode, Encoding, read_numbers

SIZE = {"height": 48, "width": 64}

ENCODINGS = {
    "h264_mp4": H264,
    "h264_mkv": Encoding("libx264", "yuv420p", ".mkv", H264.options),
    "h264_ts": Encoding("libx264", "yuv420p", ".ts", H264.options),
    "h264_10bit": Encoding("libx264", "yuv420p10le", ".mp4", H264.options),
    "h264_gray": Encoding("libx264", "gray", ".mp4", H264.options),
    "h264_avi": Encoding("libx264", "yuv420p", ".avi", H264.options),
    "mpeg4_avi": Encoding("mpeg4", "yuv420p", ".avi", (("g", "20"),)),
    "vp9_webm": Encoding("libvpx-vp9", "yuv420p", ".webm", (("cpu-used", "8"), ("deadline", "realtime"))),
    "vp9_alpha": Encoding("libvpx-vp9", "yuva420p", ".webm", (("cpu-used", "8"), ("deadline", "realtime"))),
    "mjpeg_mov": Encoding("mjpeg", "yuvj420p", ".mov"),
    "gif": Encoding("gif", "rgb8", ".gif"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_random_access_finds_the_frames_of_sequential_decoding(encode: Encode, encoding: str) -> None:
    fps = 25 if encoding == "gif" else 30  # a gif counts in hundredths of a second
    path = encode(encoding=ENCODINGS[encoding], fps=fps, count=70)
    whole = read_clip(path, frames=70, fps=fps, **SIZE)
    assert read_numbers(whole) == list(range(70))
    for first in (0, 1, 14, 29, 30, 31, 59, 65):
        clip = read_clip(path, frames=5, fps=fps, start=first / fps, **SIZE)
        assert torch.equal(clip, whole[:, first : first + 5]), first


@pytest.mark.parametrize(
    "fps,start,expected",
    [
        (30, 0.0, [0, 1, 2, 3]),
        (15, 1.0, [30, 32, 34, 36]),
        (7.5, 0.1, [3, 7, 11, 15]),
        (60, 0.5, [15, 15, 16, 16]),
        (8, 1.0, [30, 34, 37, 41]),
        (30, 0.51, [15, 16, 17, 18]),
        (30, 0.52, [16, 17, 18, 19]),
    ],
)
def test_frames_are_the_nearest_at_the_wanted_rate(
    encode: Encode, fps: float, start: float, expected: list[int]
) -> None:
    assert read_numbers(read_clip(encode(), frames=4, fps=fps, start=start, **SIZE)) == expected


def test_clip_is_float32_within_bounds(encode: Encode) -> None:
    clip = read_clip(encode(count=4), frames=4, fps=30, **SIZE)
    assert clip.shape == (3, 4, 48, 64)
    assert clip.dtype == torch.float32
    assert -1 <= clip.min() < -0.5 < 0.5 < clip.max() <= 1


def test_probe_reads_size_rate_and_length(encode: Encode) -> None:
    info = probe(encode(count=45, height=50, width=70))
    assert (info.frames, info.width, info.height) == (45, 70, 50)
    assert info.fps == pytest.approx(30)
    assert info.duration == pytest.approx(1.5)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_probed_duration_is_right_in_every_container(encode: Encode, encoding: str) -> None:
    info = probe(encode(encoding=ENCODINGS[encoding], fps=25, count=50))
    assert info.duration == pytest.approx(2.0, abs=0.05)
    assert abs(info.frames - 50) <= 1
    assert info.fps == pytest.approx(25)


def test_real_videos(real_videos: dict[str, Path]) -> None:
    assert {
        name: (info.frames, info.width, info.height)
        for name, info in ((name, probe(path)) for name, path in real_videos.items())
    } == {
        "bigbuckbunny.mp4": (132, 1280, 720),
        "bikes.mp4": (250, 640, 272),
        "carphone_pristine.mp4": (120, 193, 144),  # stored 176 wide, with pixels wider than high
    }
    for path in real_videos.values():
        clip = read_clip(path, frames=4, fps=8, height=32, width=32, start=1.0)
        assert clip.shape == (3, 4, 32, 32)
        assert clip.std() > 0.1
        assert not torch.equal(clip[:, 0], clip[:, 3])


def test_random_access_in_a_real_video(real_videos: dict[str, Path]) -> None:
    """bikes.mp4 has six key frames; the clip starts between two of them."""
    path = real_videos["bikes.mp4"]
    whole = read_clip(path, frames=120, fps=25, height=34, width=80)
    for first in (49, 77, 110):
        assert torch.equal(
            read_clip(path, frames=3, fps=25, height=34, width=80, start=first / 25),
            whole[:, first : first + 3],
        )


def quadrants(height: int, width: int, count: int = 3) -> Iterator[np.ndarray]:
    """Red, green, blue and white quarters: top left, top right, bottom left, bottom right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    image[height // 2 :, width // 2 :] = (255, 255, 255)
    return iter([image] * count)


def corner_colors(clip: torch.Tensor) -> list[str]:
    """Colors a little inside the corners: top left, top right, bottom left, bottom right."""
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white"}
    _, _, height, width = clip.shape
    places = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return [names[tuple(int(v > 0) for v in clip[:, 0, y, x])] for y, x in places]  # type: ignore[index]


@pytest.mark.parametrize("height,width", [(64, 64), (48, 96), (96, 48), (50, 70), (34, 130)])
def test_the_middle_is_kept_for_any_shape(encode: Encode, height: int, width: int) -> None:
    path = encode(height=height, width=width, frames=quadrants(height, width))
    clip = read_clip(path, frames=1, fps=30, height=32, width=32)
    assert corner_colors(clip) == ["red", "green", "blue", "white"]
    # The border between the quarters is in the middle of the clip.
    red = (clip[0, 0] > 0) & (clip[1, 0] < 0)
    assert 14 <= int(red[8].sum()) <= 18
    assert 14 <= int(red[:, 8].sum()) <= 18


def test_small_videos_are_enlarged(encode: Encode) -> None:
    path = encode(height=16, width=16, frames=quadrants(16, 16))
    assert corner_colors(read_clip(path, frames=1, fps=30, height=64, width=64)) == [
        "red",
        "green",
        "blue",
        "white",
    ]


def test_resizing_does_not_alias(encode: Encode) -> None:
    """One-pixel stripes, shrunk, become gray; picking pixels would keep them black or white."""
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    lossless = Encoding("ffv1", "bgr0", ".mkv")
    path = encode(encoding=lossless, height=128, width=128, frames=iter([stripes] * 2))
    clip = read_clip(path, frames=1, fps=30, height=30, width=30)
    assert clip.abs().max() < 0.2


# The display matrix of an mp4 track, row by row: where (x, y) of the stored picture goes.
TURNS = {
    "clockwise": ((0, 1, -1, 0), ["blue", "red", "white", "green"]),
    "upside_down": ((-1, 0, 0, -1), ["white", "blue", "green", "red"]),
    "counterclockwise": ((0, -1, 1, 0), ["green", "white", "red", "blue"]),
}


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_of_phone_videos_is_undone(encode: Encode, turn: str) -> None:
    (a, b, c, d), expected = TURNS[turn]
    path = encode(height=48, width=96, frames=quadrants(48, 96))
    content = path.read_bytes()
    matrix = content.index(b"tkhd") + 4 + 40
    words = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:matrix] + struct.pack(">9i", *words) + content[matrix + 36 :])
    info = probe(path)
    assert (info.width, info.height) == ((96, 48) if turn == "upside_down" else (48, 96))
    assert corner_colors(read_clip(path, frames=1, fps=30, height=32, width=32)) == expected


def test_short_video_is_refused_or_held(encode: Encode) -> None:
    path = encode(count=20)
    with pytest.raises(UnreadableVideo, match=r"it ends after 0\.67 s; 8 frames at 8 per second from 0\.00 s"):
        read_clip(path, frames=8, fps=8, **SIZE)
    held = read_clip(path, frames=8, fps=8, short="hold", **SIZE)
    assert read_numbers(held) == [0, 4, 7, 11, 15, 19, 19, 19]
    with pytest.raises(UnreadableVideo, match="ends after"):
        read_clip(path, frames=2, fps=30, start=5.0, **SIZE)


def test_clip_as_long_as_the_video_fits(encode: Encode) -> None:
    path = encode(count=20, fps=30)
    assert read_numbers(read_clip(path, frames=20, fps=30, **SIZE)) == list(range(20))
    assert read_numbers(read_clip(path, frames=20, fps=29.97, **SIZE)) == list(range(20))


@pytest.mark.parametrize("suffix,codec,pixels", [(".png", "png", "rgb24"), (".jpg", "mjpeg", "yuvj444p")])
def test_image_is_a_clip_of_one_frame(tmp_path: Path, suffix: str, codec: str, pixels: str) -> None:
    path = tmp_path / f"image{suffix}"
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        container.mux(stream.encode(av.VideoFrame.from_ndarray(next(quadrants(64, 64)), format="rgb24")))
        container.mux(stream.encode())
    clip = read_clip(path, frames=1, fps=8, height=32, width=32)
    assert corner_colors(clip) == ["red", "green", "blue", "white"]


def broken(encode: Encode, tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "broken.mp4"
    good = encode().read_bytes()
    match kind:
        case "zero_bytes":
            path.write_bytes(b"")
        case "text":
            path.write_text("this is not a video\n" * 100)
        case "header_only":
            path.write_bytes(good[:40])
        case "no_index":
            path.write_bytes(good[: len(good) // 2])
        case "no_frames":
            with av.open(str(path), "w") as container:
                stream = container.add_stream("libx264", rate=30)
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                container.start_encoding()
        case "sound_only":
            with av.open(str(path), "w") as container:
                stream = container.add_stream("aac", rate=8000)
                sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                sound.sample_rate = 8000
                container.mux(stream.encode(sound))
                container.mux(stream.encode())
        case "folder":
            path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind,reason",
    [
        ("missing", "no such file"),
        ("folder", "it is a folder"),
        ("zero_bytes", "empty"),
        ("text", "Invalid data"),
        ("header_only", "Invalid data"),
        ("no_index", "Invalid data"),
        ("no_frames", "no video stream"),
        ("sound_only", "no video stream"),
    ],
)
def test_broken_files_are_named_with_the_reason(encode: Encode, tmp_path: Path, kind: str, reason: str) -> None:
    path = broken(encode, tmp_path, kind)
    for read in (probe, lambda file: read_clip(file, frames=4, fps=8, **SIZE)):
        with pytest.raises(UnreadableVideo, match=reason) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_truncated_video_reads_up_to_the_break(encode: Encode, tmp_path: Path) -> None:
    """A file cut off by a full disk keeps a header that promises more than there is."""
    whole = encode(encoding=ENCODINGS["h264_mkv"])
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert read_numbers(read_clip(cut, frames=4, fps=30, **SIZE)) == [0, 1, 2, 3]
    with pytest.raises(UnreadableVideo, match=r"cut\.mkv"):
        read_clip(cut, frames=4, fps=30, start=2.8, **SIZE)


def test_damage_in_the_middle_is_found(encode: Encode) -> None:
    path = encode()
    content = bytearray(path.read_bytes())
    data = content.index(b"mdat")
    for place in range(data + 200, data + 1200):
        content[place] ^= 0x5A
    path.write_bytes(bytes(content))
    with pytest.raises(UnreadableVideo):
        read_clip(path, frames=90, fps=30, **SIZE)


def test_files_are_closed(encode: Encode, tmp_path: Path) -> None:
    good, bad = encode(), broken(encode, tmp_path, "text")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        probe(good)
        read_clip(good, frames=2, fps=8, start=1.0, **SIZE)
        for read in (probe, lambda file: read_clip(file, frames=2, fps=8, **SIZE)):
            with pytest.raises(UnreadableVideo):
                read(bad)
    assert len(os.listdir("/proc/self/fd")) == before


def test_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UnreadableVideo("clip.mp4", "truncated")))
    assert (error.path, error.reason, str(error)) == (
        "clip.mp4",
        "truncated",
        "cannot read clip.mp4: truncated",
    )
