"""Small data sets for the tests of the data verbs."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream


def encode(path: Path, *, count: int = 24, fps: int = 12, height: int = 48, width: int = 64, shade: int = 0) -> Path:
    """A gray wedge that moves, as h264 in whatever container the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: VideoStream = container.add_stream("libx264", rate=fps)  # type: ignore[assignment]
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for number in range(count):
            row = (np.arange(width) * 2 + number * 3 + shade) % 256
            image = np.broadcast_to(row[None, :, None], (height, width, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def captioned(path: Path, caption: str) -> Path:
    """Write a caption beside a file."""
    path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All that is in a folder, with size, time of change and inode."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found
