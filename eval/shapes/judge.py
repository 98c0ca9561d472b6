"""ShapeBench's second judge: the words of a trained network, beside the geometry that formulas measure.

The network never saw the formulas and the formulas never saw the network: where the two say the same, both are probably
right, and how often they do is part of a report.

Letters: T frames, H height, W width.
"""

from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eval.shapes.observation import ObjectObservation, SceneObservation
from eval.shapes.observe import check_frames, observe
from lingen_kit.data.shapes_grammar import ACTIONS, BACKGROUNDS, COLORS, SHAPES, SIZES
from lingen_kit.data.shapes_motion import CROWDING

if TYPE_CHECKING:
    from torch import Tensor

    from eval.shapes.judge_network import ShapeJudgeNetwork

__all__ = ["agreement_of", "made_by", "network_observe"]

Frames = NDArray[np.uint8]

_WEIGHTS = "judge.safetensors"
_NEAR = 0.25  # share of the frame within which the formulas' object is the network's, whatever its color


def network_observe(video: Frames) -> SceneObservation:
    """Observe a clip: words and confidence from the network, geometry from the formulas where they see the object, too.

    Args:
        video: `(T, H, W, 3)` uint8 frames.

    Raises:
        ValueError: The array has another type or shape.
    """
    return reworded(observe(video), video)


def reworded(observation: SceneObservation, video: Frames) -> SceneObservation:
    """The same geometry with the network's words.

    Args:
        observation: What the formulas say.
        video: `(T, H, W, 3)` uint8 frames of the same clip.
    """
    import torch

    from eval.shapes.judge_network import SLOT_COLORS

    check_frames(video)
    with torch.inference_mode():
        reading = _network()(torch.from_numpy(video).permute(3, 0, 1, 2)[None].float().div(127.5).sub(1))
    chances = torch.sigmoid(reading.present[0])
    free = list(observation.objects)
    objects = []
    slots = [slot for slot in range(len(SLOT_COLORS)) if chances[slot] > 0.5]
    for slot in sorted(slots, key=lambda slot: -float(chances[slot])):
        shape, sure_shape = _best(reading.shape[0, slot], SHAPES)
        action, sure_action = _best(reading.action[0, slot], ACTIONS)
        size, sure_size = _best(reading.size[0, slot], tuple(SIZES))
        confidence = {
            "color": 2 * float(chances[slot]) - 1,
            "shape": sure_shape,
            "action": sure_action,
            "size": sure_size,
        }
        positions = _in_pixels(reading.positions[0, slot].numpy(), video.shape)
        color = SLOT_COLORS[slot]
        same = _same(free, color, positions, video.shape)
        if same is not None:
            free.remove(same)
        seen = same or _drawn(color, size, positions, len(slots), video.shape)
        objects.append(replace(seen, color=color, shape=shape, action=action, size=size, confidence=confidence))
    background, sure = _best(reading.background[0], tuple(BACKGROUNDS))
    return replace(observation, background=background, objects=tuple(objects), confidence={"background": sure})


def agreement_of(one: SceneObservation, other: SceneObservation) -> dict[str, float]:
    """How far two judges say the same of a clip.

    Returns:
        `objects`: 1 if they see the same colors, else 0; `background` likewise; `shape`, `action` and `size`: share of
        the objects that both see of which they say the same, absent if there is none.
    """
    first = {seen.color: seen for seen in one.objects}
    second = {seen.color: seen for seen in other.objects}
    found = {
        "objects": float(set(first) == set(second)),
        "background": float(one.background == other.background),
    }
    both = [color for color in first if color in second]
    for word in ("shape", "action", "size"):
        if both:
            same = [getattr(first[color], word) == getattr(second[color], word) for color in both]
            found[word] = sum(same) / len(same)
    return found


def made_by() -> dict[str, Any]:
    """The weights, by their hash."""
    return {"weights": _WEIGHTS, "sha256": sha256(_bytes()).hexdigest()}


@cache
def _network() -> "ShapeJudgeNetwork":
    from safetensors.torch import load

    from eval.shapes.judge_network import ShapeJudgeNetwork

    network = ShapeJudgeNetwork()
    network.load_state_dict({name: value.float() for name, value in load(_bytes()).items()})
    return network.eval().requires_grad_(False)


def _bytes() -> bytes:
    return (files("eval.shapes") / _WEIGHTS).read_bytes()


def _best(logits: "Tensor", words: tuple[str, ...]) -> tuple[str, float]:
    """The likeliest word, and by how much it is likelier than the next."""
    first, second = logits.softmax(-1).topk(2).values.tolist()
    return words[int(logits.argmax())], first - second


def _in_pixels(places: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Positions of 8 frames in shares of the frame as `(T, 2)` pixels; pixel centers are at whole numbers."""
    frames, height, width = shape[:3]
    times = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    known = np.linspace(0, 1, len(places))
    return np.stack(
        [np.interp(times, known, places[:, axis]) * extent - 0.5 for axis, extent in enumerate((width, height))], -1
    )


def _same(
    free: list[ObjectObservation], color: str, positions: NDArray[np.float64], shape: tuple[int, ...]
) -> ObjectObservation | None:
    """The formulas' object of the color, or else the one that is where the network sees one of another color."""
    for seen in free:
        if seen.color == color:
            return seen
    reach = _NEAR * min(shape[1:3])
    for seen in free:
        away = np.linalg.norm(seen.positions - positions, axis=-1)[seen.present]
        if away.size and float(np.median(away)) < reach:
            return seen
    return None


def _drawn(
    color: str, size: str, positions: NDArray[np.float64], count: int, shape: tuple[int, ...]
) -> ObjectObservation:
    """An object that only the network sees: its place is the network's, its size that of the word."""
    frames, side = shape[0], min(shape[1:3])
    radius = SIZES[size] * CROWDING[min(count, len(CROWDING)) - 1] * side
    rgb = np.array(COLORS[color], np.float64)
    return ObjectObservation(
        color=color,
        shape=None,
        size=size,
        action=None,
        confidence={},
        rgb=rgb,
        color_distance=0.0,
        present=np.ones(frames, np.bool_),
        positions=positions,
        radii=np.full(frames, radius),
        areas=np.full(frames, np.pi * radius**2),
        angles=np.zeros(frames),
        colors=np.tile(rgb, (frames, 1)),
        shapes=np.full((frames, len(SHAPES)), 1 / len(SHAPES)),
    )
