"""What generated videos get wrong, put into perfect clips on purpose and in degrees: the yardstick for judges.

Each fault takes a clip, a strength from 0 (the clip itself) to 1, and a seed, and paints frames. Strength is how far a
fault goes where faults have degrees; a wrong word has none, so there strength is the share of clips that have it, the
same clips and more as it rises.

Letters: T frames, H height, W width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.data.shapes_grammar import BACKGROUNDS, COLORS, SHAPES, SIZES, Scene, canonical_color
from lingen_kit.data.shapes_renderer import REACH_TURNED, Track, render

__all__ = ["FAULTS", "Clip", "Fault"]

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]

_JITTER = 0.06  # of the shorter side, standard deviation at full strength
_TELEPORT = 0.5  # of the shorter side, at full strength
_FLICKER = 60.0  # gray levels, the most that a frame is lighter or darker at full strength
_BLUR = 0.06  # of the shorter side, standard deviation at full strength
_NOISE = 45.0  # gray levels, standard deviation at full strength


@dataclass(frozen=True)
class Clip:
    """A clip before it is painted.

    Attributes:
        scene: What it shows.
        tracks: Its objects, in the order of the scene.
        background: RGB, 0 to 255.
        height: H.
        width: W.
    """

    scene: Scene
    tracks: tuple[Track, ...]
    background: tuple[int, int, int]
    height: int
    width: int

    @classmethod
    def of(cls, dataset: MovingShapesDataset, index: int) -> "Clip":
        """Clip `index` of a dataset."""
        truth = dataset[index]["attributes"]
        tracks = tuple(
            Track(thing["shape"], thing["rgb"], thing["positions"], thing["radii"], thing["angles"])
            for thing in truth["objects"]
        )
        return cls(dataset.scene(index), tracks, truth["background_rgb"], dataset.height, dataset.width)

    def paint(self) -> Frames:
        """`(T, H, W, 3)` uint8."""
        video, _ = render(self.tracks, self.background, self.height, self.width)
        return video.transpose(1, 2, 3, 0).astype(np.uint8)

    def with_tracks(self, tracks: Sequence[Track]) -> "Clip":
        """The same with other objects."""
        return replace(self, tracks=tuple(tracks))


@dataclass(frozen=True)
class Fault:
    """One way to go wrong.

    Attributes:
        spoil: From a clip, a strength in [0, 1] and a source of chance, that is the same for all strengths, to frames.
        lowers: Dimensions that must fall as it grows, by their plain names.
    """

    spoil: Callable[[Clip, float, np.random.Generator], Frames]
    lowers: tuple[str, ...]

    def __call__(self, clip: Clip, strength: float, seed: int) -> Frames:
        """Paint the clip with the fault.

        Args:
            clip: A perfect clip.
            strength: From 0, no fault, to 1.
            seed: Equal seeds differ in nothing but the strength.

        Raises:
            ValueError: The strength is outside its range.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength={strength} is outside 0 to 1")
        return self.spoil(clip, strength, np.random.default_rng(seed)) if strength > 0 else clip.paint()


def _inside(track: Track, positions: Floats, clip: Clip) -> Track:
    """The track at other positions, kept within the frame."""
    reach = (REACH_TURNED[track.shape] * track.radii)[:, None]  # T 1
    most = np.array([clip.width, clip.height]) - 0.5 - reach
    return replace(track, positions=np.clip(positions, reach - 0.5, np.maximum(most, reach - 0.5)))


