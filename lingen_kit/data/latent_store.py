"""Latents and text embeddings on disk: shards of safetensors with an index, written piece by piece.

    about.json                what made them: encoders, transform, rate
    clips.jsonl               one line a clip and view, once all of them are there
    parts/done-0.jsonl        the same lines as they are finished, one file a process
    parts/latents-0-00000.safetensors

A tensor is named by a hash of all that it depends on, so equal ones are stored once and whoever asks for another
encoder, another stretch or another size asks for another name. A shard is written beside its place and moved there; its
lines follow it. What a killed process loses is the shard that it was filling.
"""

import json
import math
import os
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from lingen_kit.data.clip import Clip
from lingen_kit.files import replacing

ABOUT, CLIPS, PARTS = "about.json", "clips.jsonl", "parts"

_OPEN_FILES = 64
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class CachedClip:
    """One clip in the store.

    Attributes:
        name: Of the clip in its data set, see `Clip`; likewise the next four.
        caption: What it shows.
        start: Seconds into the file where the clip begins.
        end: Seconds into the file where it ends.
        attributes: What else the data set says about it.
        source: The file.
        view: Which of its stretches, crops and flips: 0 is its middle, as validation shows it.
        size: Frames, height and width of the clip in pixels.
        latents: Name of the tensor.
        text: Name of the caption's tensor; None if the text encoder was not run.
    """

    name: str
    caption: str
    start: float
    end: float | None
    attributes: dict[str, Any]
    source: str
    view: int
    size: tuple[int, int, int]
    latents: str
    text: str | None

    def as_clip(self) -> Clip:
        """The clip of the data set."""
        return Clip(Path(self.source), self.name, self.caption, self.start, self.end, self.attributes)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is: a file, its first byte there, and how to read it."""

    path: Path
    offset: int
    size: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class StoreWriter:
    """Adds to a store, one process's part of it.

    Args:
        folder: The store.
        part: Number of this process.
        shard_bytes: A shard is written once it holds as much.
    """

    def __init__(self, folder: Path, part: int, shard_bytes: int = 256 << 20) -> None:
        self.folder = folder / PARTS
        self.folder.mkdir(parents=True, exist_ok=True)
        self.part = part
        self.shard_bytes = shard_bytes
        self.stored = set(places(folder))
        self._tensors: dict[str, Tensor] = {}
        self._clips: list[CachedClip] = []
        self._bytes = 0

    def add(self, clips: Sequence[CachedClip], tensors: Mapping[str, Tensor]) -> None:
        """Add clips and those of their tensors that are not there yet, by name."""
        for name, tensor in tensors.items():
            if name not in self.stored:
                self.stored.add(name)
                self._tensors[name] = tensor.detach().cpu().contiguous()
                self._bytes += tensor.numel() * tensor.element_size()
        self._clips += clips
        if self._bytes >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time.

        Raises:
            OSError: If it cannot be written, as on a full disk; what was written before stays whole.
        """
        if self._tensors:
            there = self.folder.glob(f"latents-{self.part}-*.safetensors")
            number = 1 + max((int(path.stem.rpartition("-")[2]) for path in there), default=-1)
            shard = self.folder / f"latents-{self.part}-{number:05d}.safetensors"
            write_whole(shard, save(self._tensors))
        # A line that a killed process left unfinished ends before ours begins.
        lines = "".join(f"\n{json.dumps(asdict(clip))}" for clip in self._clips)
        with (self.folder / f"done-{self.part}.jsonl").open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self._tensors, self._clips, self._bytes = {}, [], 0


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other runs from writing to a store meanwhile.

    Raises:
        ValueError: If another run is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", blocking=False):
            yield
    except Timeout as error:
        raise ValueError(f"another run is writing {folder}; wait for it to end, or name another folder") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and have it on the disk.

    Raises:
        OSError: If it cannot be written; the message names the file.
    """
    try:
        with replacing(path, sync=True) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_about(folder: Path) -> dict[str, Any] | None:
    """What made a store; None if there is none.

    Raises:
        ValueError: If the file that says so is damaged.
    """
    path = folder / ABOUT
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove {folder} and compute it anew") from error
    if not isinstance(about, dict):
        raise ValueError(f"{path} is no description of cached latents")
    return about


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Say what makes a store."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())


def finished(folder: Path) -> Iterator[CachedClip]:
    """The clips of all parts, in order of writing; a last line that was cut off is left out."""
    for path in sorted((folder / PARTS).glob("done-*.jsonl")):
        yield from _read_clips(path, strict=False)


def complete(folder: Path, clips: Iterable[CachedClip]) -> None:
    """Write the index of a store that holds all that was asked for."""
    lines = "".join(f"{json.dumps(asdict(clip))}\n" for clip in clips)
    write_whole(folder / CLIPS, lines.encode())


def listed(folder: Path) -> list[CachedClip]:
    """What the index of a store lists so far, whatever became of it: lines that are damaged are left out."""
    path = folder / CLIPS
    return list(_read_clips(path, strict=False)) if path.is_file() else []


def read_clips(folder: Path) -> list[CachedClip]:
    """The clips of a store.

    Raises:
        ValueError: If there is no complete store, or its index is damaged.
    """
    path = folder / CLIPS
    if not path.is_file():
        problem = (
            "is not finished: run data precompute again, it goes on" if (folder / PARTS).is_dir() else "is no cache"
        )
        raise ValueError(f"{folder} {problem} (there is no {CLIPS}); `data precompute` makes one")
    return list(_read_clips(path, strict=True))


def _read_clips(path: Path, *, strict: bool) -> Iterator[CachedClip]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                yield CachedClip(**entry | {"size": tuple(entry["size"])})
            except (ValueError, TypeError, KeyError) as error:
                if strict:
                    raise ValueError(
                        f"{path}, line {number}, is damaged ({error}); run data precompute again"
                    ) from error


def places(folder: Path) -> dict[str, Place]:
    """Where each tensor of a store is, from the headers of its shards; a damaged shard counts as absent."""
    found: dict[str, Place] = {}
    for path in sorted((folder / PARTS).glob("latents-*.safetensors")):
        found |= _header(path)
    return found


def _header(path: Path) -> dict[str, Place]:
    """The tensors of a shard (safetensors: length of the header, header in JSON, data)."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        try:
            size = path.stat().st_size
            header = json.loads(file.read(min(length, size)))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            found = {name: _place(path, 8 + length, entry) for name, entry in entries.items()}
            sound = all(
                place.offset >= 8 + length
                and 0 <= place.size == math.prod(place.shape) * place.dtype.itemsize
                and place.offset + place.size <= size
                for place in found.values()
            )
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            return {}
    return found if sound else {}


