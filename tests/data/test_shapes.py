import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lingen_kit.data.sample import collate
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.data.shapes_grammar import (
    ACTIONS,
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    combinations,
    describe,
    is_held_out,
    parse,
    partition,
)
from lingen_kit.data.shapes_renderer import Track, coverage

CLIPS = 150


def scenes(count: int = 400):
    """Scenes of every kind, also with words left unsaid."""
    for dataset in (MovingShapesDataset(), MovingShapesDataset(objects=(2, 3)), MovingShapesDataset(frames=1)):
        for index in range(count):
            yield dataset.scene(index)


class TestGrammar:
    def test_colors_are_the_twelve_words_of_vbench_and_eleven_colors(self):
        assert len(COLORS) == 12
        assert len(set(COLORS.values())) == 11
        assert COLORS["gray"] == COLORS["grey"]

    def test_colors_and_backgrounds_are_far_apart(self):
        palette = {word: rgb for word, rgb in (COLORS | BACKGROUNDS).items() if word != "grey"}
        for (a, first), (b, second) in itertools.combinations(palette.items(), 2):
            assert np.linalg.norm(np.subtract(first, second)) > 80, (a, b)

    def test_parse_reads_back_what_describe_wrote(self):
        for scene in scenes():
            assert parse(describe(scene)) == scene

    def test_parse_reads_back_what_goes_unsaid(self):
        for scene in scenes(60):
            for size, action, background in itertools.product((False, True), repeat=3):
                things = tuple(
                    replace(
                        thing,
                        size=thing.size if size else None,
                        action=thing.action if action else None,
                    )
                    for thing in scene.objects
                )
                said = Scene(things, scene.background if background else None, scene.relations)
                assert parse(describe(said)) == said

    def test_captions_read_naturally(self):
        ball = SceneObject("ring", "orange", None, "bounces")
        box = SceneObject("square", "blue", "large", "stays")
        star = SceneObject("cross", "red", "small", "moves left")
        assert describe(Scene((box,), "olive")) == "a large blue square stays on an olive background"
        assert describe(Scene((ball,))) == "an orange ring bounces"
        assert describe(Scene((ball, box), "teal", ("above",))) == (
            "an orange ring that bounces, above a large blue square that stays, on a teal background"
        )
        assert describe(Scene((ball, box, star), None, ("above", "left of"))) == (
            "an orange ring that bounces, above a large blue square that stays, "
            "both left of a small red cross that moves left"
        )

    @pytest.mark.parametrize(
        "text", ["", "a red dog moves left", "an red circle moves left", "a red circle moves left on a navy"]
    )
    def test_parse_rejects_other_text(self, text):
        with pytest.raises(ValueError, match="moving-shapes caption"):
            parse(text)


class TestHeldOut:
    def test_no_choice_of_words_leaks_a_combination(self):
        train, held = partition(SHAPES, list(COLORS), ACTIONS, 0.125)
        narrow_train, narrow_held = partition(SHAPES, ["red", "grey", "blue"], list(DIRECTIONS), 0.125)
        assert set(narrow_train) <= set(train)
        assert set(narrow_held) <= set(held)

    def test_it_is_the_same_on_every_machine(self):
        held = [tuple(c) for c in combinations(SHAPES, ["red"], DIRECTIONS) if is_held_out(c, 0.125)]
        assert held == [("circle", "red", "moves down"), ("triangle", "red", "moves right")]

    @pytest.mark.parametrize("fraction", [0.05, 0.125, 0.25, 0.5])
    @pytest.mark.parametrize("actions", [ACTIONS, tuple(DIRECTIONS)], ids=["all actions", "directions"])
    def test_the_share_is_right_and_even(self, fraction, actions):
        every = combinations(SHAPES, list(COLORS), actions)
        held = [combination for combination in every if is_held_out(combination, fraction)]
        assert len(held) / len(every) == pytest.approx(fraction, abs=0.02)
        for place in range(3):
            counts = Counter(combination[place] for combination in held)
            for word, total in Counter(combination[place] for combination in every).items():
                assert counts[word] == pytest.approx(fraction * total, abs=3.0), word

    @pytest.mark.parametrize("frames", [1, 8])
    @pytest.mark.parametrize("objects", [(1, 1), (2, 3)])
    def test_training_and_validation_share_no_combination(self, frames, objects):
        seen = {}
        for split in ("train", "validation"):
            dataset = MovingShapesDataset(split=split, frames=frames, objects=objects)
            every = (dataset.scene(index) for index in range(600))
            seen[split] = {thing.combination for scene in every for thing in scene.objects}
        assert not seen["train"] & seen["validation"]
        assert all(is_held_out(combination, 0.125) for combination in seen["validation"])
        words = {word for combination in seen["train"] for word in combination}
        assert words >= set(SHAPES) | set(COLORS) - {"grey"}

    def test_both_spellings_of_gray_are_used_and_held_out_together(self):
        dataset = MovingShapesDataset()
        words = Counter(dataset.scene(index).objects[0].color for index in range(3000))
        assert words["gray"] > 50
        assert words["grey"] > 50
        assert words["gray"] + words["grey"] == pytest.approx(words["red"], rel=0.35)

    def test_holding_out_nothing_validates_on_the_combinations_of_training(self):
        words = dict(shapes=["circle"], colors=["red"], actions=["moves left"], held_out=0.0)
        train, validation = (MovingShapesDataset(split=split, **words) for split in ("train", "validation"))
        assert train[0]["caption"].startswith("a ")
        assert not torch.equal(train[0]["video"], validation[0]["video"])


