"""Decoding: the right frames, the right part of the picture, a plain word for every broken file."""

import os
import pickle
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image

from lingen_kit.data import decode
from lingen_kit.data.decode import probe, read_clip, stream
from lingen_kit.data.decoding import container
from lingen_kit.data.media import UnreadableVideo
from tests.data.conftest import H264, Encode, Encoding, numbered_frame, read_numbers

SIZE = {"height": 48, "width": 64}

X265 = (("preset", "ultrafast"), ("x265-params", "log-level=none:keyint=30:bframes=3"))
LAYERS = (("preset", "fast"), ("x265-params", "log-level=none:keyint=30:bframes=4:open-gop=1:temporal-layers=3"))
VP9 = (("cpu-used", "8"), ("deadline", "realtime"), ("g", "30"))
AV1 = (("preset", "12"), ("g", "30"))

ENCODINGS = {
    "h264_mp4": H264,
    "h264_mkv": Encoding("libx264", "yuv420p", ".mkv", H264.options),
    "h264_mov": Encoding("libx264", "yuv420p", ".mov", H264.options),
    "h264_ts": Encoding("libx264", "yuv420p", ".ts", H264.options),
    "h264_avi": Encoding("libx264", "yuv420p", ".avi", H264.options),
    "h264_10bit": Encoding("libx264", "yuv420p10le", ".mp4", H264.options),
    "h264_gray": Encoding("libx264", "gray", ".mp4", H264.options),
    "h264_open_gop": Encoding(
        "libx264", "yuv420p", ".mp4", (("g", "30"), ("bf", "3"), ("x264-params", "scenecut=0:open-gop=1"))
    ),
    "h264_interlaced": Encoding("libx264", "yuv420p", ".mp4", (("g", "30"), ("x264-params", "interlaced=1"))),
    "hevc_mp4": Encoding("libx265", "yuv420p", ".mp4", X265),
    "hevc_mkv": Encoding("libx265", "yuv420p", ".mkv", X265),
    "hevc_ts": Encoding("libx265", "yuv420p", ".ts", X265),
    "hevc_10bit_layers_mov": Encoding("libx265", "yuv420p10le", ".mov", LAYERS),
    "vp8_webm": Encoding("libvpx", "yuv420p", ".webm", (("cpu-used", "8"), ("auto-alt-ref", "1"), ("g", "30"))),
    "vp9_webm": Encoding("libvpx-vp9", "yuv420p", ".webm", VP9),
    "vp9_mp4": Encoding("libvpx-vp9", "yuv420p", ".mp4", VP9),
    "vp9_alpha": Encoding("libvpx-vp9", "yuva420p", ".webm", VP9),
    "av1_mp4": Encoding("libsvtav1", "yuv420p", ".mp4", AV1),
    "av1_mkv": Encoding("libsvtav1", "yuv420p10le", ".mkv", AV1),
    "av1_webm": Encoding("libsvtav1", "yuv420p", ".webm", AV1),
    "mpeg4_avi": Encoding("mpeg4", "yuv420p", ".avi", (("g", "20"),)),
    "mpeg4_b_frames_avi": Encoding("mpeg4", "yuv420p", ".avi", (("g", "20"), ("bf", "2"))),
    "mpeg4_mp4": Encoding("mpeg4", "yuv420p", ".mp4", (("g", "20"), ("bf", "2"))),
    "mpeg4_ts": Encoding("mpeg4", "yuv420p", ".ts", (("g", "20"),)),
    "mpeg2_ts": Encoding("mpeg2video", "yuv420p", ".ts", (("g", "20"), ("bf", "2"))),
    "mjpeg_mov": Encoding("mjpeg", "yuvj420p", ".mov"),
    "mjpeg_avi": Encoding("mjpeg", "yuvj420p", ".avi"),
    "gif": Encoding("gif", "rgb8", ".gif"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_random_access_finds_the_frames_of_sequential_decoding(encode: Encode, encoding: str) -> None:
    fps = 25 if encoding == "gif" else 30  # a gif counts in hundredths of a second
    path = encode(encoding=ENCODINGS[encoding], fps=fps, count=70, height=64)  # SVT-AV1 takes no less than 64
    whole = read_clip(path, frames=70, fps=fps, **SIZE)
    assert read_numbers(whole) == list(range(70))
    for first in (0, 1, 14, 29, 30, 31, 33, 59, 60, 61, 65):
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
    info = probe(encode(encoding=ENCODINGS[encoding], fps=25, count=50, height=64))
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


def true_frames(path: Path, moments: list[float]) -> list[int]:
    """Which of a file's frames are nearest to the moments, by decoding all of it with nothing of ours."""
    with av.open(str(path)) as container:
        frames = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]  # type: ignore[operator]
    times = [time - frames[0] for time in frames]
    return [min(range(len(times)), key=lambda i: (round(abs(times[i] - moment), 7), i)) for moment in moments]


def write_at(path: Path, stamps: list[int], base: Fraction, options: dict[str, str] | None = None) -> Path:
    """Numbered frames at given time stamps, in units of `base` seconds."""
    with av.open(str(path), "w", container_options=options or {}) as container:
        stream = container.add_stream("libx264", rate=30, options=dict(H264.options))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = base
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, 48, 64), format="rgb24")
            frame.pts, frame.time_base = stamp, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts"])
