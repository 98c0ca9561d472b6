import math
from dataclasses import replace

import numpy as np
import pytest

from eval.metric import Score
from eval.shapes.dimensions import DIMENSIONS, QUALITY, SEMANTIC, dimensions, totals
from eval.shapes.faults import Clip
from eval.shapes.observe import observe
from eval.shapes.validation import clips_of
from lingen_kit.data.shapes_grammar import Scene, SceneObject, parse


def scores_of(clip: Clip, frames: np.ndarray | None = None, scene: Scene | None = None) -> dict[str, Score]:
    frames = clip.paint() if frames is None else frames
    return dimensions(scene or clip.scene, observe(frames), frames)


def value(scores: dict[str, Score], name: str) -> float:
    found = scores[f"shapebench/{name}"].value
    assert found is not None, scores[f"shapebench/{name}"].why
    return found


@pytest.fixture(scope="module")
def pair() -> Clip:
    return clips_of(1, objects=2, seed=1)[0]


class TestPerfectClips:
    def test_all_dimensions_are_near_one(self):
        for objects in (1, 2, 3):
            for clip in clips_of(5, objects=objects, seed=6):
                for name, score in scores_of(clip).items():
                    if score.value is None:
                        assert objects == 1
                        assert name in ("shapebench/multiple_objects", "shapebench/spatial_relationship")
                    else:
                        assert score.value == 1 if name in SEMANTIC and "temporal" not in name else score.value > 0.97

    def test_what_the_prompt_does_not_name_has_no_score(self, pair):
        bare = Scene(tuple(SceneObject(t.shape, t.color) for t in pair.scene.objects), None, pair.scene.relations)
        scores = scores_of(pair, scene=bare)
        for name in ("scene", "appearance_style", "action", "temporal_style", "dynamic_degree"):
            assert scores[f"shapebench/{name}"].value is None
            assert "the prompt names no" in scores[f"shapebench/{name}"].why
        assert value(scores, "overall_consistency") == 1


class TestAgainstCountsByHand:
    """The prompt is wrong in known words; the scores are counted by hand."""

    def wrong(self, pair: Clip, **words: str) -> dict[str, Score]:
        first, second = pair.scene.objects
        return scores_of(pair, scene=replace(pair.scene, objects=(replace(first, **words), second)))

    def test_one_wrong_shape_of_two(self, pair):
        first, second = (thing.shape for thing in pair.scene.objects)
        other = next(s for s in ("circle", "ring", "cross", "square") if s not in (first, second))
        scores = self.wrong(pair, shape=other)
        assert value(scores, "object_class") == 0.5
        assert value(scores, "multiple_objects") == 0
        assert value(scores, "color") == 0.5
        assert value(scores, "action") == 1
        assert value(scores, "overall_consistency") == pytest.approx(9 / 10)  # 2 x 4 words, 1 relation, 1 background

    def test_one_wrong_size_and_action(self, pair):
        size = "small" if pair.scene.objects[0].size == "large" else "large"
        action = "grows" if pair.scene.objects[0].action != "grows" else "shrinks"
        scores = self.wrong(pair, size=size, action=action)
        assert value(scores, "appearance_style") == 0.5
        assert value(scores, "action") == 0.5
        assert value(scores, "temporal_style") < 0.75
        assert value(scores, "object_class") == value(scores, "color") == 1
        assert value(scores, "overall_consistency") == pytest.approx(8 / 10)

    def test_the_sign_of_a_relation_counts(self, pair):
        opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
        scene = replace(pair.scene, relations=(opposite[pair.scene.relations[0]],))
        scores = scores_of(pair, scene=scene)
        assert value(scores, "spatial_relationship") == 0
        assert value(scores, "object_class") == value(scores, "color") == 1

    def test_an_object_too_many(self):
        clip = clips_of(1, objects=3, seed=2)[0]
        two = replace(clip.scene, objects=clip.scene.objects[:2], relations=clip.scene.relations[:1])
        scores = scores_of(clip, scene=two)
        assert value(scores, "object_class") == 1
        assert value(scores, "multiple_objects") == 0
        assert scores["shapebench/overall_consistency"].details["words"] == 11
        assert scores["shapebench/overall_consistency"].details["all"] is False

    def test_gray_and_grey_are_one_color(self):
        scene = parse("a large grey square stays on a teal background")
        clip = clips_of(1, objects=1, seed=1)[0]
        track = replace(clip.tracks[0], shape="square", rgb=(95, 95, 95))
        painted = replace(clip, tracks=(track,), background=(0, 125, 130))
        assert value(scores_of(painted, scene=scene), "color") == 1