class TestPrompts:
    @pytest.mark.parametrize("split", ["train", "validation"])
    def test_they_are_held_out_distinct_and_even(self, split):
        dataset = MovingShapesDataset(split=split, actions=list(DIRECTIONS))
        prompts = dataset.held_out_prompts(64)
        assert len({caption for caption, _ in prompts}) == 64
        kinds = [scene.objects[0].combination for _, scene in prompts]
        assert all(is_held_out(kind, 0.125) for kind in kinds)
        for place, words in ((0, 5), (1, 11), (2, 4)):
            counts = Counter(kind[place] for kind in kinds)
            assert len(counts) == words
            assert max(counts.values()) - min(counts.values()) <= 3
        for caption, scene in prompts:
            assert parse(caption) == scene

    def test_they_repeat_only_once_all_are_used(self):
        dataset = MovingShapesDataset(
            actions=["moves left"], shapes=["circle", "square"], sizes=["large"], backgrounds=["navy"]
        )
        most = len({caption for caption, _ in dataset.held_out_prompts(500)})
        counts = Counter(caption for caption, _ in dataset.held_out_prompts(2 * most))
        assert set(counts.values()) == {2}

    def test_they_depend_on_the_seed_alone(self):
        first, second = MovingShapesDataset(seed=3), MovingShapesDataset(seed=4, split="validation")
        assert first.held_out_prompts(16) == second.held_out_prompts(16)
        assert first.held_out_prompts(16) != first.held_out_prompts(16, seed=1)

    def test_scenes_of_several_objects(self):
        prompts = MovingShapesDataset(objects=(2, 2)).held_out_prompts(20)
        assert len({caption for caption, _ in prompts}) == 20
        assert all(is_held_out(thing.combination, 0.125) for _, scene in prompts for thing in scene.objects)

    def test_a_prompt_can_be_painted(self):
        dataset = MovingShapesDataset()
        for caption, scene in dataset.held_out_prompts(8):
            sample = dataset.paint(scene)
            assert sample["caption"] == caption
            assert not torch.equal(sample["video"], dataset.paint(scene, seed=1)["video"])


class TestDeterminism:
    def test_a_clip_depends_on_its_index_alone(self):
        forward = MovingShapesDataset(objects=(1, 3))
        numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
        backward = [MovingShapesDataset(objects=(1, 3))[index] for index in reversed(range(20))][::-1]
        for index, sample in enumerate(backward):
            assert torch.equal(forward[index]["video"], sample["video"])
            assert forward[index]["caption"] == sample["caption"]
        assert np.array_equal(np.random.get_state()[1], numpy_state)
        assert torch.equal(torch.get_rng_state(), torch_state)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_workers_make_the_same_clips(self):
        dataset = MovingShapesDataset(length=12)
        loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=collate)
        videos = torch.cat([batch["video"] for batch in loader])
        assert torch.equal(videos, torch.stack([dataset[index]["video"] for index in range(12)]))

    def test_seed_split_and_index_each_change_the_clip(self):
        clips = [
            MovingShapesDataset(seed=seed, split=split, held_out=0.0)[index]["video"]
            for seed, split, index in itertools.product((0, 1), ("train", "validation"), (0, 1))
        ]
        assert all(not torch.equal(a, b) for a, b in itertools.combinations(clips, 2))

    def test_the_length_does_not_change_the_clips(self):
        assert torch.equal(MovingShapesDataset(length=5)[4]["video"], MovingShapesDataset()[4]["video"])

    def test_known_clips(self):
        # Whoever changes these changes the data set: published numbers no longer compare.
        dataset = MovingShapesDataset()
        found = [(dataset[i]["caption"], round(float(dataset[i]["video"].mean()), 3)) for i in range(3)]
        assert found == [
            ("a large silver cross bounces on an olive background", -0.299),
            ("a small blue circle moves down on a teal background", -0.321),
            ("a small white triangle moves right on an olive background", -0.342),
        ]