def _place(path: Path, data: int, entry: Mapping[str, Any]) -> Place:
    """What an entry of a header says of a tensor; `data` is where the shard's data begin."""
    first, end = entry["data_offsets"]
    return Place(path, data + first, end - first, _DTYPES[entry["dtype"]], tuple(entry["shape"]))


class TensorReader:
    """Reads tensors of a store; each goes from the file into its place in one copy."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, int] = OrderedDict()

    def read(self, place: Place) -> Tensor:
        """One tensor."""
        return self.stack([place])[0]

    def stack(self, chosen: Sequence[Place]) -> Tensor:
        """Several tensors of one shape, stacked.

        Raises:
            ValueError: If their shapes differ, or a file ends before they do.
        """
        first = chosen[0]
        if any(place.shape != first.shape or place.dtype != first.dtype for place in chosen):
            raise ValueError(f"tensors of one batch differ in shape: {sorted({place.shape for place in chosen})}")
        # Memory from numpy: it is reused from batch to batch, where torch's is often mapped anew and page by page.
        rows = np.empty((len(chosen), first.size), np.uint8)
        for row, place in zip(rows, chosen, strict=True):
            self._fill(row, place)
        return torch.from_numpy(rows).view(first.dtype).view(len(chosen), *first.shape)

    def join(self, chosen: Sequence[Place]) -> Tensor:
        """Several tensors whose first axes differ in length, one after the other.

        Raises:
            ValueError: If their other axes differ, or a file ends before they do.
        """
        first = chosen[0]
        if any(place.shape[1:] != first.shape[1:] or place.dtype != first.dtype for place in chosen):
            raise ValueError(f"tensors of one batch differ in shape: {sorted({place.shape[1:] for place in chosen})}")
        data = np.empty(sum(place.size for place in chosen), np.uint8)
        start = 0
        for place in chosen:
            self._fill(data[start : start + place.size], place)
            start += place.size
        return torch.from_numpy(data).view(first.dtype).view(sum(place.shape[0] for place in chosen), *first.shape[1:])

    def _fill(self, row: NDArray[np.uint8], place: Place) -> None:
        if os.preadv(self._open(place.path), [row.data], place.offset) != place.size:
            raise ValueError(f"{place.path} ends too early: it has changed or is damaged; run data precompute again")

    def _open(self, path: Path) -> int:
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        if len(self._files) >= _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        self._files[path] = os.open(path, os.O_RDONLY)
        return self._files[path]

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the files for itself."""
        return {"_files": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
