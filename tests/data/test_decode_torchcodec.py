"""Decoding with torchcodec: the same frames as with PyAV, upright, cropped and resized alike."""

import io
import struct
import sys
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from lingen_kit.data.decode import read_clip
from lingen_kit.data.media import FilePart, UnreadableVideo
from lingen_kit.errors import MissingPackage
from tests.data.conftest import H264, Encode, Encoding, read_numbers
from tests.data.test_decode import ENCODINGS, SIZE, TURNS, corner_colors, damage, quadrants, true_frames, write_at

try:
    import torchcodec.decoders  # noqa: F401
except (ImportError, RuntimeError, OSError) as error:
    WHY_NOT = f"torchcodec cannot be imported: {str(error).strip().splitlines()[0]}"
else:
    WHY_NOT = ""

needs_torchcodec = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def clips(path: Path, **arguments: object) -> list[torch.Tensor]:
    """The clip as each of the two decoders gives it."""
    return [read_clip(path, decoder=decoder, **arguments) for decoder in ("pyav", "torchcodec")]  # type: ignore[arg-type]


@needs_torchcodec
@pytest.mark.parametrize("name", ["h264_mp4", "h264_mkv", "h264_open_gop", "hevc_mp4", "vp9_webm", "mpeg4_mp4"])
def test_same_frames_from_any_place(encode: Encode, name: str) -> None:
    path = encode(encoding=ENCODINGS[name], count=70)
    for first in (0, 14, 30, 31, 59, 65):
        ours, theirs = clips(path, frames=5, fps=30, start=first / 30, **SIZE)
        assert read_numbers(theirs) == list(range(first, first + 5))
        assert (ours - theirs).abs().max() < 0.05


@needs_torchcodec
def test_same_frames_of_varying_rate(tmp_path: Path) -> None:
    gaps = np.random.default_rng(1).choice([10, 33, 120], size=100)
    path = write_at(tmp_path / "variable.mp4", np.cumsum(gaps).tolist(), Fraction(1, 1000))
    for start in (0.0, 0.5, 2.01):
        clip = read_clip(path, frames=9, fps=7, start=start, decoder="torchcodec", **SIZE)
        assert read_numbers(clip) == true_frames(path, [start + index / 7 for index in range(9)])


@needs_torchcodec
def test_real_videos_look_the_same(real_videos: dict[str, Path]) -> None:
    """One has pixels that are not square. The decoders differ in how they enlarge chroma: by 1 of 255 on average."""
    for path in real_videos.values():
        ours, theirs = clips(path, frames=6, fps=8, height=64, width=96, start=1.0, crop=(0.2, 0.9), flip=True)
        assert (ours - theirs).abs().mean() < 2 / 127.5


@needs_torchcodec
@pytest.mark.parametrize("turn", TURNS)
def test_rotation_is_undone(encode: Encode, turn: str) -> None:
    (a, b, c, d), expected = TURNS[turn]
    path = encode(height=48, width=96, frames=quadrants(48, 96))
    content = path.read_bytes()
    matrix = content.index(b"tkhd") + 4 + 40
    words = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:matrix] + struct.pack(">9i", *words) + content[matrix + 36 :])
    clip = read_clip(path, frames=1, fps=30, height=32, width=32, decoder="torchcodec")
    assert corner_colors(clip) == expected


@needs_torchcodec
def test_short_files_parts_and_damage(encode: Encode, tmp_path: Path) -> None:
    path = encode(count=20)
    held = read_clip(path, frames=8, fps=8, short="hold", decoder="torchcodec", **SIZE)
    assert read_numbers(held) == [0, 4, 7, 11, 15, 19, 19, 19]
    with pytest.raises(UnreadableVideo, match=r"ends after 0\.67 s; 8 frames at 8 per second"):
        read_clip(path, frames=8, fps=8, decoder="torchcodec", **SIZE)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("clip.mp4")
        info.size = path.stat().st_size
        tar.addfile(info, io.BytesIO(path.read_bytes()))
        part = FilePart(tmp_path / "a.tar", "clip.mp4", info.offset_data or 512, info.size)
    assert read_numbers(read_clip(part, frames=3, fps=30, start=0.3, decoder="torchcodec", **SIZE)) == [9, 10, 11]
    damaged = encode("damaged", H264)
    damage(damaged)
    with pytest.raises(UnreadableVideo, match=r"torchcodec|FFmpeg"):
        read_clip(damaged, frames=90, fps=30, decoder="torchcodec", **SIZE)
    counted = encode("counted", Encoding("libx264", "yuv420p", ".avi", H264.options))
    with pytest.raises(UnreadableVideo, match="decoder=pyav counts them"):
        read_clip(counted, frames=2, fps=30, decoder="torchcodec", **SIZE)


@needs_torchcodec
def test_other_frames_than_those_wanted_are_refused(encode: Encode) -> None:
    """torchcodec 0.17 seeks past the beginning of an MPEG-TS."""
    path = encode(encoding=ENCODINGS["h264_ts"], count=70)
    for first in (0, 14, 31):
        try:
            clip = read_clip(path, frames=5, fps=30, start=first / 30, decoder="torchcodec", **SIZE)
        except UnreadableVideo as error:
            assert error.reason.endswith("use decoder=pyav")
        else:
            assert read_numbers(clip) == list(range(first, first + 5))


def test_without_the_package_the_install_line_is_named(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(MissingPackage, match=r'pip install "lingen_kit\[torchcodec\]".*FFmpeg'):
        read_clip(encode(count=2), frames=1, fps=30, decoder="torchcodec", **SIZE)
