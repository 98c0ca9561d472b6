"""Which of the objects that a clip shows is which of those that the prompt asks for.

All dimensions that ask about "the red circle" ask about the same object: the assignment under which most words are
right, colors first, then shapes, then sizes and actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from eval.shapes.observation import ObjectObservation, SceneObservation
from eval.shapes.words import size_word
from lingen_kit.data.shapes_grammar import Scene, SceneObject, canonical_color

__all__ = ["Pair", "hits", "match"]

_WORTH = {"color": 4, "shape": 3, "size": 1, "action": 1}


@dataclass(frozen=True)
class Pair:
    """An object that is asked for, and what was found for it.

    Attributes:
        asked: What the prompt says.
        seen: The object that comes nearest, None if there is none left for it.
        right: For each of "color", "shape", "size" and "action" that the prompt names, whether it is right.
    """

    asked: SceneObject
    seen: ObjectObservation | None
    right: dict[str, bool]


def match(scene: Scene, observation: SceneObservation, side: int) -> list[Pair]:
    """One pair for each object of the scene, in its order.

    Args:
        scene: What was asked for.
        observation: What was seen.
        side: Shorter side of the frame in pixels.
    """
    free: list[ObjectObservation | None] = [*observation.objects, *([None] * len(scene.objects))]
    # Among equals, those that come first: the largest objects.
    choices = [[_pair(asked, seen, len(scene.objects), side) for seen in free] for asked in scene.objects]
    best = max(
        permutations(range(len(free)), len(scene.objects)),
        key=lambda chosen: sum(_worth(choices[row][column]) for row, column in enumerate(chosen)),
    )
    return [choices[row][column] for row, column in enumerate(best)]


def _pair(asked: SceneObject, seen: ObjectObservation | None, count: int, side: int) -> Pair:
    truth: dict[str, str | None] = {
        "color": canonical_color(asked.color),
        "shape": asked.shape,
        "size": asked.size,
        "action": asked.action,
    }
    told: dict[str, str | None] = dict.fromkeys(truth)
    if seen is not None:
        told = {
            "color": seen.color,
            "shape": seen.shape,
            "size": size_word(seen.radii, count, side)[0],
            "action": seen.action,
        }
    return Pair(asked, seen, {name: told[name] == word for name, word in truth.items() if word is not None})


def _worth(pair: Pair) -> int:
    # That there is an object at all is worth least, but something.
    return 10 * sum(_WORTH[name] for name, right in pair.right.items() if right) + (pair.seen is not None)


def hits(pairs: Sequence[Pair], word: str) -> list[bool]:
    """Whether the word is right, for each object for which the prompt names one."""
    return [pair.right[word] for pair in pairs if word in pair.right]
