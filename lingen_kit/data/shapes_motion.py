"""Where the objects of a scene are in each frame: each action's motion, placed so that the caption is true.

An object's motion is drawn first, relative to its start: offsets, radii, angles. Then the starts are drawn
uniformly from all that keep every object inside the frame, and every spatial relation true in every frame,
which also keeps objects apart. Motion is relative to the clip, not to seconds: more frames show the same path
more finely.

Letters: T frames. Positions are (x, y) in pixels, y downwards; lengths are in pixels.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lingen_kit.data.shapes_grammar import COLORS, DIRECTIONS, SIZES, Scene, SceneObject
from lingen_kit.data.shapes_renderer import REACH, REACH_TURNED, Track

Floats = NDArray[np.float64]
Item = TypeVar("Item")

CROWDING = (1.0, 0.8, 0.7)
"""Objects share the frame: their radius in a scene of one, two or three, relative to one alone."""

LEAST_TRAVEL, MOST_TRAVEL = 0.26, 0.45
"""What a moving or bouncing object crosses, as a share of the frame along its way."""

GAP = 1.0
"""Pixels that stay free between objects."""


class Draws:
    """Random choices from the plain uniform stream of one seed, which is the same on every platform."""

    def __init__(self, *entropy: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        self._pool: list[float] = []

    def uniform(self, low: float, high: float) -> float:
        """A number from low (included) to high."""
        if not self._pool:
            self._pool = self._generator.random(32).tolist()
        return low + (high - low) * self._pool.pop()

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.uniform(0.0, high - low + 1.0))

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.integer(0, len(items) - 1)]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in random order."""
        rest = list(items)
        return [rest.pop(self.integer(0, len(rest) - 1)) for _ in items]


def lay_out(scene: Scene, draws: Draws, *, frames: int, height: int, width: int) -> list[Track] | None:
    """Draw motions and starts for every object of a scene.

    Args:
        scene: What to show; every object has a size, and an action unless there is one frame.
        draws: Source of chance.
        frames: T.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.

    Returns:
        One track per object, or None where the motions drawn leave no room to keep the relations true.
    """
    crowding = CROWDING[len(scene.objects) - 1]
    moves = [_move(thing, draws, crowding, frames, height, width) for thing in scene.objects]
    before: tuple[list[tuple[int, int]], list[tuple[int, int]]] = (
        [],
        [],
    )  # pairs in order, along x and along y
    for first, word, second in scene.relation_triples():
        pair = (first, second) if word in ("left of", "above") else (second, first)
        before[word in ("above", "below")].append(pair)
    starts = [_place(moves, axis, extent, before[axis], draws) for axis, extent in enumerate((width, height))]
    if starts[0] is None or starts[1] is None:
        return None
    return [
        Track(thing.shape, COLORS[thing.color], move.offsets + np.array(start), move.radii, move.angles)
        for thing, move, *start in zip(scene.objects, moves, starts[0], starts[1], strict=True)
    ]


class _Move:
    """An object's motion from a start that is yet to be drawn."""

    def __init__(self, offsets: Floats, radii: Floats, angles: Floats, reach: Floats) -> None:
        self.offsets, self.radii, self.angles, self.reach = offsets, radii, angles, reach


def _move(thing: SceneObject, draws: Draws, crowding: float, frames: int, height: int, width: int) -> _Move:
    radius = SIZES[thing.size or "large"] * crowding * min(height, width)
    time = np.linspace(0.0, 1.0, frames)
    offsets, scale, angles = np.zeros((frames, 2)), np.ones(frames), np.zeros(frames)
    reach = REACH[thing.shape]
    action = thing.action
    if action in DIRECTIONS or action == "bounces":
        extent = width if action in ("moves left", "moves right") else height
        travel = extent * draws.uniform(LEAST_TRAVEL, MOST_TRAVEL)
        travel = min(travel, extent - 1 - 2 * reach * radius)
        if action in DIRECTIONS:
            offsets += time[:, None] * travel * np.array(DIRECTIONS[action])
        else:  # two hops of a ball, up and back to the floor
            hop = (2 * time) % 1.0
            offsets[:, 1] = -travel * 4 * hop * (1 - hop)
    elif action == "rotates":
        reach = REACH_TURNED[thing.shape]
        # Slow enough that no frame shows a turn which the shape's symmetry makes ambiguous.
        turn = min(math.radians(draws.uniform(90.0, 150.0)), math.radians(30.0) * (frames - 1))
        angles = time * turn * draws.pick((-1, 1))
    elif action in ("grows", "shrinks"):
        scale = 0.7 * (1.9**time)
        scale = scale if action == "grows" else scale[::-1].copy()
    return _Move(offsets, radius * scale, angles, radius * scale * reach)


def _place(
    moves: Sequence[_Move], axis: int, extent: int, before: Sequence[tuple[int, int]], draws: Draws
) -> list[float] | None:
    """Starts along one axis that keep inside the frame, and each pair of `before` in order."""
    low = [float(np.max(move.reach - move.offsets[:, axis])) - 0.5 for move in moves]
    high = [float(np.min(extent - move.reach - move.offsets[:, axis])) - 0.5 for move in moves]
    apart = {
        (i, j): GAP
        + float(np.max(moves[i].offsets[:, axis] + moves[i].reach + moves[j].reach - moves[j].offsets[:, axis]))
        for i, j in before
    }
    for (i, j), gap in apart.items():
        high[i] = min(high[i], high[j] - gap)
    starts = [0.0] * len(moves)
    later = {j for _, j in before}
    for index in sorted(range(len(moves)), key=lambda index: index in later):
        for (i, j), gap in apart.items():
            if j == index:
                low[j] = max(low[j], starts[i] + gap)
        if low[index] > high[index]:
            return None
        starts[index] = draws.uniform(low[index], high[index])
    return starts