def test_variable_frame_rate(tmp_path: Path, suffix: str) -> None:
    gaps = np.random.default_rng(0).choice([10, 33, 34, 120, 400], size=120, p=[0.3, 0.3, 0.2, 0.15, 0.05])
    path = write_at(tmp_path / f"variable{suffix}", np.cumsum(gaps).tolist(), Fraction(1, 1000))
    for start in (0.0, 0.3, 1.01, 2.5, 4.123):
        moments = [start + index / 7 for index in range(9)]
        clip = read_clip(path, frames=9, fps=7, start=start, **SIZE)
        assert read_numbers(clip) == true_frames(path, moments), start
    assert probe(path).duration == pytest.approx((gaps[1:].sum() + gaps[-1]) / 1000, abs=0.5)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_file_that_does_not_begin_at_zero(tmp_path: Path, suffix: str) -> None:
    path = write_at(
        tmp_path / f"late{suffix}", list(range(250, 340)), Fraction(1, 30), {"avoid_negative_ts": "disabled"}
    )
    assert read_numbers(read_clip(path, frames=4, fps=30, **SIZE)) == [0, 1, 2, 3]
    assert read_numbers(read_clip(path, frames=4, fps=30, start=1.5, **SIZE)) == [45, 46, 47, 48]
    assert probe(path).duration == pytest.approx(3.0, abs=0.05)


def test_edit_list_hides_the_beginning(encode: Encode, tmp_path: Path) -> None:
    """A phone's trimmed video keeps the frames from its key frame on and hides them by an edit."""
    path = encode(count=90)
    content = bytearray(path.read_bytes())
    entry = content.index(b"elst") + 12  # after version, flags and count: duration, media time
    duration, media_time = struct.unpack_from(">Ii", content, entry)
    scale = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)[0]
    struct.pack_into(">Ii", content, entry, duration - 500, media_time + scale // 2)
    path.write_bytes(bytes(content))
    assert read_numbers(read_clip(path, frames=4, fps=30, **SIZE)) == [15, 16, 17, 18]
    for start in (0.1, 0.5, 1.2, 2.0):
        first = 15 + round(start * 30)
        assert read_numbers(read_clip(path, frames=4, fps=30, start=start, **SIZE)) == list(range(first, first + 4))
    assert probe(path).duration == pytest.approx(2.5, abs=0.04)


def test_bare_frames_are_counted(encode: Encode) -> None:
    """H.264 in no container has no time stamps: only decoding from the beginning tells which frame is which."""
    path = encode(encoding=Encoding("libx264", "yuv420p", ".h264", (("g", "10"),)), fps=25, count=40)
    assert probe(path).frames == 40
    assert probe(path).duration == pytest.approx(1.6)
    assert read_numbers(read_clip(path, frames=40, fps=25, **SIZE)) == list(range(40))
    assert read_numbers(read_clip(path, frames=3, fps=25, start=1.0, **SIZE)) == [25, 26, 27]


def test_cover_picture_of_a_song_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered_frame(1, 48, 64), format="rgb24")))
        container.mux(sound.encode(frame))
        for stream in (cover, sound):
            container.mux(stream.encode())
    with pytest.raises(UnreadableVideo, match="no video stream"):
        probe(path)


@pytest.mark.parametrize("count", [1, 2])
def test_very_short_files(encode: Encode, count: int) -> None:
    path = encode(count=count)
    assert probe(path).frames == count
    assert read_numbers(read_clip(path, frames=count, fps=30, **SIZE)) == list(range(count))
    held = read_clip(path, frames=5, fps=30, start=0.02, short="hold", **SIZE)
    assert read_numbers(held) == ([0] * 5 if count == 1 else [1] * 5)
    with pytest.raises(UnreadableVideo, match="ends after"):
        read_clip(path, frames=count + 1, fps=30, **SIZE)


