"""From the blobs of single frames to objects: which blob of each frame is which object.

How many objects there are is what at least a quarter of the frames agree on. A frame that shows them all well sets
them up; in every other frame the blobs are matched to the objects as a whole, by color first and by place second, so
that a jump or a change of color alone loses nothing.

Letters: T frames.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from eval.shapes.segment import Blob

__all__ = ["MOST_OBJECTS", "objects_of"]

Floats = NDArray[np.float64]

MOST_OBJECTS = 4
"""Of a clip, one more than a prompt can ask for."""

_AGREED = 0.25  # share of frames that must show so many blobs
_COLOR, _MOST_COLOR = 50.0, 2.0  # RGB distance that costs 1, and the most that color can cost
_PLACE, _MOST_PLACE = 0.5, 1.0  # distance as a share of the frame's longer side that costs 1, and the most
_MASS = 0.3  # cost of a mass e times as large
_ABSENT = 2.6  # what it costs to leave an object out


def objects_of(found: Sequence[Sequence[Blob]], side: int) -> list[list[Blob | None]]:
    """Follow objects through the blobs of all frames.

    Args:
        found: For each frame its blobs, largest first.
        side: Longer side of the frame, in pixels.

    Returns:
        For each object its blob in each frame, None where it is not seen; largest object first.
    """
    counts = np.array([len(blobs) for blobs in found])
    most = max((n for n in range(MOST_OBJECTS + 1) if n == 0 or (counts >= n).mean() >= _AGREED), default=0)
    if most == 0:
        return []
    full = [t for t in range(len(found)) if counts[t] >= most]
    first = min(full, key=lambda t: (counts[t] > most, -found[t][most - 1].mass))
    tracks: list[list[Blob | None]] = [[None] * len(found) for _ in range(most)]
    colors = [blob.color for blob in found[first][:most]]
    for _ in range(2):
        last: list[Blob] = list(found[first][:most])
        for way in (range(first, len(found)), range(first - 1, -1, -1)):
            now = list(last)
            for t in way:
                chosen = _match(found[t], now, colors, side)
                for index, blob in enumerate(chosen):
                    tracks[index][t] = blob
                    now[index] = blob or now[index]
        colors = [
            np.median([blob.color for blob in track if blob], axis=0) if any(track) else color
            for track, color in zip(tracks, colors, strict=True)
        ]
    kept = [track for track in tracks if sum(blob is not None for blob in track) >= _AGREED * len(found)]
    return sorted(kept, key=lambda track: -float(np.median([blob.mass for blob in track if blob])))


def _match(blobs: Sequence[Blob], now: Sequence[Blob], colors: Sequence[Floats], side: int) -> list[Blob | None]:
    """The cheapest way to give each object one of the blobs, or none."""
    if not blobs:
        return [None] * len(now)
    color = np.array([[np.linalg.norm(blob.color - c) for blob in blobs] for c in colors]) / _COLOR
    place = np.array([[np.linalg.norm(blob.center - old.center) for blob in blobs] for old in now]) / side / _PLACE
    mass = np.array([[abs(np.log(blob.mass / old.mass)) for blob in blobs] for old in now]) * _MASS
    cost = np.minimum(color, _MOST_COLOR) + np.minimum(place, _MOST_PLACE) + np.minimum(mass, 1.0)  # objects blobs
    cost = np.concatenate([cost, np.full((len(now), len(now)), _ABSENT)], axis=1)
    choices = _choices(len(now), len(blobs))
    best = choices[cost[np.arange(len(now)), choices].sum(1).argmin()]
    return [blobs[column] if column < len(blobs) else None for column in best]


@lru_cache(maxsize=64)
def _choices(objects: int, blobs: int) -> NDArray[np.int64]:
    """Every way to give each object another column: of a blob, or the object's own column of absence."""
    ways = product(*([*range(blobs), blobs + index] for index in range(objects)))
    return np.array([way for way in ways if len(set(way)) == objects])