def _by_share(
    change: Callable[[Clip, np.random.Generator], Clip],
) -> Callable[[Clip, float, np.random.Generator], Frames]:
    """A fault without degrees: strength is the share of clips that have it."""

    def spoil(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
        return (change(clip, rng) if rng.random() < strength else clip).paint()

    return spoil


def _other_color(clip: Clip, rng: np.random.Generator) -> tuple[int, int, int]:
    used = {canonical_color(thing.color) for thing in clip.scene.objects}
    return COLORS[str(rng.choice(sorted({canonical_color(word) for word in COLORS} - used)))]


def _swap_colors(clip: Clip, rng: np.random.Generator) -> Clip:
    """Two objects exchange their colors; one alone takes another."""
    if len(clip.tracks) == 1:
        return clip.with_tracks([replace(clip.tracks[0], rgb=_other_color(clip, rng))])
    first, second, *rest = clip.tracks
    if first.shape == second.shape:  # the pairs of color and shape would stay
        return clip.with_tracks([replace(first, rgb=_other_color(clip, rng)), second, *rest])
    return clip.with_tracks([replace(first, rgb=second.rgb), replace(second, rgb=first.rgb), *rest])


def _swap_shape(clip: Clip, rng: np.random.Generator) -> Clip:
    index = int(rng.integers(len(clip.tracks)))
    tracks = list(clip.tracks)
    # Round for angular and angular for round, which no blur or turn makes alike.
    others = ("square", "cross", "triangle") if tracks[index].shape in ("circle", "ring") else ("circle", "ring")
    used = {track.shape for track in tracks}
    choice = [shape for shape in others if shape not in used] or [s for s in SHAPES if s not in used]
    tracks[index] = replace(tracks[index], shape=str(rng.choice(choice)))
    return clip.with_tracks(tracks)


def _swap_size(clip: Clip, rng: np.random.Generator) -> Clip:
    """Large for small and small for large, of all objects."""
    ratio = SIZES["large"] / SIZES["small"]
    tracks = [
        replace(track, radii=track.radii * (1 / ratio if thing.size == "large" else ratio))
        for thing, track in zip(clip.scene.objects, clip.tracks, strict=True)
    ]
    return clip.with_tracks([_inside(track, track.positions, clip) for track in tracks])


def _swap_background(clip: Clip, rng: np.random.Generator) -> Clip:
    return replace(
        clip, background=BACKGROUNDS[str(rng.choice([w for w in BACKGROUNDS if w != clip.scene.background]))]
    )


def _swap_sides(clip: Clip, rng: np.random.Generator) -> Clip:
    """Objects start where the mirror image would have them, in both directions, and move as before."""
    size = np.array([clip.width, clip.height]) - 1.0
    tracks = []
    for track in clip.tracks:
        middle = 0.5 * (track.positions.min(0) + track.positions.max(0))
        tracks.append(_inside(track, track.positions + (size - 2 * middle), clip))
    return clip.with_tracks(tracks)


def _reverse(clip: Clip, rng: np.random.Generator) -> Clip:
    return clip.with_tracks(
        [replace(t, positions=t.positions[::-1], radii=t.radii[::-1], angles=t.angles[::-1]) for t in clip.tracks]
    )


def _identity(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
    """From half-way on, one object fades towards another shape or another color."""
    index, by_shape = int(rng.integers(len(clip.tracks))), bool(rng.integers(2))
    tracks = list(clip.tracks)
    if by_shape:
        others = [shape for shape in SHAPES if shape != tracks[index].shape]
        tracks[index] = replace(tracks[index], shape=str(rng.choice(others)))
    else:
        tracks[index] = replace(tracks[index], rgb=_other_color(clip, rng))
    before, after = clip.paint(), clip.with_tracks(tracks).paint()
    half = len(before) // 2
    mixed = (1 - strength) * before[half:] + strength * after[half:]
    return np.concatenate([before[:half], np.rint(mixed).astype(np.uint8)])


def _jitter(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
    scale = strength * _JITTER * min(clip.height, clip.width)
    moved = [_inside(t, t.positions + scale * rng.standard_normal(t.positions.shape), clip) for t in clip.tracks]
    return clip.with_tracks(moved).paint()


def _teleport(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
    """One object is elsewhere from some frame in the middle of the clip on: along a line through the frame's center."""
    index = int(rng.integers(len(clip.tracks)))
    track = clip.tracks[index]
    frames = len(track.radii)
    when = int(rng.integers(max(1, frames // 4), max(2, 3 * frames // 4)))
    away = np.array([clip.width, clip.height]) / 2 - 0.5 - track.positions.mean(0)
    length = float(np.linalg.norm(away))
    way = away / length if length > 1 else np.array([1.0, 0.0])
    positions = track.positions.copy()
    positions[when:] += strength * _TELEPORT * min(clip.height, clip.width) * way
    tracks = list(clip.tracks)
    tracks[index] = _inside(track, positions, clip)
    return clip.with_tracks(tracks).paint()


def _flicker(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
    frames = clip.paint().astype(np.float64)
    light = strength * _FLICKER * rng.uniform(-1, 1, len(frames))
    return np.clip(np.rint(frames + light[:, None, None, None]), 0, 255).astype(np.uint8)


def _blur(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
    sigma = strength * _BLUR * min(clip.height, clip.width)
    frames = clip.paint().astype(np.float64)
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        size = frames.shape[axis]
        places = np.arange(size)
        frames = sum(
            weight * frames.take((places + step).clip(0, size - 1), axis)
            for weight, step in zip(weights, range(-reach, reach + 1), strict=True)
        )
    return np.rint(frames).astype(np.uint8)


def _noise(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
    frames = clip.paint()
    noisy = frames + strength * _NOISE * rng.standard_normal(frames.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _frozen(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
    """The last frames are all the one before them."""
    frames = clip.paint()
    last = round((len(frames) - 1) * (1 - strength))
    return frames[np.minimum(np.arange(len(frames)), last)]


def _dropped(clip: Clip, strength: float, rng: np.random.Generator) -> Frames:
    """One object is gone in the last frames."""
    index = int(rng.integers(len(clip.tracks)))
    rest = [track for place, track in enumerate(clip.tracks) if place != index]
    frames = clip.paint()
    gone = np.empty_like(frames)
    gone[:] = clip.background
    if rest:
        gone = clip.with_tracks(rest).paint()
    first = len(frames) - round(strength * len(frames))
    return np.concatenate([frames[:first], gone[first:]])


FAULTS: dict[str, Fault] = {
    "color swap": Fault(_by_share(_swap_colors), ("color", "overall_consistency")),
    "wrong shape": Fault(_by_share(_swap_shape), ("object_class", "color", "overall_consistency")),
    "wrong size": Fault(_by_share(_swap_size), ("appearance_style", "overall_consistency")),
    "wrong background": Fault(_by_share(_swap_background), ("scene", "overall_consistency")),
    "wrong side": Fault(_by_share(_swap_sides), ("spatial_relationship", "overall_consistency")),
    "reversed": Fault(_by_share(_reverse), ("action", "temporal_style", "overall_consistency")),
    "dropped object": Fault(_dropped, ("multiple_objects", "overall_consistency")),
    "identity swap": Fault(_identity, ("subject_consistency",)),
    "jitter": Fault(_jitter, ("motion_smoothness", "temporal_style")),
    "teleport": Fault(_teleport, ("motion_smoothness",)),
    "frozen": Fault(_frozen, ("temporal_style", "dynamic_degree")),
    "flicker": Fault(_flicker, ("temporal_flickering", "background_consistency")),
    "blur": Fault(_blur, ("imaging_quality",)),
    "noise": Fault(_noise, ("imaging_quality", "temporal_flickering")),
}
"""All faults by name."""
