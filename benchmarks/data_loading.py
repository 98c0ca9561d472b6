"""What a loader reaches: decoding beside PyAV alone, cached latents beside plain reading, and how soon it begins."""

import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import torch
from data_access import FPS, FRAMES, SIDE, Place, plain_frames
from data_footage import HEIGHT, WIDTH, long_video
from PIL import Image

from lingen_kit.data import AutoData, Buckets, CachedLatents, VideoFolder
from lingen_kit.data.decode import probe
from lingen_kit.data.latent_store import CachedClip, StoreWriter, complete, write_about
from lingen_kit.data.loader import TrainingLoader

BATCH, BATCHES = 8, 12


def loader(repeats: int) -> None:
    """Print the clips per second of a loader with two workers, and of two processes of PyAV alone on the same clips."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(10):
            cut_minute(long_video(), folder / f"{number}.mp4", number)
            (folder / f"{number}.txt").write_text(f"minute {number}")
        size: dict[str, Any] = {"frames": FRAMES, "fps": FPS, "height": SIDE, "width": SIDE, "batch_size": BATCH}
        data = quietly(lambda: VideoFolder(str(folder), num_workers=2, **size))
        ours, raw = [], []
        for _ in range(max(3, repeats // 3)):
            reader = quietly(data.train_dataloader)
            raw.append(raw_decoding([place for step in range(1, 1 + BATCHES) for place in places_of(reader, step)]))
            ours.append(clips_per_second(reader))
    share = statistics.median(a / b for a, b in zip(ours, raw, strict=True))
    print(
        f"\nloader: {FRAMES} frames at {FPS} per second out of minutes of {WIDTH}x{HEIGHT} H.264, two processes each\n"
        f"  PyAV alone, frames of their own size: {statistics.median(raw):.1f} clips/s, loader, batches of {BATCH} at"
        f" {SIDE}x{SIDE}: {statistics.median(ours):.1f} clips/s | {share:.0%} (at least 85% wanted)"
    )


def cut_minute(source: Path, target: Path, number: int) -> None:
    """About a minute of a video as a file of its own, from a key frame on, packet by packet."""
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        video = given.streams.video[0]
        copy = container.add_stream_from_template(video)
        given.seek(number * 58 * av.time_base)
        first = None
        for packet in given.demux(video):
            if packet.dts is None or packet.pts is None:
                continue
            first = packet.dts if first is None else first
            if (packet.dts - first) * video.time_base > 60:
                break
            packet.pts, packet.dts, packet.stream = packet.pts - first, packet.dts - first, copy
            container.mux(packet)


def places_of(reader: TrainingLoader, step: int) -> list[Place]:
    """The files and moments that a step of the loader reads."""
    dataset: Any = reader.dataset
    found = []
    for draw in reader.schedule.draws(step):
        clip = dataset.clips[draw.index]
        latest = probe(clip.path).duration - FRAMES / FPS
        found.append((clip.path, latest * dataset.choices(clip, draw.epoch)["start"]))
    return found


def clips_per_second(reader: TrainingLoader) -> float:
    """Clips per second of some batches; one before them starts the workers."""
    batches = endless(reader)
    next(batches)
    began = time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    return BATCHES * BATCH / (time.perf_counter() - began)


def endless(reader: TrainingLoader) -> Iterator[Any]:
    """Batches, pass after pass."""
    while True:
        yield from reader


def decode_only(place: Place) -> int:
    """Decode a clip's frames to arrays of their own size; the number of bytes."""
    return sum(frame.to_ndarray(format="rgb24", threads=1).nbytes for frame in plain_frames(place, seek=True))


