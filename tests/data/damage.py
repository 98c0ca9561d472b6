"""A folder of damaged video files with captions, for tests of whatever reads folders of videos.

Each file is a small clip, damaged in one of `DAMAGES`; together they are what a careless download leaves behind.
"""

import os
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.stream import VideoStream

from lingen_kit.data.clip import printable

Verdict = Literal["unusable", "warning", "fine", "any"]


def clip_bytes(folder: Path, name: str = "whole.mp4", count: int = 24, faststart: bool = False) -> bytes:
    """A moving pattern of 64 x 48 pixels at 12 frames per second, encoded into `folder`, from where it is removed."""
    path = folder / name
    codec = {".webm": "libvpx-vp9", ".gif": "gif", ".jpg": "mjpeg"}.get(path.suffix, "libx264")
    pixels = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    options = {"movflags": "faststart"} if faststart else {}
    rows, columns = np.mgrid[:48, :64]
    noise = np.random.default_rng(0).integers(0, 40, (48, 64))  # so that the file is a few kilobytes, not a few hundred
    with av.open(str(path), "w", options=options, format="image2" if path.suffix == ".jpg" else None) as container:
        stream: VideoStream = container.add_stream(codec, rate=12)  # type: ignore[assignment]
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.codec_context.time_base = Fraction(1, 12)
        for number in range(count):
            image = np.stack(
                [(rows * 3 + number * 9) % 200 + noise, (columns * 3 + number * 5) % 200 + noise, noise], 2
            )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.unlink()
    return data


def sound_bytes(folder: Path) -> bytes:
    """A second of silence as an mp4 file with no picture, by way of `folder`."""
    path = folder / "silence.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.unlink()
    return data


class _Sources:
    """Whole files to damage."""

    def __init__(self, folder: Path) -> None:
        self.late = clip_bytes(folder)  # its table of frames stands at the end
        self.early = clip_bytes(folder, faststart=True)
        self.webm = clip_bytes(folder, "whole.webm")
        self.gif = clip_bytes(folder, "whole.gif")
        self.jpg = clip_bytes(folder, "whole.jpg", count=1)
        self.sound = sound_bytes(folder)


Damage = Callable[[Path, _Sources, random.Random], None]


def _cut(data: bytes, chance: random.Random, least: float, most: float) -> bytes:
    return data[: round(len(data) * chance.uniform(least, most))]


