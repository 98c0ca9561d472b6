"""Copies of one clip: re-encoded, resized, trimmed. Perceptual hashes over time, compared as sequences.

Every sampled frame is hashed to 64 bits (pHash: signs of the low frequencies of a small picture's cosine transform).
Only clips that share a stretch of 21 bits of some hash are compared, at every shift in time (after multi-index
hashing, Norouzi et al., 2012). Of the many frames of a copy some share one: of 16 frames in which 4 bits each differ,
all but surely; with 10 bits, five times in six. So the cost grows with the clips and the copies, not with the pairs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lingen_kit.data.curation.filter import Candidate, Meter, SetFilter, check_best, plain, rank

if TYPE_CHECKING:
    import numpy as np

    from lingen_kit.data.curation.filter import Measured, Series
    from lingen_kit.data.curation.frame import Frame

_BANDS = (0, 14, 28, 43)  # first bit of each stretch
_BAND_MASK = (1 << 21) - 1
_NEIGHBORS = 16  # of a clip among those that share a stretch; a crowd is chained, not compared pair by pair
_FLAT = 4.0  # standard deviation of the luma below which the hash of a picture is noise
_SHARED = 0.8  # of the frames that overlap must agree


class NearDuplicates(SetFilter):
    """Keeps the best of each group of clips that show the same.

    The hash does not see the size of a picture, its compression, or small changes of color; it does see mirroring,
    and crops of more than a few percent. Two different pictures are 32 bits apart, give or take 4; copies 0 to 6.

    Args:
        max_distance: Greatest number of bits, of 64, in which frames of two copies differ.
        min_overlap: Seconds that both clips must share; a shorter clip must be found in the longer one as a whole.
        keep_best: Score by which the clip to keep is chosen, the higher the better; the longer one if equal.
        within_files: Also compare clips that were cut from one file. Parts of one long shot look alike by nature.
        fps: Hashes per second.
    """

    measured_by = ("fps",)
    packages = ("cv2",)

    def __init__(
        self,
        max_distance: int = 10,
        min_overlap: float = 2.0,
        keep_best: str = "sharpness",
        within_files: bool = False,
        fps: float = 4.0,
    ) -> None:
        if not 0 <= max_distance <= 24:
            raise ValueError(
                f"NearDuplicates: max_distance {max_distance} must be 0 to 24 bits; unlike pictures are about 32 apart"
            )
        self.max_distance, self.min_overlap, self.keep_best = max_distance, min_overlap, keep_best
        self.within_files, self.fps = within_files, fps
        self._groups: list[list[str]] = []

    def meter(self) -> Meter:
        """Hashes the sampled frames."""
        return _HashMeter(self.fps)

    def check(self, scores: Sequence[str]) -> None:
        """The score to choose by must be there."""
        super().check(scores)
        check_best(type(self).__name__, self.keep_best, scores)

    def choose(
        self, clips: Sequence[Candidate], rejected: Sequence[Candidate], measured: Mapping[str, Measured]
    ) -> dict[str, str]:
        """All but the best of each group; and what is a copy of something that a person dropped."""
        everyone = [*clips, *rejected]
        parent = list(range(len(everyone)))
        found: dict[int, tuple[float, float]] = {}

        def root(place: int) -> int:
            while parent[place] != place:
                parent[place] = parent[parent[place]]
                place = parent[place]
            return place

        hashes = [_hashes(clip, measured[clip.name]) for clip in everyone]
        for one, other in _neighbors(hashes, self.max_distance):
            if root(one) == root(other) or (not self.within_files and everyone[one].path == everyone[other].path):
                continue
            if match := self._compare(hashes[one], hashes[other]):
                parent[root(one)] = root(other)
                found.setdefault(one, match)
                found.setdefault(other, match)
        groups = defaultdict(list)
        for place, clip in enumerate(everyone):
            groups[root(place)].append((place, clip))
        unwanted = {clip.name for clip in rejected}
        dropped, self._groups = {}, []
        for group in groups.values():
            if len(group) < 2:
                continue
            self._groups.append(sorted(clip.name for _, clip in group))
            taboo = next((clip for _, clip in group if clip.name in unwanted), None)
            best = taboo or min((clip for _, clip in group), key=lambda clip: rank(clip, self.keep_best))
            why = f"near-duplicate of {best.name}" + (", which a person dropped" if taboo else "")
            for place, clip in group:
                if clip is not best and clip.name not in unwanted:
                    distance, seconds = found[place]
                    dropped[clip.name] = f"{why} ({plain(distance)} of 64 bits differ over {seconds:.1f} s)"
        return dropped

    def report(self) -> dict[str, Any]:
        """The groups."""
        return {"groups": sorted(self._groups)}

    def _compare(self, one: Series, other: Series) -> tuple[float, float] | None:
        """The mean distance in bits and the seconds shared at the best shift in time; None if these are no copies."""
        import numpy as np

        shorter = math.ceil(_SHARED * min(len(one), len(other)))
        least = max(1, min(round(self.min_overlap * self.fps), shorter))
        best: tuple[float, float] | None = None
        for shift in range(least - len(one), len(other) - least + 1):
            first, last = max(0, -shift), min(len(one), len(other) - shift)  # frames of one that have a partner
            part = one[first:last]
            line = np.full(len(part), 64, np.uint8)
            # Samples of two copies may be half a step apart in time: each frame may meet its partner's neighbors.
            for step in (shift - 1, shift, shift + 1):
                low, high = max(first, -step), min(last, len(other) - step)
                inside = slice(low - first, high - first)
                bits = np.bitwise_count(part[inside] ^ other[low + step : high + step])
                line[inside] = np.minimum(line[inside], bits)
            mean = float(line.mean(dtype=np.float32))
            agree = (line <= self.max_distance).sum()
            if agree >= max(least, _SHARED * len(line)) and (best is None or mean < best[0]):
                best = mean, len(line) / self.fps
        return best


def _hashes(clip: Candidate, measured: Measured) -> Series:
    """Those of the clip's frames that show something."""
    inside = clip.inside(measured["times"])
    return measured["hashes"][inside[measured["spread"][inside] >= _FLAT]]


