"""Samples out of media files: of each file one stretch, cut to one size, the same whenever it is asked for again."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch.utils.data import get_worker_info

from lingen_kit.data.buckets import Size
from lingen_kit.data.clip import Clip, first_of, source_of
from lingen_kit.data.decode import probe, read_pixels
from lingen_kit.data.decoding.frame import Pixels
from lingen_kit.data.media import UnreadableVideo
from lingen_kit.data.order import Draw
from lingen_kit.data.sample import Batch, Sample, batch_of, to_float
from lingen_kit.data.seeds import derive_seed

# In words of their own, as `_` or `-` set them off; some languages besides English.
_SIDED = re.compile(
    r"(?<![^\W_])(top|bottom|upper|lower)?(left|right)(s|ward|wards|most|hand|handed|side)?(?![^\W_])"
    r"|(?<![^\W_])(links|rechts|gauche|droite|izquierda|derecha|sinistra|destra)(?![^\W_])|[左右]",
    re.IGNORECASE,
)


class NothingReadable(ValueError):
    """Not one file of a data set can be read."""


class ClipDataset:
    """Clips of files: of each file one stretch, at a place that training changes from pass to pass.

    A file that cannot be read is replaced by the next one of its size that can, or else by one of another size, and
    named in the sample's `skipped`.
    Which sample comes out depends on the arguments, `index` and `epoch` alone.

    Args:
        clips: The files, at least one.
        sizes: Frames, height and width of the clips, by the files' places in `clips`.
        fps: Frames per second of a clip.
        seed: Of all that changes from pass to pass.
        vary: Take a stretch anywhere in the file, another one in each pass, with `crop` and `flip` as given; otherwise
            its middle, cropped in the middle.
        short: What becomes of files shorter than a clip, see `read_clip`.
        crop: Where the picture is cropped to the wanted aspect ratio: in the `center`, or anywhere (`random`).
        flip: Share of the clips that are mirrored; one whose caption names left or right never is.
        decoder: What decodes, see `read_clip`.
        durations: Seconds of the files, by their places in `clips`; read from the files where they are not known.
        others: Files of the folder that are not in this data set. If none of `clips` can be read, the error
            names those of them, too, that cannot: with a whole folder of broken files all are named at once.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        sizes: Sequence[Size],
        *,
        fps: float,
        seed: int,
        vary: bool,
        short: Literal["hold", "skip"] = "skip",
        crop: Literal["center", "random"] = "center",
        flip: float = 0.0,
        decoder: Literal["pyav", "torchcodec"] = "pyav",
        durations: Mapping[int, float] | None = None,
        others: Sequence[Clip] = (),
    ) -> None:
        self.clips = clips
        self.sizes = sizes
        self.others = others
        self.fps = fps
        self.seed = seed
        self.vary = vary
        self.short: Literal["hold", "skip"] = short
        self.crop = crop
        self.flip = flip
        self.decoder: Literal["pyav", "torchcodec"] = decoder
        self.by_size: dict[Size, list[int]] = {}
        for index, size in enumerate(sizes):
            self.by_size.setdefault(size, []).append(index)
        self._place = {index: place for members in self.by_size.values() for place, index in enumerate(members)}
        self._durations = dict(durations or {})

    def __len__(self) -> int:
        """Number of files."""
        return len(self.clips)

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index` in the first pass."""
        return self.draw(index, epoch=0)

    def draw(self, index: int, epoch: int) -> Sample:
        """The sample at `index` in a pass over the files.

        Raises:
            NothingReadable: If not one of the files can be read; it names them.
        """
        frames, height, width = self.sizes[index]
        pixels = np.empty((3, frames, height, width), np.uint8)
        sample = self._draw_into(pixels, index, epoch)
        sample["video"] = to_float(pixels)
        return sample

    def read_batch(self, draws: Sequence[Draw]) -> Batch:
        """Several clips of one size, decoded straight into their place in the batch, as 8-bit levels.

        In a loader's worker that place is in memory that the other processes share.
        """
        shape = (len(draws), 3, *self.sizes[draws[0].index])
        levels = torch.empty(0, dtype=torch.uint8)
        if get_worker_info() is not None:
            levels = levels.set_(torch.UntypedStorage._new_shared(math.prod(shape)))
        levels.resize_(shape)
        samples = [
            self._draw_into(pixels, draw.index, draw.epoch) for pixels, draw in zip(levels.numpy(), draws, strict=True)
        ]
        return batch_of(levels, samples)

    def _draw_into(self, pixels: Pixels, index: int, epoch: int) -> Sample:
        """Fill `(C, T, H, W)` with the clip at `index`, or with one in its stead, and give what goes with it."""
        skipped: list[tuple[str, str]] = []
        members, place = self.by_size[self.sizes[index]], self._place[index]
        for turn in range(len(members)):
            other = members[(place + turn) % len(members)]
            try:
                sample = self._read_into(pixels, other, epoch)
            except UnreadableVideo as error:
                skipped.append((error.path, error.reason))
                continue
            if skipped:
                sample["skipped"] = skipped
            return sample
        for other in range(len(self.clips)):  # none of its size can be read: one of another size, cut to this one
            if self.sizes[other] != self.sizes[index]:
                try:
                    sample = self._read_into(pixels, other, epoch)
                except UnreadableVideo:
                    continue
                sample["skipped"] = skipped
                return sample
        for clip in self.others:
            try:
                self._decode(pixels, clip, self._seconds(clip), epoch)
            except UnreadableVideo as error:
                skipped.append((error.path, error.reason))
            else:  # the rest may be many, and most of them fine
                break
        bad = dict(skipped)  # a clip with two captions, or one that is on both sides of the split, counts once
        named = first_of(f"  {path}: {reason}" for path, reason in bad.items())
        raise NothingReadable(
            f"no clip is left for training or for validation, as {len(bad)} cannot be read; repair, replace or remove"
            f" these:\n{named}"
        )

    def read(self, index: int, epoch: int) -> Sample:
        """The sample at `index` in a pass over the files, and none in its stead.

        Raises:
            UnreadableVideo: If its file cannot be read.
        """
        frames, height, width = self.sizes[index]
        pixels = np.empty((3, frames, height, width), np.uint8)
        sample = self._read_into(pixels, index, epoch)
        sample["video"] = to_float(pixels)
        return sample

    def _read_into(self, pixels: Pixels, index: int, epoch: int) -> Sample:
        clip = self.clips[index]
        if index not in self._durations:
            self._durations[index] = self._seconds(clip)
        self._decode(pixels, clip, self._durations[index], epoch)
        return Sample(caption=clip.caption, fps=self.fps, source=source_of(clip), attributes=clip.attributes)

    def _seconds(self, clip: Clip) -> float:
        return clip.seconds(probe(clip.path).duration)

    def _decode(self, pixels: Pixels, clip: Clip, seconds: float, epoch: int) -> None:
        choices = self.choices(clip, epoch)
        frames = pixels.shape[1]
        # The end of a stretch counts like that of a file: what comes after it is another scene.
        shown = frames if clip.end is None else min(frames, math.ceil(seconds * self.fps - 1e-6))
        if seconds <= 0 or shown < 1 or (shown < frames and self.short == "skip"):
            raise UnreadableVideo(
                clip.path,
                f"its stretch from {clip.start:.2f} s on has {max(0.0, seconds):.2f} s; {frames} frames at {self.fps:g}"
                " per second need more (short=hold would repeat the last frame)",
            )
        read_pixels(
            clip.path,
            pixels[:, :shown],
            fps=self.fps,
            start=clip.start + max(0.0, seconds - frames / self.fps) * choices["start"],
            short=self.short,
            crop=(choices["top"], choices["left"]),
            flip=choices["flip"] > 0,
            decoder=self.decoder,
        )
        pixels[:, shown:] = pixels[:, shown - 1 : shown]

    def choices(self, clip: Clip, epoch: int) -> Mapping[str, float]:
        """What a pass makes of a clip: shares of the way from its start, its top and its left; 1 if flipped."""
        middle = {"start": 0.5, "top": 0.5, "left": 0.5, "flip": 0.0}
        if not self.vary:
            return middle
        chosen = {name: derive_seed(name, self.seed, epoch, clip.name) / 2**63 for name in middle}
        if self.crop == "center":
            chosen |= {"top": 0.5, "left": 0.5}
        return chosen | {"flip": float(chosen["flip"] < self.flip and not names_a_side(clip.caption))}


def names_a_side(caption: str) -> bool:
    """Whether a caption says left or right, which mirroring would make untrue."""
    return _SIDED.search(caption) is not None