class TestFailures:
    def test_a_black_clip_fails(self, pair):
        scores = scores_of(pair, np.zeros((8, 32, 32, 3), np.uint8))
        for name in SEMANTIC:
            assert scores[name].value == 0
        for name in ("subject_consistency", "motion_smoothness", "imaging_quality"):
            assert value(scores, name) == 0
        assert scores["shapebench/imaging_quality"].details == {"why": "nothing is seen"}

    def test_noise_fails(self, pair):
        frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        scores = scores_of(pair, frames)
        assert all(score.value == 0 for score in scores.values())

    @pytest.mark.parametrize("shape", [(1, 32, 32, 3), (2, 32, 32, 3), (1, 1, 1, 3), (3, 2, 5, 3)])
    def test_tiny_clips_have_scores_or_reasons(self, pair, shape):
        frames = pair.paint()[: shape[0], : shape[1], : shape[2]]
        for score in dimensions(pair.scene, observe(frames), frames).values():
            assert score.why if score.value is None else math.isfinite(score.value)

    def test_one_frame_has_no_motion(self, pair):
        scores = scores_of(pair, pair.paint()[:1])
        for name in ("action", "temporal_style", "motion_smoothness", "dynamic_degree", "temporal_flickering"):
            assert scores[f"shapebench/{name}"].value is None
        assert value(scores, "object_class") == 1

    def test_an_observation_of_another_clip(self, pair):
        frames = pair.paint()
        with pytest.raises(ValueError, match="the observation has 8 frames, the clip 4"):
            dimensions(pair.scene, observe(frames), frames[:4])

    def test_wrong_arrays(self, pair):
        with pytest.raises(ValueError, match="float32"):
            dimensions(pair.scene, observe(pair.paint()), pair.paint().astype(np.float32))


class TestTotals:
    def test_by_hand(self):
        figures = {name: 0.5 for name in DIMENSIONS}
        assert totals(figures) == pytest.approx(dict(quality_score=0.5, semantic_score=0.5, total_score=0.5))
        figures["shapebench/dynamic_degree"] = 1.0
        figures["shapebench/scene"] = 0.0
        found = totals(figures)
        assert found["quality_score"] == pytest.approx((5 * 0.5 + 0.5 * 1.0) / 5.5)
        assert found["semantic_score"] == pytest.approx(8 * 0.5 / 9)
        assert found["total_score"] == pytest.approx((4 * found["quality_score"] + found["semantic_score"]) / 5)

    @pytest.mark.parametrize("missing", ["shapebench/scene", "shapebench/imaging_quality"])
    def test_a_missing_dimension_is_refused_by_name(self, missing):
        figures: dict[str, float | None] = {name: 1.0 for name in DIMENSIONS} | {missing: None}
        message = f"^there is no {missing.removeprefix('shapebench/')};"
        with pytest.raises(ValueError, match=message):
            totals(figures)
        del figures[missing]
        with pytest.raises(ValueError, match=message):
            totals(figures)

    def test_there_are_six_and_nine(self):
        assert len(QUALITY) == 6
        assert sum(QUALITY.values()) == 5.5
        assert len(SEMANTIC) == 9
        assert len(set(DIMENSIONS)) == 15