def test_last_frame_of_a_slide_show_lasts_as_long_as_it_says(tmp_path: Path) -> None:
    images = [Image.fromarray(numbered_frame(number, 48, 64)) for number in range(3)]
    images[0].save(tmp_path / "slow.gif", save_all=True, append_images=images[1:], duration=[100, 100, 2000])
    path = tmp_path / "slow.gif"
    assert probe(path).duration == pytest.approx(2.2)
    assert read_numbers(read_clip(path, frames=4, fps=2, **SIZE)) == [0, 2, 2, 2]
    with pytest.raises(UnreadableVideo, match=r"ends after 2\.20 s"):
        read_clip(path, frames=6, fps=2, **SIZE)


def test_sound_does_not_disturb(tmp_path: Path) -> None:
    """Sound that lasts longer than the picture, in mkv, which tells one length for both."""
    path = tmp_path / "loud.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options=dict(H264.options))
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=8000)
        for number in range(60):
            container.mux(video.encode(av.VideoFrame.from_ndarray(numbered_frame(number, 48, 64), format="rgb24")))
        container.mux(video.encode())
        for number in range(40):
            noise = np.random.default_rng(number).normal(size=(1, 1024)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, number * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    assert probe(path).duration == pytest.approx(2.0, abs=0.05)
    assert read_numbers(read_clip(path, frames=3, fps=30, start=1.5, **SIZE)) == [45, 46, 47]


def test_long_gaps_are_not_decoded(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that no other needs are left out where the clip does not show them; the others stay the same."""
    path = encode(count=90)
    decoded = read_clip(path, frames=8, fps=8, start=1.2, **SIZE)

    def refuse(*_: object) -> Iterator[object]:
        raise AssertionError("decoded every frame")

    monkeypatch.setattr(container.VideoFile, "_decode", refuse)
    assert torch.equal(read_clip(path, frames=8, fps=8, start=1.2, **SIZE), decoded)
    monkeypatch.undo()
    monkeypatch.setattr(decode, "plannable", lambda _: False)
    assert torch.equal(read_clip(path, frames=8, fps=8, start=1.2, **SIZE), decoded)


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
    "mirrored": ((-1, 0, 0, 1), ["green", "red", "white", "blue"]),
    "flipped": ((1, 0, 0, -1), ["blue", "white", "red", "green"]),
    "transposed": ((0, 1, 1, 0), ["red", "blue", "green", "white"]),
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
    assert (info.width, info.height) == ((96, 48) if b == 0 else (48, 96))
    assert corner_colors(read_clip(path, frames=1, fps=30, height=32, width=32)) == expected
    mirrored = read_clip(path, frames=1, fps=30, height=32, width=32, flip=True)
    assert corner_colors(mirrored) == [expected[1], expected[0], expected[3], expected[2]]
    assert next(stream(path, shorter_side=24))[1].shape == ((24, 48, 3) if b == 0 else (48, 24, 3))


def test_slanted_picture_is_refused(encode: Encode) -> None:
    path = encode(count=2)
    content = path.read_bytes()
    matrix = content.index(b"tkhd") + 4 + 40
    words = (46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:matrix] + struct.pack(">9i", *words) + content[matrix + 36 :])
    for read in (probe, lambda file: read_clip(file, frames=1, fps=8, **SIZE), lambda file: list(stream(file))):
        with pytest.raises(UnreadableVideo, match=r"rotation of -?45 degrees is not a multiple of 90"):
            read(path)


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


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    data = content.index(b"mdat")
    for place in range(data + 200, data + 1200):
        content[place] ^= 0x5A
    path.write_bytes(bytes(content))


def test_damage_in_the_middle_is_found(encode: Encode) -> None:
    path = encode()
    damage(path)
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


@pytest.mark.parametrize(
    "wrong,message",
    [
        ({"frames": 0}, "frames is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": 0}, "fps is 0"),
        ({"height": 0}, "height is 0"),
        ({"start": -1.0}, "start is -1.0"),
        ({"start": float("inf")}, "start is inf"),
        ({"crop": (0.5, 1.5)}, "crop is"),
        ({"short": "loop"}, "short is 'loop'; choose one of hold, skip"),
        ({"decoder": "opencv"}, "decoder is 'opencv'; choose one of pyav, torchcodec"),
    ],
)
def test_wrong_arguments_are_named(encode: Encode, wrong: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"frames": 1, "fps": 8, **SIZE} | wrong
    with pytest.raises(ValueError, match=message) as caught:
        read_clip(encode(count=1), **arguments)  # type: ignore[arg-type]
    assert not isinstance(caught.value, UnreadableVideo)


def test_content_goes_before_the_name(encode: Encode, tmp_path: Path) -> None:
    video = encode(count=20).rename(tmp_path / "video.png")
    assert read_numbers(read_clip(video, frames=3, fps=30, start=0.3, **SIZE)) == [9, 10, 11]
    Image.fromarray(numbered_frame(5, 48, 64)).save(tmp_path / "image.png")
    image = (tmp_path / "image.png").rename(tmp_path / "image.mp4")
    assert read_numbers(read_clip(image, frames=1, fps=30, **SIZE)) == [5]


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "http:clip.mp4", "%03d.mp4", "k\u00e4se \u96ea\n.mp4", os.fsdecode(b"\xff.mp4")]
)
def test_any_name_that_a_file_can_have(
    encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    encode(count=10).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (name, tmp_path / name):
        assert read_numbers(read_clip(path, frames=2, fps=30, start=0.1, **SIZE)) == [3, 4]
        assert probe(path).frames == 10


def test_playlists_open_no_other_files(encode: Encode, tmp_path: Path) -> None:
    """A text file can make FFmpeg open others, even over the network."""
    target = encode(encoding=ENCODINGS["h264_ts"])
    playlists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target.name}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"ffconcat version 1.0\nfile {target.name}\n",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UnreadableVideo, match="no format of a video"):
            probe(tmp_path / name)


def test_encrypted_video_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb"}
    options["encryption_kid"] = "a7e61c373e219033c21091fa607bf3b8"
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number, 48, 64), format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(UnreadableVideo, match="encrypted"):
        probe(path)


def test_unknown_codec_is_called_that(encode: Encode) -> None:
    path = encode(count=3)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zz9x"))
    with pytest.raises(UnreadableVideo, match="no decoder"):
        probe(path)


def test_ffmpeg_keeps_quiet_about_broken_files(
    encode: Encode, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = encode("damaged")
    damage(damaged)
    capfd.readouterr()
    for path in (damaged, broken(encode, tmp_path, "header_only")):
        with pytest.raises(UnreadableVideo):
            read_clip(path, frames=90, fps=30, **SIZE)
    assert capfd.readouterr() == ("", "")


def test_stream_gives_every_frame_once(encode: Encode) -> None:
    got = list(stream(encode(count=40, height=50, width=70)))
    assert [time for time, _ in got] == pytest.approx([index / 30 for index in range(40)])
    assert all(picture.shape == (50, 70, 3) and picture.dtype == np.uint8 for _, picture in got)
    clip = torch.from_numpy(np.stack([picture for _, picture in got])).permute(3, 0, 1, 2) / 127.5 - 1
    assert read_numbers(clip) == list(range(40))


def test_stream_at_a_rate_and_size(encode: Encode) -> None:
    path = encode(count=40)
    got = list(stream(path, fps=6, shorter_side=24))
    assert [time for time, _ in got] == pytest.approx([index / 6 for index in range(8)])
    assert {picture.shape for _, picture in got} == {(24, 32, 3)}
    clip = torch.from_numpy(np.stack([picture for _, picture in got])).permute(3, 0, 1, 2) / 127.5 - 1
    assert read_numbers(clip) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert len(list(stream(path, fps=60))) == 80
    with pytest.raises(ValueError, match="fps is -1"):
        stream(path, fps=-1)
    with pytest.raises(ValueError, match="shorter_side is 0"):
        stream(path, shorter_side=0)


def test_stream_of_an_image_is_one_picture(tmp_path: Path) -> None:
    picture = numbered_frame(3, 48, 64)
    Image.fromarray(picture).save(tmp_path / "image.png")
    for fps in (None, 2):
        ((time, shown),) = stream(tmp_path / "image.png", fps=fps)
        assert time == 0
        assert np.array_equal(shown, picture)


def test_stream_that_is_left_closes_its_file(encode: Encode) -> None:
    path = encode()
    before = len(os.listdir("/proc/self/fd"))
    frames = stream(path)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before
