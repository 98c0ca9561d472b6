"""Moving shapes: an endless procedural text-to-video dataset whose captions and truth are known exactly.

Every clip is drawn from its index alone, on the fly, so nothing is downloaded or stored, any worker or
machine makes the same clip, and a generated video can be judged against its prompt by looking at pixels.
Whether a model composes what it learnt shows on combinations of shape, color and action that training never
contains.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch.utils.data import Dataset

from lingen_kit.data.sample import Sample
from lingen_kit.data.shapes_grammar import (
    ACTIONS,
    BACKGROUNDS,
    COLORS,
    LEAST_FRAMES,
    RELATIONS,
    SHAPES,
    SIZES,
    Combination,
    Scene,
    SceneObject,
    canonical_color,
    partition,
)
from lingen_kit.data.shapes_motion import CROWDING, Draws, lay_out
from lingen_kit.data.shapes_renderer import Track, render

_SPLITS = ("train", "validation")
_LEAST_SIDE = 16
_ATTEMPTS = 500
_PROMPTS, _PAINTED = 2, 3  # streams of random numbers beside those of the two splits


class MovingShapesDataset(Dataset[Sample]):
    """Clips of simple shapes in motion, with captions and ground truth.

    `dataset[i]` depends on the arguments and `i` alone. Training never shows a held-out combination of shape,
    color and action, validation shows nothing else; for one frame the action counts as "stays". The caption
    leaves out the size or the background where only one is allowed, and every action where there is one
    frame.

    `attributes` of a sample holds, with N objects and T frames:
        objects: One dict each: `shape`, `color` (as spelled in the caption), `size`, `action`, `rgb` (0 to
            255), and as arrays `positions` (T, 2) in pixels (x, y), `radii` (T,) in pixels, `angles` (T,) in
            radians. Pixel centers are at whole numbers.
        masks: `(N, T, H, W)` bool, the pixels each object shows.
        background, background_rgb: The word and its RGB, 0 to 255.
        relations: (index, word, index) triples such as `(0, "left of", 1)`, true in every frame.

    Args:
        frames: Frames of a clip; 1 makes images.
        height: Of a frame, in pixels, at least 16.
        width: Of a frame, in pixels, at least 16.
        fps: Frames per second written to each sample. Motion is relative to the clip: it does not depend on
            this.
        length: Number of clips.
        seed: Another seed gives other clips; the held-out combinations stay.
        split: `train` or `validation`.
        shapes: Words to draw from: circle, square, triangle, cross, ring. None for all.
        colors: VBench's color words: white, red, pink, blue, silver, purple, orange, green, gray, yellow,
            black, grey. None for all.
        sizes: small, large. None for both.
        actions: moves left, moves right, moves up, moves down, bounces, rotates, grows, shrinks, stays. None
            for all that `frames` can show. Rings and circles never rotate: it could not be seen.
        backgrounds: navy, teal, beige, maroon, olive. None for all.
        objects: Least and greatest number of objects in a clip, within 1 to 3.
        held_out: Share of combinations kept for validation. 0 holds out none, and validation then draws other
            clips of the combinations of training.

    Raises:
        ValueError: An argument is out of range or an unknown word, or the words leave nothing to train on or
            to hold out.
    """

    def __init__(
        self,
        *,
        frames: int = 8,
        height: int = 32,
        width: int = 32,
        fps: float = 8.0,
        length: int = 100_000,
        seed: int = 0,
        split: Literal["train", "validation"] = "train",
        shapes: list[str] | None = None,
        colors: list[str] | None = None,
        sizes: list[str] | None = None,
        actions: list[str] | None = None,
        backgrounds: list[str] | None = None,
        objects: tuple[int, int] = (1, 1),
        held_out: float = 0.125,
    ) -> None:
        for name, value, least in (
            ("frames", frames, 1),
            ("height", height, _LEAST_SIDE),
            ("width", width, _LEAST_SIDE),
            ("length", length, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"{name}={value} is too small; give {least} or more")
        if not fps > 0:
            raise ValueError(f"fps={fps} is not above 0; give for example 8")
        if split not in _SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(_SPLITS)}")
        if not 0 <= held_out < 1:
            raise ValueError(f"held_out={held_out} is not a share; give a number from 0 to below 1, such as 0.125")
        fewest, most = objects
        if not 1 <= fewest <= most <= len(CROWDING):
            raise ValueError(f"objects={objects} is no range within 1 to {len(CROWDING)}; give for example [1, 2]")
        self.frames, self.height, self.width, self.fps = frames, height, width, fps
        self.length, self.seed, self.split = length, seed, split
        self.shapes = _words("shapes", shapes, SHAPES)
        self.colors = _words("colors", colors, tuple(COLORS))
        self.sizes = _words("sizes", sizes, tuple(SIZES))
        self.backgrounds = _words("backgrounds", backgrounds, tuple(BACKGROUNDS))
        self.actions = self._actions(actions)
        self.objects, self.held_out = (fewest, most), held_out
        distinct = len({canonical_color(color) for color in self.colors})
        if distinct < most:
            raise ValueError(
                f"objects={objects} needs {most} different colors, but {list(self.colors)} "
                f"has {distinct}; choose more out of {', '.join(COLORS)}"
            )
        self.train_combinations, self.held_out_combinations = partition(
            self.shapes, self.colors, self.actions, held_out
        )
        if split == "validation" and not self.held_out_combinations:
            raise ValueError(
                f"held_out={held_out} holds out none of the {len(self.train_combinations)} "
                f"combinations of these words; raise it, allow more words, or set it to 0 to validate on those "
                f"of training"
            )
        self._pool = self.train_combinations if split == "train" else self.held_out_combinations
        if len({combination.color for combination in self._pool}) < most:
            raise ValueError(
                f"the {len(self._pool)} combinations of the {split} split have fewer than the {most} "
                f"different colors that objects={objects} needs; allow more words, or change "
                f"held_out={held_out}"
            )
        self._draw(Draws(seed, _SPLITS.index(split), length))

    def __len__(self) -> int:
        """Number of clips."""
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Draw one clip.

        Raises:
            IndexError: The index is not within 0 to length - 1.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"clip {index} is outside 0 to {self.length - 1}")
        scene, tracks = self._draw(Draws(self.seed, _SPLITS.index(self.split), int(index)))
        return self._sample(scene, tracks, f"moving_shapes/{self.split}:{index}")

    def caption(self, scene: Scene) -> str:
        """The caption of a scene in this dataset, without the words that say nothing here."""
        things = tuple(
            replace(
                thing,
                size=thing.size if len(self.sizes) > 1 else None,
                action=thing.action if self.frames > 1 else None,
            )
            for thing in scene.objects
        )
        background = scene.background if len(self.backgrounds) > 1 else None
        return replace(scene, objects=things, background=background).caption()

    def scene(self, index: int) -> Scene:
        """What clip `index` shows, without painting it."""
        return self._draw(Draws(self.seed, _SPLITS.index(self.split), index))[0]

    def paint(self, scene: Scene, seed: int = 0) -> Sample:
        """A clip of a given scene, such as one of `held_out_prompts`.

        Args:
            scene: With a size, an action and a background named.
            seed: Another seed gives other positions and paths.

        Raises:
            ValueError: The scene does not fit the frame.
        """
        for attempt in range(_ATTEMPTS):
            tracks = self._lay_out(scene, Draws(seed, _PAINTED, attempt))
            if tracks is not None:
                return self._sample(scene, tracks, f"moving_shapes/scene:{seed}")
        raise ValueError(f"{scene.caption()!r} does not fit {self.height}x{self.width}; use a larger frame")

    def held_out_prompts(self, n: int, seed: int = 0) -> list[tuple[str, Scene]]:
        """Prompts that training never showed, each with its truth, spread evenly over the words.

        Captions are distinct as long as there are enough. They have one object where `objects` allows one.

        Args:
            n: How many.
            seed: Another seed gives another choice and order.
        """
        draws = Draws(seed, _PROMPTS)
        if self.objects[0] > 1:
            return self._prompts_of_many(n, draws)
        variants = {
            combination: draws.shuffled(
                [
                    (color, size, background)
                    for color in self._spellings(combination.color)
                    for size in self.sizes
                    for background in self.backgrounds
                ]
            )
            for combination in draws.shuffled(self.held_out_combinations)
        }
        used = dict.fromkeys(variants, 0)
        counts: dict[str, int] = dict.fromkeys((*self.shapes, *self.colors, *self.actions), 0)
        prompts = []
        for _ in range(n):
            fewest = min(-(-(used[key] + 1) // len(variants[key])) for key in variants)
            fresh = [key for key in variants if -(-(used[key] + 1) // len(variants[key])) == fewest]
            chosen = min(
                fresh,
                key=lambda key: (
                    counts[key.color] * len(self.colors)
                    + counts[key.action] * len(self.actions)
                    + counts[key.shape] * len(self.shapes),
                    used[key],
                ),
            )
            color, size, background = variants[chosen][used[chosen] % len(variants[chosen])]
            used[chosen] += 1
            for word in chosen:
                counts[word] += 1
            scene = Scene((SceneObject(chosen.shape, color, size, chosen.action),), background)
            prompts.append((self.caption(scene), scene))
        return prompts

    def _prompts_of_many(self, n: int, draws: Draws) -> list[tuple[str, Scene]]:
        prompts: dict[str, Scene] = {}
        spare: list[tuple[str, Scene]] = []
        for _ in range(20 * n):
            scene, _tracks = self._draw(draws, self.held_out_combinations)
            caption = self.caption(scene)
            if caption in prompts:
                spare.append((caption, scene))
            prompts[caption] = scene
            if len(prompts) == n:
                break
        return [*prompts.items(), *spare][:n]

    def _draw(self, draws: Draws, pool: Sequence[Combination] | None = None) -> tuple[Scene, list[Track]]:
        pool = self._pool if pool is None else pool
        for _ in range(_ATTEMPTS):
            count = draws.integer(*self.objects)
            chosen = [draws.pick(pool) for _ in range(count)]
            if len({combination.color for combination in chosen}) < count:
                continue
            things = tuple(
                SceneObject(
                    combination.shape,
                    draws.pick(self._spellings(combination.color)),
                    draws.pick(self.sizes),
                    combination.action,
                )
                for combination in chosen
            )
            scene = Scene(things, draws.pick(self.backgrounds), _relations(count, draws))
            tracks = self._lay_out(scene, draws)
            if tracks is not None:
                return scene, tracks
        raise ValueError(
            f"found no room for {self.objects} objects of sizes={list(self.sizes)} with "
            f"actions={list(self.actions)} in {self.height}x{self.width}; "
            f"allow more actions, smaller sizes or fewer objects"
        )

    def _lay_out(self, scene: Scene, draws: Draws) -> list[Track] | None:
        return lay_out(scene, draws, frames=self.frames, height=self.height, width=self.width)

    def _sample(self, scene: Scene, tracks: Sequence[Track], source: str) -> Sample:
        background = scene.background or self.backgrounds[0]
        video, masks = render(tracks, BACKGROUNDS[background], self.height, self.width)
        video *= 1 / 127.5
        video -= 1.0
        objects = [
            {
                "shape": thing.shape,
                "color": thing.color,
                "size": thing.size,
                "action": thing.action,
                "rgb": track.rgb,
                "positions": track.positions,
                "radii": track.radii,
                "angles": track.angles,
            }
            for thing, track in zip(scene.objects, tracks, strict=True)
        ]
        attributes: dict[str, Any] = {
            "objects": objects,
            "masks": masks,
            "background": background,
            "background_rgb": BACKGROUNDS[background],
            "relations": scene.relation_triples(),
        }
        return Sample(
            video=torch.from_numpy(video),
            caption=self.caption(scene),
            fps=self.fps,
            source=source,
            attributes=attributes,
        )

    def _spellings(self, color: str) -> list[str]:
        return [word for word in self.colors if canonical_color(word) == color]

    def _actions(self, actions: list[str] | None) -> tuple[str, ...]:
        words = _words("actions", actions, ACTIONS)
        if self.frames == 1:
            return ("stays",)
        if actions is None:
            return tuple(word for word in words if LEAST_FRAMES[word] <= self.frames)
        for word in words:
            if LEAST_FRAMES[word] > self.frames:
                raise ValueError(
                    f"action {word!r} cannot be shown in frames={self.frames}; "
                    f"give at least {LEAST_FRAMES[word]} frames or drop it"
                )
        return words


def _words(name: str, given: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if given is None:
        return known
    if isinstance(given, str) or not given:
        raise ValueError(f"{name}={given!r} is not a list of words; give some of {', '.join(known)}, or null for all")
    for word in given:
        if word not in known:
            raise ValueError(f"unknown word {word!r} in {name}; choose out of {', '.join(known)}")
    return tuple(dict.fromkeys(given))


def _relations(count: int, draws: Draws) -> tuple[str, ...]:
    if count == 1:
        return ()
    first = draws.pick(RELATIONS)
    if count == 2:
        return (first,)
    # The third is told apart on the other axis, where both others can be beside it.
    across = RELATIONS[2:] if first in RELATIONS[:2] else RELATIONS[:2]
    return (first, draws.pick(across))
