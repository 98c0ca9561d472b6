"""Whether a clip shows what its prompt says: the nine Semantic dimensions, of a prompt that carries its truth.

All follow VBench (Huang et al., arXiv 2311.17982) in what they ask, and none in how: where VBench asks a network, here
words of the observation are compared with words of the scene. A clip in which nothing is seen has failed, so its scores
are 0; a dimension that a prompt does not ask for has none.

| dimension | asks |
|---|---|
| object class | share of the shapes asked for that are shown, each as often as asked |
| multiple objects | share of the frames that show the shapes asked for, no fewer and no more |
| action (VBench: human action) | share of the objects that do what is asked |
| color | share of the pairs of color and shape asked for that are shown |
| spatial relationship | share of the frames and relations in which the right object is on the right side |
| scene | whether the background is the one asked for |
| appearance style | share of the objects whose size word is right: a size changes how a thing looks, not what it is |
| temporal style | how nearly each object's course in time is that of its action: even travel, the form of a hop |
| overall consistency | share of all words of the prompt that are right at once, objects too many counted as wrong |

Letters: T frames.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.metric import Score
from eval.shapes.courses import accord
from eval.shapes.match import Pair, hits
from eval.shapes.observation import SceneObservation
from lingen_kit.data.shapes_grammar import Scene, canonical_color

__all__ = ["fidelity"]

_STILL = "a single frame shows no motion"


def fidelity(
    scene: Scene, observation: SceneObservation, pairs: Sequence[Pair], size: tuple[int, int, int]
) -> dict[str, Score]:
    """The nine, by their plain names.

    Args:
        scene: What was asked for.
        observation: What was seen.
        pairs: Of the two, by `match`.
        size: Frames, height and width.
    """
    shapes = _shared([thing.shape for thing in scene.objects], [seen.shape for seen in observation.objects])
    colors = _shared(
        [(canonical_color(thing.color), thing.shape) for thing in scene.objects],
        [(seen.color, seen.shape) for seen in observation.objects],
    )
    asked = len(scene.objects)
    words = _words(scene, observation)
    return {
        "object_class": Score(shapes / asked, details=words),
        "multiple_objects": _multiple(scene, observation, size[0]),
        "action": _share(hits(pairs, "action"), "names no action") if size[0] > 1 else Score.none(_STILL),
        "color": Score(colors / asked),
        "spatial_relationship": _spatial(scene, pairs, size[0]),
        "scene": _scene(scene, observation),
        "appearance_style": _share(hits(pairs, "size"), "names no size"),
        "temporal_style": _temporal(pairs, size),
        "overall_consistency": _overall(scene, observation, pairs, size[0]),
    }


def _shared(asked: Sequence[object], seen: Sequence[object]) -> int:
    return sum((Counter(asked) & Counter(seen)).values())


def _words(scene: Scene, observation: SceneObservation) -> dict[str, object]:
    told = [
        {
            "color": seen.color,
            "shape": seen.shape,
            "size": seen.size,
            "action": seen.action,
            "confidence": {name: round(sure, 3) for name, sure in seen.confidence.items()},
        }
        for seen in observation.objects
    ]
    return {"asked": scene.caption(), "seen": told, "background": observation.background}


def _share(right: Sequence[bool], otherwise: str) -> Score:
    return Score(sum(right) / len(right)) if right else Score.none(f"the prompt {otherwise}")


def _multiple(scene: Scene, observation: SceneObservation, frames: int) -> Score:
    if len(scene.objects) == 1:
        return Score.none("the prompt asks for one object")
    asked = Counter(thing.shape for thing in scene.objects)
    exact = [
        Counter(seen.shape for seen in observation.objects if seen.present[frame]) == asked for frame in range(frames)
    ]
    return Score(sum(exact) / frames, details={"asked": len(scene.objects), "seen": len(observation.objects)})


def _relations(scene: Scene, pairs: Sequence[Pair], frames: int) -> list[float]:
    """For each relation the share of frames in which it holds; frames that lack one of the two do not count for it."""
    shares = []
    for first, word, second in scene.relation_triples():
        one, other = pairs[first].seen, pairs[second].seen
        if one is None or other is None:
            shares.append(0.0)
            continue
        axis, sign = int(word in ("above", "below")), 1 if word in ("right of", "below") else -1
        with np.errstate(invalid="ignore"):
            holds = sign * (one.positions[:, axis] - other.positions[:, axis]) > 0  # T; false where one is NaN
        shares.append(float(holds.sum()) / frames)
    return shares


def _spatial(scene: Scene, pairs: Sequence[Pair], frames: int) -> Score:
    shares = _relations(scene, pairs, frames)
    return Score(float(np.mean(shares))) if shares else Score.none("the prompt names no relation")


def _scene(scene: Scene, observation: SceneObservation) -> Score:
    if scene.background is None:
        return Score.none("the prompt names no background")
    return Score(float(observation.background == scene.background), details={"seen": observation.background})


def _temporal(pairs: Sequence[Pair], size: tuple[int, int, int]) -> Score:
    frames, height, width = size
    asked = [(pair.asked.action, pair.seen) for pair in pairs if pair.asked.action]
    if frames < 2:
        return Score.none(_STILL)
    if not asked:
        return Score.none("the prompt names no action")
    shares = [accord(seen, action, height, width) if seen and action else 0.0 for action, seen in asked]
    return Score(float(np.mean(shares)), details={"objects": [round(share, 4) for share in shares]})


def _overall(scene: Scene, observation: SceneObservation, pairs: Sequence[Pair], frames: int) -> Score:
    right = [hit for pair in pairs for word, hit in pair.right.items() if word != "action" or frames > 1]
    right += [share > 0.5 for share in _relations(scene, pairs, frames)]
    if scene.background is not None:
        right.append(observation.background == scene.background)
    right += [False] * max(0, len(observation.objects) - len(scene.objects))
    return Score(sum(right) / len(right), details={"words": len(right), "right": sum(right), "all": all(right)})
