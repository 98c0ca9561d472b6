"""The closed world of the moving shapes: its words, its scenes, and scenes as sentences and back.

A scene is one to three objects, each with a shape, color, size and action, on a background. `describe` writes
it as a caption and `parse` reads the caption back, so a prompt carries its own ground truth. Combinations of
(shape, color, action) are held out of training by `is_held_out`, a pure function of the three words: a model
that obeys a held-out prompt has composed what it learnt, and a wider or narrower grammar never leaks a
combination.

The colors are VBench's twelve color words; "gray" and "grey" are two spellings of one color.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SHAPES = ("circle", "square", "triangle", "cross", "ring")

# Far apart in RGB, from each other and from every background: a test holds the least distance.
COLORS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "red": (225, 15, 15),
    "pink": (255, 120, 190),
    "blue": (25, 60, 245),
    "silver": (178, 178, 178),
    "purple": (150, 15, 190),
    "orange": (255, 135, 0),
    "green": (15, 175, 40),
    "gray": (95, 95, 95),
    "yellow": (255, 235, 15),
    "black": (0, 0, 0),
    "grey": (95, 95, 95),
}

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "navy": (0, 0, 95),
    "teal": (0, 125, 130),
    "beige": (245, 215, 150),
    "maroon": (110, 0, 30),
    "olive": (115, 115, 0),
}

SIZES: dict[str, float] = {"small": 0.14, "large": 0.22}
"""Radius of an object alone in its scene, as a share of the shorter side of the frame."""

DIRECTIONS: dict[str, tuple[int, int]] = {
    "moves left": (-1, 0),
    "moves right": (1, 0),
    "moves up": (0, -1),
    "moves down": (0, 1),
}
"""Actions that travel, with their step (x to the right, y downwards)."""

ACTIONS = (*DIRECTIONS, "bounces", "rotates", "grows", "shrinks", "stays")

RELATIONS = ("left of", "right of", "above", "below")

LEAST_FRAMES = {"stays": 1, "bounces": 4} | {name: 2 for name in (*DIRECTIONS, "rotates", "grows", "shrinks")}
"""Frames an action needs to be told from the others."""

# A lattice over the (shape, color, action) grid, searched for holding out about the same share of every
# shape, color and action, in the full grammar as in the directions or the still ones alone. A test holds that
# evenness.
_STEPS = (3356708864, 774790246, 1336755637)
_OFFSET = 4286167697


class Combination(NamedTuple):
    """What is held out together; `color` is in its canonical spelling."""

    shape: str
    color: str
    action: str


@dataclass(frozen=True)
class SceneObject:
    """One object; None stands for what the caption leaves unsaid."""

    shape: str
    color: str
    size: str | None = None
    action: str | None = None

    @property
    def combination(self) -> Combination:
        """The words that are held out together; an object without an action stays."""
        return Combination(self.shape, canonical_color(self.color), self.action or "stays")


@dataclass(frozen=True)
class Scene:
    """What a clip shows, without where.

    Attributes:
        objects: One to three objects.
        background: Its color word, or None if unsaid.
        relations: Empty for one object. For two: where the first is, seen from the second. For three, also
            where the first two both are, seen from the third.
    """

    objects: tuple[SceneObject, ...]
    background: str | None = None
    relations: tuple[str, ...] = ()

    def caption(self) -> str:
        """The sentence for this scene; see `describe`."""
        return describe(self)

    def relation_triples(self) -> list[tuple[int, str, int]]:
        """Each relation as (index of the object, word, index of the object it refers to)."""
        triples = [(0, word, 1) for word in self.relations[:1]]
        return triples + [(index, word, 2) for word in self.relations[1:] for index in (0, 1)]


def canonical_color(word: str) -> str:
    """The one spelling of a color under which clips are compared: "grey" is "gray"."""
    return "gray" if word == "grey" else word


def is_possible(shape: str, action: str) -> bool:
    """Whether the action can be seen on the shape: a turning circle or ring looks still."""
    return action != "rotates" or shape not in ("circle", "ring")


def combinations(shapes: Sequence[str], colors: Sequence[str], actions: Sequence[str]) -> list[Combination]:
    """Every possible combination of the words, spellings of one color taken together."""
    canonical = dict.fromkeys(canonical_color(color) for color in colors)
    return [
        Combination(shape, color, action)
        for shape in shapes
        for color in canonical
        for action in actions
        if is_possible(shape, action)
    ]


def is_held_out(combination: Combination, fraction: float) -> bool:
    """Whether a combination belongs to validation alone.

    A multiplicative hash of the three words' places in the full grammar: the same on every machine, in every
    run, for every choice of words.

    Args:
        combination: The three words.
        fraction: Share of all combinations to hold out, from 0 to below 1.
    """
    places = (
        SHAPES.index(combination.shape),
        list(COLORS).index(combination.color),
        ACTIONS.index(combination.action),
    )
    mixed = sum(place * step for place, step in zip(places, _STEPS, strict=True)) + _OFFSET
    return mixed % 2**32 < fraction * 2**32


def partition(
    shapes: Sequence[str], colors: Sequence[str], actions: Sequence[str], held_out: float
) -> tuple[list[Combination], list[Combination]]:
    """Divide the combinations of the words into those of training and those held out.

    Args:
        shapes: Words.
        colors: Words.
        actions: Words.
        held_out: Share to hold out; at 0 both lists are all combinations.

    Raises:
        ValueError: No combination can be seen, or a word would be left out of training altogether.
    """
    words = f"shapes={list(shapes)}, colors={list(colors)}, actions={list(actions)}"
    every = combinations(shapes, colors, actions)
    if not every:
        raise ValueError(f"none of {words} can be seen: circles and rings do not rotate; allow more words")
    if held_out == 0:
        return every, every
    train = [combination for combination in every if not is_held_out(combination, held_out)]
    trained = {word for combination in train for word in combination}
    missing = sorted({word for combination in every for word in combination} - trained)
    if missing:
        raise ValueError(
            f"held_out={held_out} leaves {', '.join(missing)} out of training altogether, with {words}; "
            f"lower held_out or allow more words"
        )
    return train, [combination for combination in every if is_held_out(combination, held_out)]


def describe(scene: Scene) -> str:
    """Write a scene as a caption; what is None goes unsaid. `parse` is the inverse.

    One object reads "a large red circle moves left on a navy background", two read "a small blue ring that
    stays, above a large yellow square that bounces, on a teal background", three read "A, left of B, both
    above C".
    """
    if len(scene.objects) == 1:
        thing = scene.objects[0]
        text = _noun(thing) + (f" {thing.action}" if thing.action else "")
        return text + _setting(scene, " on")
    phrases = [_noun(thing) + (f" that {thing.action}" if thing.action else "") for thing in scene.objects]
    text = f"{phrases[0]}, {scene.relations[0]} {phrases[1]}"
    if len(phrases) == 3:
        text += f", both {scene.relations[1]} {phrases[2]}"
    return text + _setting(scene, ", on")


def parse(caption: str) -> Scene:
    """Read a caption of this grammar back into the scene it describes.

    Raises:
        ValueError: The text is not a caption that `describe` writes.
    """
    match = _CAPTION.fullmatch(caption)
    if match is None:
        raise ValueError(
            f"cannot read {caption!r} as a moving-shapes caption; "
            "write for example 'a large red circle moves left on a navy background'"
        )
    found = match.groupdict()
    things = tuple(
        SceneObject(*(found[f"{part}{index}"] for part in ("shape", "color", "size", "action")))
        for index in range(3)
        if found[f"shape{index}"]
    )
    relations = tuple(found[name] for name in ("relation0", "relation1") if found[name])
    scene = Scene(things, found["background"], relations)
    if describe(scene) != caption:
        raise ValueError(f"cannot read {caption!r} as a moving-shapes caption; did you mean {describe(scene)!r}?")
    return scene


def _noun(thing: SceneObject) -> str:
    words = " ".join(word for word in (thing.size, thing.color, thing.shape) if word)
    return f"{_article(words)} {words}"


def _setting(scene: Scene, preposition: str) -> str:
    return f"{preposition} {_article(scene.background)} {scene.background} background" if scene.background else ""


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _pattern() -> re.Pattern[str]:
    def one_of(name: str, words: Sequence[str]) -> str:
        return f"(?P<{name}>{'|'.join(words)})"

    def thing(index: int) -> str:
        size, color = one_of(f"size{index}", list(SIZES)), one_of(f"color{index}", list(COLORS))
        action = one_of(f"action{index}", ACTIONS)
        return f"an? (?:{size} )?{color} {one_of(f'shape{index}', SHAPES)}(?: (?:that )?{action})?"

    second = f"(?:, {one_of('relation0', RELATIONS)} {thing(1)}"
    third = f"(?:, both {one_of('relation1', RELATIONS)} {thing(2)})?)?"
    return re.compile(
        thing(0) + second + third + f"(?:,? on an? {one_of('background', list(BACKGROUNDS))} background)?"
    )


_CAPTION = _pattern()