def raw_decoding(places: Sequence[Place]) -> float:
    """Clips per second of PyAV alone: seek, decode, and turn the very frames of the clips into arrays."""
    with get_context("fork").Pool(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pool.map(decode_only, places[:4], chunksize=1)
        began = time.perf_counter()
        for _ in pool.imap_unordered(decode_only, places, chunksize=1):
            pass
        return len(places) / (time.perf_counter() - began)


def cached_latents(repeats: int) -> None:
    """Print how fast cached latents come in random order, and how fast their files can be read from front to back."""
    shape, count = (16, 5, 64, 64), 400
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = StoreWriter(folder, 0)
        clips = [cached_clip(number) for number in range(count)]
        for clip in clips:
            writer.add([clip], {clip.latents: torch.randn(shape)})
        writer.flush()
        complete(folder, clips)
        write_about(folder, {"fps": 8.0})
        rates: dict[str, list[float]] = {"reading": [], "no workers": [], "two workers": []}
        for _ in range(max(3, repeats // 3)):
            rates["reading"].append(read_files(folder))
            for label, workers in (("no workers", 0), ("two workers", 2)):
                rates[label].append(bytes_per_second(folder, workers))
    medians = {label: statistics.median(values) for label, values in rates.items()}
    print(
        f"\ncached latents: {count} of {shape} in float32, in batches of {BATCH}; reading their files in a row\n  "
        + ", ".join(f"{label} {value / 1e9:.2f} GB/s" for label, value in medians.items())
        + f" | {medians['no workers'] / medians['reading']:.0%} and"
        f" {medians['two workers'] / medians['reading']:.0%} (at least 60% wanted)"
    )


def cached_clip(number: int) -> CachedClip:
    return CachedClip(f"{number}.mp4", "a clip", 0.0, None, {}, f"{number}.mp4", 0, (17, 64, 64), f"{number:04x}", None)


def read_files(folder: Path) -> float:
    """Bytes per second of reading the shards, a megabyte at a time."""
    began, total = time.perf_counter(), 0
    for path in sorted((folder / "parts").glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while piece := file.read(1 << 20):
                total += len(piece)
    return total / (time.perf_counter() - began)


def bytes_per_second(folder: Path, workers: int) -> float:
    """Bytes per second of the training batches of three passes, after a first batch."""
    size: dict[str, Any] = {"frames": 17, "height": 64, "width": 64, "fps": 8.0, "batch_size": BATCH}
    data = CachedLatents(str(folder), num_workers=workers, **size)
    quietly(lambda: data.setup("fit"))
    reader = data.train_dataloader()
    batches = endless(reader)
    next(batches)
    began, total = time.perf_counter(), 0
    for _ in range(3 * len(reader)):
        total += next(batches)["latents"].nbytes
    return total / (time.perf_counter() - began)


def indexing() -> None:
    """Print how soon the first batch comes from 20,000 small files, the first time and later.

    In a process without a script: the workers that look into files import the script of the process that starts them.
    """
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import data_loading; data_loading.measure_indexing()"
    subprocess.run([sys.executable, "-c", code], check=True)


def measure_indexing() -> None:
    """What `indexing` prints."""
    count = 20_000
    with tempfile.TemporaryDirectory() as name, mock.patch.dict("os.environ", LINGEN_KIT_CACHE=f"{name}/cache"):
        folder = Path(name) / "clips"
        fill(folder, count)
        print(
            f"\nindexing: {count} small files with captions beside them, half videos, half images; to the first batch"
        )
        size: dict[str, Any] = {"frames": 4, "height": 32, "width": 48, "fps": 8.0, "num_workers": 2}
        sizes = Buckets(sizes=[(1, 32, 32), (1, 32, 48), (4, 32, 32), (4, 32, 48)])
        for label, buckets in (("one size", None), ("four sizes", sizes)):
            seconds = []
            for _ in range(2):
                began = time.perf_counter()
                data = AutoData(str(folder), buckets=buckets, **size)
                quietly(data.prepare_data)
                next(iter(quietly(data.train_dataloader)))
                seconds.append(time.perf_counter() - began)
            wanted = "at most 10 and 2 s wanted"
            print(f"  {label}: {seconds[0]:.1f} s, and {seconds[1]:.1f} s the next time ({wanted})", flush=True)


def fill(folder: Path, count: int) -> None:
    """Small files in 20 folders, each half of them copies of a few originals."""
    originals = Path(folder.parent / "originals")
    originals.mkdir()
    generator = np.random.default_rng(0)
    with av.open(str(originals / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for _ in range(8):
            image = generator.integers(0, 255, (32, 48, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(originals / "picture.jpg")
    for number in range(count):
        source = originals / ("clip.mp4" if number % 2 else "picture.jpg")
        target = folder / f"{number % 20:02}" / f"{number:05}{source.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.with_suffix(".txt").write_text(f"small file number {number}")


def quietly(work: Callable[[], Any]) -> Any:
    """Do something without its messages."""
    logging.disable(logging.WARNING)
    try:
        return work()
    finally:
        logging.disable(logging.NOTSET)