def _neighbors(hashes: Sequence[Series], max_distance: int) -> list[tuple[int, int]]:
    """Pairs of clips with a hash each that share a stretch and are near; of a crowd, only neighbors in it."""
    import numpy as np

    count = len(hashes)
    owners = np.repeat(np.arange(count), [len(each) for each in hashes])
    if not len(owners):
        return []
    flat = np.concatenate(hashes)
    found = []
    for band in _BANDS:
        part = (flat >> np.uint64(band)) & np.uint64(_BAND_MASK)
        _, first = np.unique(part.astype(np.int64) * count + owners, return_index=True)  # once a clip and stretch
        shared, owner, whole = part[first], owners[first], flat[first]
        for step in range(1, _NEIGHBORS + 1):
            near = np.bitwise_count(whole[:-step] ^ whole[step:]) <= max_distance
            places = np.flatnonzero(near & (shared[:-step] == shared[step:]))
            found.append(owner[places] * count + owner[places + step])
    return [divmod(int(pair), count) for pair in np.unique(np.concatenate(found))]


class _HashMeter(Meter):
    def __init__(self, fps: float) -> None:
        super().__init__(fps)
        self.times: list[float] = []
        self.hashes: list[int] = []
        self.spreads: list[float] = []

    def add(self, frame: Frame) -> None:
        self.times.append(frame.time)
        self.hashes.append(perceptual_hash(frame.small_gray))
        self.spreads.append(float(frame.small_gray.std()))

    def result(self) -> Measured:
        import numpy as np

        return {
            "times": np.array(self.times),
            "hashes": np.array(self.hashes, np.uint64),
            "spread": np.array(self.spreads, np.float32),
        }


def perceptual_hash(gray: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """The 64-bit hash of a picture: which of its 64 lowest frequencies (without the mean) lie above their median.

    Args:
        gray: Luma, `(H, W)` uint8.
    """
    import cv2
    import numpy as np

    small = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:9, :9].ravel()[1:65]
    return int(np.packbits(low > np.median(low)).view(">u8")[0])
