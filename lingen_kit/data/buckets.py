"""Sizes of clips: which ones there are, and which of them a file is cut to.

A batch holds clips of one size. With several sizes, each file goes to the one that loses the least of it: the longest
that it fills, the nearest aspect ratio, and the largest that it need not be enlarged for.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from lingen_kit.data.media import Kind, VideoInfo

Size = tuple[int, int, int]
"""Frames, height and width of a clip."""

_BASE = 60  # of numbers with colons in YAML 1.1

_SAME_ASPECT = 0.05  # logarithm of a ratio: sides are rounded, so one aspect has slightly different ones at each area


@dataclass
class Buckets:
    """Sizes that the files of a data set are sorted into; `frames`, `height` and `width` of the data bound them.

    Either list the sizes, or give frames, areas and aspects, and every combination is one.

    Args:
        sizes: (frames, height, width) of each bucket; 1 frame makes a bucket for images.
        frames: Lengths of clips; those of the data if empty.
        sides: Resolutions, each as the side of the square with as many pixels; those of the data if empty.
        aspects: Width over height, as 16/9 or 1.78; that of the data if empty.
        multiple: Height and width are multiples of this many pixels: those about the wanted area whose aspect is
            nearest to the wanted one.
        enlarge: Whether files smaller than every bucket are enlarged; otherwise they are left out, with the reason.
    """

    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)
    aspects: list[str | float] = field(default_factory=list)
    multiple: int = 8
    enlarge: bool = True

    def list_sizes(self, bound: Size) -> list[Size]:
        """The sizes, smallest first.

        Args:
            bound: Frames, height and width of the data: what is not given here, and the limit of what is.

        Raises:
            ValueError: If one is not positive, cannot be read, or exceeds the bound.
        """
        if self.sizes and (self.frames or self.sides or self.aspects):
            raise ValueError("data.buckets: give either sizes, or frames, sides and aspects, not both")
        frames, height, width = bound
        if self.sizes:
            sizes = {(int(t), int(h), int(w)) for t, h, w in self.sizes}
        else:
            areas = [side**2 for side in self.sides] or [height * width]
            aspects = [_ratio(aspect) for aspect in self.aspects] or [width / height]
            rounded = [self._sides(area, aspect) for area, aspect in product(areas, aspects)]
            sizes = {(t, h, w) for t in self.frames or [frames] for h, w in rounded}
        for size in sizes:
            if min(size) < 1:
                raise ValueError(f"data.buckets: a size of {name_of(size)} (frames x height x width) holds nothing")
            if any(side > limit for side, limit in zip(size, bound, strict=True)):
                raise ValueError(
                    f"data.buckets: the size {name_of(size)} exceeds {name_of(bound)} (frames x height x width), which"
                    " data.frames, data.height and data.width allow and the model is built for; raise those, or give"
                    f" smaller data.buckets.{'sizes' if self.sizes else 'frames or data.buckets.sides'}"
                )
        return sorted(sizes, key=lambda size: (math.prod(size), size))

    def _sides(self, area: int, aspect: float) -> tuple[int, int]:
        """Height and width, of the multiples around the exact ones; the aspect counts first, then the area."""
        if self.multiple < 1:
            raise ValueError(f"data.buckets.multiple is {self.multiple}; it must be at least 1")

        def off(sides: tuple[int, int]) -> tuple[float, float]:
            height, width = sides
            return round(abs(math.log(width / height / aspect)), 6), abs(math.log(height * width / area))

        heights, widths = (
            {max(1, rounding(side / self.multiple)) * self.multiple for rounding in (math.floor, math.ceil)}
            for side in (math.sqrt(area / aspect), math.sqrt(area * aspect))
        )
        return min(product(heights, widths), key=off)


def choose_size(
    sizes: Sequence[Size], info: VideoInfo, kind: Kind, seconds: float, fps: float, *, hold: bool, enlarge: bool
) -> Size | str:
    """The size that a file is cut to, or why none fits.

    Args:
        sizes: At least one.
        info: What the file says about itself.
        kind: Whether it is a video or an image.
        seconds: Length of the file, or of the stretch of it that counts.
        fps: Frames per second of the clips.
        hold: Whether a file too short for every size may be lengthened by its last frame.
        enlarge: Whether a file too small for every size may be enlarged.
    """
    if kind == "image":
        fitting = [size for size in sizes if size[0] == 1]
        if not fitting:
            return "an image, and no bucket is 1 frame long"
    else:
        # Sizes of 1 frame are for images, unless there is no other.
        lengths = sorted({size[0] for size in sizes if size[0] > 1}) or [1]
        filled = [length for length in lengths if _fills(seconds, length, fps)]
        if not filled and not hold:
            return (
                f"too short: {seconds:.2f} s, and {lengths[0]} frames at {fps:g} per second need more than"
                f" {(lengths[0] - 1) / fps:.2f} s (short=hold would repeat the last frame)"
            )
        fitting = [size for size in sizes if size[0] == (filled or lengths[:1])[-1]]
    whole = [size for size in fitting if _enlargement(size, info) <= 1]
    if not whole:
        smallest = min(fitting, key=lambda size: _enlargement(size, info))
        if not enlarge:
            return (
                f"too small: {info.width}x{info.height} pixels would be enlarged {_enlargement(smallest, info):.2f}"
                f" times for the bucket {name_of(smallest)} (buckets.enlarge: true allows it)"
            )
        whole = [size for size in fitting if size[1] * size[2] <= smallest[1] * smallest[2]]
    off = {size: abs(math.log(size[2] / size[1] * info.height / info.width)) for size in whole}
    nearest = min(off.values())
    return max(
        (size for size in whole if off[size] <= nearest + _SAME_ASPECT), key=lambda size: (math.prod(size), size)
    )


def name_of(size: Size) -> str:
    """A size in words: `8x32x48`."""
    return "x".join(map(str, size))


def tokens_in(size: Size, token: Size) -> int:
    """Tokens of a clip, where a token is a block of so many frames, rows and columns."""
    return math.prod(-(-side // block) for side, block in zip(size, token, strict=True))


def _fills(seconds: float, frames: int, fps: float) -> bool:
    # As for decoding: the moment of the clip's last frame lies within the file.
    return frames == 1 or seconds > (frames - 1) / fps


def _enlargement(size: Size, info: VideoInfo) -> float:
    """How many times a file must be enlarged to cover a size."""
    return max(size[1] / info.height, size[2] / info.width)


def _ratio(aspect: str | float) -> float:
    try:
        width, height = (float(side) for side in re.split("[/:]", aspect)) if isinstance(aspect, str) else (aspect, 1)
        ratio = width / height
    except (ValueError, ZeroDivisionError):
        ratio = math.nan
    if not isinstance(aspect, str) and aspect >= _BASE and aspect == int(aspect):
        width, height = divmod(int(aspect), _BASE)
        raise ValueError(
            f"data.buckets.aspects: {aspect:g} is no aspect ratio; YAML reads {width}:{height} as that number, to base"
            f" 60: write {width}/{height}"
        )
    if not 0 < ratio < math.inf:
        raise ValueError(f"data.buckets.aspects: {aspect!r} is no aspect ratio; write width/height, such as 16/9")
    return ratio