def pixels_of(sample) -> np.ndarray:
    """Frames, `(T, H, W, 3)`, 0 to 255."""
    return ((sample["video"] + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()


class TestSample:
    @pytest.mark.parametrize(
        ("frames", "height", "width"), [(8, 32, 32), (1, 32, 32), (5, 24, 40), (16, 64, 48)], ids=str
    )
    def test_shape_range_and_whole_levels(self, frames, height, width):
        sample = MovingShapesDataset(frames=frames, height=height, width=width, fps=4.0)[7]
        video = sample["video"]
        assert video.shape == (3, frames, height, width)
        assert video.dtype == torch.float32
        assert video.is_contiguous()
        levels = (video + 1) * 127.5
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert video.min() >= -1
        assert video.max() <= 1
        assert sample["fps"] == 4.0
        assert sample["source"] == "moving_shapes/train:7"

    def test_index_is_checked(self):
        dataset = MovingShapesDataset(length=3)
        assert len(list(dataset)) == 3
        for index in (-1, 3):
            with pytest.raises(IndexError, match="outside 0 to 2"):
                dataset[index]

    def test_the_caption_tells_the_attributes(self):
        dataset = MovingShapesDataset(objects=(1, 3))
        for index in range(CLIPS):
            sample = dataset[index]
            said, truth = parse(sample["caption"]), sample["attributes"]
            assert said.background == truth["background"]
            assert said.relation_triples() == truth["relations"]
            for thing, known in zip(said.objects, truth["objects"], strict=True):
                words = (thing.shape, thing.color, thing.size, thing.action)
                assert words == tuple(known[key] for key in ("shape", "color", "size", "action"))
                assert known["rgb"] == COLORS[thing.color]

    def test_what_says_nothing_goes_unsaid(self):
        words = dict(sizes=["large"], backgrounds=["navy"])
        said = parse(MovingShapesDataset(**words)[0]["caption"])
        assert said.background is None
        assert said.objects[0].size is None
        assert said.objects[0].action is not None
        assert parse(MovingShapesDataset(frames=1)[0]["caption"]).objects[0].action is None

    def test_masks_positions_and_pixels_agree(self):
        dataset = MovingShapesDataset(objects=(1, 3))
        for index in range(CLIPS):
            sample = dataset[index]
            truth, pixels = sample["attributes"], pixels_of(sample)
            masks = truth["masks"]
            assert masks.shape == (len(truth["objects"]), 8, 32, 32)
            assert masks.sum(0).max() == 1, "objects overlap"
            for known, mask in zip(truth["objects"], masks, strict=True):
                assert mask.any((1, 2)).all()
                for frame in range(8):
                    y, x = np.nonzero(mask[frame])
                    assert np.hypot(*(known["positions"][frame] - (x.mean(), y.mean()))) < 0.8
                inside = pixels[mask]  # at least half covered, so nearer to the object's color
                to_object = np.linalg.norm(inside - known["rgb"], axis=-1)
                assert (to_object <= np.linalg.norm(inside - truth["background_rgb"], axis=-1) + 2).all()
            outside = np.median(pixels[~masks.any(0)], axis=0)
            assert np.array_equal(outside, truth["background_rgb"])

    def test_the_core_of_an_object_has_its_color(self):
        dataset = MovingShapesDataset(sizes=["large"])
        for index in range(CLIPS):
            truth = dataset[index]["attributes"]
            inside = pixels_of(dataset[index])[truth["masks"][0]]
            assert np.array_equal(np.median(inside, axis=0), truth["objects"][0]["rgb"])

    def test_relations_hold_in_every_frame(self):
        dataset = MovingShapesDataset(objects=(2, 3))
        words = Counter()
        for index in range(CLIPS):
            truth = dataset[index]["attributes"]
            assert len({known["rgb"] for known in truth["objects"]}) == len(truth["objects"])
            for first, word, second in truth["relations"]:
                words[word] += 1
                axis = 1 if word in ("left of", "right of") else 0  # of (H, W)
                for a, b in zip(truth["masks"][first], truth["masks"][second], strict=True):
                    a, b = np.nonzero(a)[axis], np.nonzero(b)[axis]
                    assert a.max() < b.min() if word in ("left of", "above") else a.min() > b.max()
        assert set(words) == set(RELATIONS)


def shown(action: str, **words):
    dataset = MovingShapesDataset(actions=[action], held_out=0.0, **words)
    for index in range(60):
        yield dataset[index]["attributes"]["objects"][0], dataset[index]


class TestActions:
    @pytest.mark.parametrize("action", list(DIRECTIONS))
    @pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 48)], ids=str)
    def test_directions_travel_a_quarter_of_the_frame(self, action, height, width):
        for known, _ in shown(action, height=height, width=width):
            x, y = (known["positions"][-1] - known["positions"][0]) / (width, height)
            step = DIRECTIONS[action]
            assert x * step[0] + y * step[1] >= 0.25
            assert abs(x * step[1]) + abs(y * step[0]) == 0

    @pytest.mark.parametrize("action", ACTIONS)
    @pytest.mark.parametrize("objects", [(1, 1), (3, 3)], ids=["one", "three"])
    def test_objects_stay_inside_the_frame(self, action, objects):
        for _, sample in shown(action, objects=objects):
            assert coverage_beyond(sample) < 0.5

    def test_bouncing_comes_back(self):
        for known, _ in shown("bounces"):
            x, y = known["positions"].T
            assert np.ptp(x) == 0
            assert y[0] == pytest.approx(y[-1]) == pytest.approx(y.max())
            assert np.ptp(y) > 0.24 * 32
            assert ((y[1:-1] < y[:-2]) & (y[1:-1] < y[2:]) | np.isclose(y[1:-1], y[2:])).sum() >= 2

    def test_rotation_is_visible_and_unambiguous(self):
        for known, _ in shown("rotates"):
            assert known["shape"] not in ("circle", "ring")
            assert abs(known["angles"][-1]) >= np.radians(90)
            assert np.abs(np.diff(known["angles"])).max() < np.radians(45)

    @pytest.mark.parametrize(("action", "ratio"), [("grows", 1.9), ("shrinks", 1 / 1.9)])
    def test_size_changes(self, action, ratio):
        for known, sample in shown(action):
            assert known["radii"][-1] / known["radii"][0] == pytest.approx(ratio)
            areas = sample["attributes"]["masks"][0].sum((1, 2))
            assert (areas[-1] > 2 * areas[0]) if ratio > 1 else (areas[0] > 2 * areas[-1])

    def test_staying_stays(self):
        for _, sample in shown("stays"):
            assert (sample["video"] == sample["video"][:, :1]).all()

    def test_small_and_large_differ(self):
        small, large = (next(shown("stays", sizes=[size]))[0]["radii"][0] for size in SIZES)
        assert large > 1.5 * small