def _flip(data: bytes, chance: random.Random, share: float) -> bytes:
    flipped = bytearray(data)
    start = flipped.find(b"mdat") + 4
    for _ in range(max(1, round((len(flipped) - start) * share))):
        flipped[chance.randrange(start, len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def _patch(data: bytes, box: bytes, offset: int, value: int) -> bytes:
    """Write a 32-bit number at an offset from the start of the content of a box of an mp4 file."""
    place = data.find(box) + 4 + offset
    return data[:place] + value.to_bytes(4, "big") + data[place + 4 :]


# damage: (what a check must make of it, suffix, how to write it)
DAMAGES: dict[str, tuple[Verdict, str, Damage]] = {
    "zero bytes": ("unusable", ".mp4", lambda p, s, c: p.touch()),
    "cut, index lost": ("unusable", ".mp4", lambda p, s, c: _put(p, _cut(s.late, c, 0.05, 0.8))),
    "cut, index kept": ("unusable", ".mp4", lambda p, s, c: _put(p, _cut(s.early, c, 0.3, 0.85))),
    "a few bits flipped": ("any", ".mp4", lambda p, s, c: _put(p, _flip(s.early, c, 0.0005))),
    "many bits flipped": ("unusable", ".mp4", lambda p, s, c: _put(p, _flip(s.early, c, 0.05))),
    "text": ("unusable", ".mp4", lambda p, s, c: _put(p, b"I am no video.\n" * c.randrange(1, 200))),
    "error page": ("unusable", ".webm", lambda p, s, c: _put(p, b"<!doctype html><title>404 Not Found</title>")),
    "random bytes": ("unusable", ".avi", lambda p, s, c: _put(p, c.randbytes(c.randrange(1, 20_000)))),
    "encrypted archive": (
        "unusable",
        ".mp4",
        lambda p, s, c: _put(p, b"PK\x03\x04\x14\x00\x01\x00" + c.randbytes(900)),
    ),
    "no header": ("unusable", ".mp4", lambda p, s, c: _put(p, bytes(2000) + s.early[2000:])),
    "sound only": ("unusable", ".mp4", lambda p, s, c: _put(p, s.sound)),
    "pipe": ("unusable", ".mp4", lambda p, s, c: os.mkfifo(p)),
    "dangling link": ("unusable", ".mp4", lambda p, s, c: p.symlink_to("nowhere.mp4")),
    "link to itself": ("unusable", ".mp4", lambda p, s, c: p.symlink_to(p.name)),
    "folder": ("unusable", ".mp4", lambda p, s, c: p.mkdir()),
    "time scale of zero": ("unusable", ".mp4", lambda p, s, c: _put(p, _patch(s.early, b"mdhd", 12, 0))),
    "absurd rate": ("warning", ".mp4", lambda p, s, c: _put(p, _patch(s.early, b"mdhd", 12, 2**31 - 1))),
    "mp4 named webm": ("warning", ".webm", lambda p, s, c: _put(p, s.late)),
    "webm named mp4": ("warning", ".mp4", lambda p, s, c: _put(p, s.webm)),
    "gif named mkv": ("warning", ".mkv", lambda p, s, c: _put(p, s.gif)),
    "picture named mp4": ("warning", ".mp4", lambda p, s, c: _put(p, s.jpg)),
    "name in Unicode Ünï 漢字 🎬": ("fine", ".mp4", lambda p, s, c: _put(p, s.late)),
    "name of 255 bytes": ("fine", ".mp4", lambda p, s, c: _put(p, s.late)),
    "name not UTF-8": ("unusable", ".mp4", lambda p, s, c: _put(p, s.late)),
    "no caption": ("unusable", ".mp4", lambda p, s, c: _put(p, s.late)),
    "empty caption": ("unusable", ".mp4", lambda p, s, c: _put(p, s.late)),
    "caption not UTF-8": ("unusable", ".mp4", lambda p, s, c: _put(p, s.late)),
    "caption of 100 KB": ("unusable", ".mp4", lambda p, s, c: _put(p, s.late)),
}


def make_damaged_folder(root: Path, count: int = 100, seed: int = 0) -> dict[str, Verdict]:
    """Fill a folder with damaged files, each with a caption in a .txt file beside it.

    Args:
        root: The folder; it is made, and may hold other files.
        count: Files, one of each damage in turn: 28 for one of each.
        seed: Of where they are damaged.

    Returns:
        By file name (as reports print it): whether a check must find it `unusable`, must warn, must find it `fine`;
        `any` where the damage may happen to do no harm.
    """
    root.mkdir(parents=True, exist_ok=True)
    sources = _Sources(root)
    expected: dict[str, Verdict] = {}
    for number in range(count):
        damage, (verdict, suffix, write) = list(DAMAGES.items())[number % len(DAMAGES)]
        stem = f"{number:03d} {damage}"
        if damage == "name of 255 bytes":
            stem = stem.ljust(255 - len(suffix), "x")
        if damage == "name not UTF-8":
            stem += os.fsdecode(b"\xff\xfe")
        path = root / (stem + suffix)
        write(path, sources, random.Random(f"{seed} {number}"))
        captions = {
            "empty caption": b" \n",
            "caption not UTF-8": "größer".encode("latin-1"),
            "caption of 100 KB": b"a pattern moves " * 6400,
        }
        if damage != "no caption":
            path.with_suffix(".txt").write_bytes(captions.get(damage, b"a pattern of stripes moves"))
        expected[printable(path.name)] = verdict
    return expected


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)
