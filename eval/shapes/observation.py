"""What a judge says of a clip of moving shapes: its words, how sure of them it is, and the geometry behind them.

Any judge, by formulas or by a network, answers in these words, and everything else is computed from them.

Letters: T frames, S shapes of the grammar, in its order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Judge", "ObjectObservation", "SceneObservation"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ObjectObservation:
    """One object through a clip; None for what cannot be told, NaN in frames where it is not seen.

    Attributes:
        color: Word of the palette; "gray" also for "grey".
        shape: Word of the grammar.
        size: "small" or "large", for as many objects as were seen.
        action: Word of the grammar.
        confidence: Of "color", "shape", "size" and "action", each in [0, 1], from the margin to the next best word.
        rgb: `(3,)` color, 0 to 255.
        color_distance: From `rgb` to the word's color, infinite without a word.
        present: `(T,)` bool, whether it is seen.
        positions: `(T, 2)` centers (x, y) in pixels; pixel centers are at whole numbers.
        radii: `(T,)` in pixels, as the renderer has them.
        areas: `(T,)` in pixels.
        angles: `(T,)` in radians, 0 upright, clockwise on the screen.
        colors: `(T, 3)`, 0 to 255.
        shapes: `(T, S)` how much each frame alone looks like each shape, summing to 1.
        blur: Standard deviation in pixels of what softens its edges; 0 is as sharp as the renderer paints.
    """

    color: str | None
    shape: str | None
    size: str | None
    action: str | None
    confidence: dict[str, float]
    rgb: Floats
    color_distance: float
    present: NDArray[np.bool_]
    positions: Floats
    radii: Floats
    areas: Floats
    angles: Floats
    colors: Floats
    shapes: Floats
    blur: float = 0.0


@dataclass(frozen=True)
class SceneObservation:
    """What a clip shows.

    Attributes:
        background: Word of the palette of backgrounds, None if there is no background or no word for it.
        background_distance: From its color to the word's, in RGB of 0 to 255; infinite without a background.
        background_rgb: `(3,)` color, 0 to 255; None if there is no background.
        objects: Largest first; empty if nothing stands out, or all is in disorder.
        confidence: Of "background", in [0, 1].
    """

    background: str | None
    background_distance: float
    background_rgb: Floats | None
    objects: tuple[ObjectObservation, ...]
    confidence: dict[str, float] = field(default_factory=dict)


Judge = Callable[[NDArray[np.uint8]], SceneObservation]
"""From `(T, H, W, 3)` uint8 frames to what they show."""