def coverage_beyond(sample) -> float:
    """Greatest coverage of a pixel outside the frame, found by painting on a wider one; 0.5 is the outline."""
    beyond = []
    _, _, height, width = sample["video"].shape
    for known in sample["attributes"]["objects"]:
        track = Track(known["shape"], known["rgb"], known["positions"] + 16, known["radii"], known["angles"])
        wide = coverage(track, height + 32, width + 32)
        wide[:, 16:-16, 16:-16] = 0
        beyond.append(float(wide.max()))
    return max(beyond)


class TestBadArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (dict(frames=0), "frames=0"),
            (dict(height=8), "height=8 is too small; give 16"),
            (dict(length=0), "length=0"),
            (dict(seed=-1), "seed=-1"),
            (dict(fps=0.0), "fps=0.0"),
            (dict(split="test"), "'test'; choose one of train, validation"),
            (dict(colors=["mauve"]), "'mauve' in colors; choose out of white"),
            (dict(shapes=["dog"]), "'dog' in shapes"),
            (dict(actions=["left"]), "'left' in actions; choose out of moves left"),
            (dict(sizes=[]), r"sizes=\[\]"),
            (dict(backgrounds="navy"), "backgrounds='navy' is not a list"),
            (dict(objects=(0, 1)), r"objects=\(0, 1\)"),
            (dict(objects=(1, 4)), "within 1 to 3"),
            (dict(objects=(2, 2), colors=["gray", "grey"]), "2 different colors"),
            (dict(held_out=1.0), "held_out=1.0"),
            (dict(held_out=0.98), "leaves .* out of training"),
            (dict(shapes=["ring"], actions=["rotates"]), "do not rotate"),
            (dict(frames=3, actions=["bounces"]), "at least 4 frames"),
            (
                dict(shapes=["circle"], colors=["red"], actions=["moves left"], split="validation"),
                "holds out none of the 1 combinations",
            ),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_it_is_named_with_the_fix(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            MovingShapesDataset(**arguments)

    def test_short_clips_leave_out_what_they_cannot_show(self):
        assert "bounces" not in MovingShapesDataset(frames=3).actions
        assert "bounces" in MovingShapesDataset(frames=4).actions
