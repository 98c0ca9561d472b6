"""Clips from anywhere in a long file: how much faster than decoding it from its start, and whether they are the same.

Letters: C channels, T frames, H height, W width.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from data_footage import HEIGHT, SECONDS, WIDTH, long_video
from torch import Tensor

from lingen_kit.data.decode import probe, read_clip
from lingen_kit.data.decoding.frame import Fitter
from lingen_kit.data.sample import to_float

FRAMES, FPS, SIDE = 16, 8, 256  # of a clip: two seconds

Place = tuple[Path, float]


def random_places(path: Path, count: int) -> list[Place]:
    """Where clips begin, anywhere in the file."""
    generator = random.Random(0)
    latest = probe(path).duration - FRAMES / FPS
    return [(path, generator.uniform(0, latest)) for _ in range(count)]


def plain_frames(place: Place, seek: bool) -> Iterator[av.VideoFrame]:
    """The frames of a clip with PyAV alone, from the key frame before it or from the first frame of the file."""
    path, start = place
    moments = [start + index / FPS for index in range(FRAMES)]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        if seek:
            container.seek(int(start / stream.time_base), stream=stream)
        frames = container.decode(stream)
        before = after = next(frames)
        for moment in moments:
            while after.time < moment and (following := next(frames, None)) is not None:
                before, after = after, following
            yield after if after.time - moment < moment - before.time else before


def from_the_start(place: Place) -> Tensor:
    """A clip as it is read without random access: decoding all that comes before it."""
    fitter, out = Fitter(SIDE, SIDE), np.empty((3, FRAMES, SIDE, SIDE), np.uint8)
    for index, frame in enumerate(plain_frames(place, seek=False)):
        fitter.write(frame, out[:, index])
    return to_float(out)


def by_read_clip(place: Place) -> Tensor:
    """A clip as the data modules read it."""
    path, start = place
    return read_clip(path, frames=FRAMES, fps=FPS, height=SIDE, width=SIDE, start=start)


def random_access(repeats: int) -> None:
    """Print how much faster a clip comes from its key frame than from the start of the file, and if it is the same."""
    path = long_video()
    ways: dict[str, Callable[[Place], Tensor]] = {"from the start": from_the_start, "read_clip": by_read_clip}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    same = 0
    places = random_places(path, repeats)
    by_read_clip(places[0])  # the first call loads what later ones find loaded
    for place in places:
        clips = []
        for name, way in ways.items():
            began = time.perf_counter()
            clips.append(way(place))
            seconds[name].append(time.perf_counter() - began)
        same += torch.equal(*clips)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        f"\nrandom access: {FRAMES} frames at {FPS} per second, {SIDE}x{SIDE}, {repeats} places in {SECONDS} s of"
        f" {WIDTH}x{HEIGHT} H.264, {path.stat().st_size / 1e6:.0f} MB\n  "
        + ", ".join(f"{name} {value * 1e3:.1f} ms a clip" for name, value in medians.items())
        + f" | {medians['from the start'] / medians['read_clip']:.0f} times as fast (at least 8 wanted)"
        + f" | the same frames in {same} of {repeats}"
    )
