"""Objects, colors, relations and scenes: formulas with a detector whose answers are known, and real loading code."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval.metric import Frames, Score, weighted_mean
from eval.metrics import detection
from eval.metrics.detection import Box, Detector, GroundingDino, Owlv2
from eval.metrics.middle import middle_indices
from eval.metrics.objects import Color, MultipleObjects, ObjectClass, SpatialRelationship, relation_score, told
from eval.metrics.scene import Scene, names_scene
from tests.eval.metrics import tiny_hub
from tests.eval.metrics.watching import real_frames, score_of

LEFT, RIGHT, TOP, BOTTOM = (f"on the {side} of" for side in ("left", "right", "top", "bottom"))


@dataclass(frozen=True)
class Known:
    """Finds in a frame what is written for its number, which is the gray level of the frame."""

    boxes: dict[int, list[Box]]
    asked: list[Sequence[str]] = field(default_factory=list)
    name = "known"

    def made_by(self) -> dict[str, Any]:
        return {"network": "none"}

    def detect(self, frames: Frames, queries: Sequence[str]) -> list[list[Box]]:
        self.asked.append(tuple(queries))
        return [self.boxes.get(int(frame[0, 0, 0]), []) for frame in frames]


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8)


def box(label: str, *corners: float) -> Box:
    return Box(label, 0.9, (*corners,) if corners else (0.0, 0.0, 1.0, 1.0))  # type: ignore[arg-type]


def random_boxes(labels: Sequence[str], frames: int, seed: int) -> dict[int, list[Box]]:
    """Up to four boxes a frame, of any of the labels."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(frames):
        corners = rng.integers(0, 40, (rng.integers(0, 5), 2)).astype(float)
        sides = rng.integers(2, 40, corners.shape)
        found[number] = [box(str(rng.choice(labels)), *c, *(c + s)) for c, s in zip(corners, sides, strict=True)]
    return found


def test_what_the_list_of_prompts_says_comes_out_of_its_wrappings() -> None:
    # The shapes of VBench_full_info.json, and flat ones.
    assert told({"object_class": {"object": "person"}}, "object_class") == "person"
    assert told({"color": {"color": "red"}}, "color") == told({"color": "red"}, "color") == "red"
    assert told({"scene": {"scene": {"scene": "alley"}}}, "scene") == "alley"
    relation = {"object_a": "bicycle", "object_b": "car", "relationship": LEFT}
    assert told({"spatial_relationship": {"spatial_relationship": relation}}, "spatial_relationship") == relation
    assert told({"color": "red"}, "scene") is None


@pytest.mark.parametrize("chunk", [1, 5, 40])
def test_an_object_counts_in_the_frames_that_have_it(chunk: int) -> None:
    known = Known(random_boxes(["bird", "cat"], 40, 1))
    looked_at = middle_indices(16, 40)
    hits = [any(found.label == "bird" for found in known.boxes[place]) for place in looked_at]
    metric = ObjectClass(known)
    score = score_of(metric, numbered(40), chunk, info={"object_class": {"object": "bird"}})
    assert metric.names == ("object_class/known",) and 0 < sum(hits) < 16
    assert score.value == sum(hits) / 16 and set(known.asked) == {("bird",)}


def test_a_short_video_has_its_last_frame_counted_for_the_rest() -> None:
    info = {"object_class": "bird"}
    assert score_of(ObjectClass(Known({3: [box("bird")]})), numbered(4), info=info).value == 13 / 16
    assert score_of(ObjectClass(Known({0: [box("bird")]})), numbered(4), info=info).value == 1 / 16


def test_both_objects_must_be_in_one_frame() -> None:
    known = Known(random_boxes(["bird", "cat", "dog"], 20, 2))
    hits = 0
    for place in middle_indices(16, 20):
        labels = [found.label for found in known.boxes[place]]
        hits += "bird" in labels and "cat" in labels
    score = score_of(MultipleObjects(known), numbered(20), info={"multiple_objects": {"object": "bird and cat"}})
    assert score.value == hits / 16 and 0 < hits < 16 and set(known.asked) == {("bird", "cat")}


def test_a_color_counts_among_the_frames_with_any() -> None:
    found = {0: ["red bicycle"], 1: ["red bicycle", "blue bicycle"], 2: ["blue bicycle"], 3: [], 4: ["grey bicycle"]}
    known = Known({number: [box(label) for label in labels] for number, labels in found.items()})
    info = {"color": {"color": "red"}}
    assert score_of(Color(known), numbered(16), prompt="a red bicycle", info=info).value == 2 / 4
    [queries] = set(known.asked)
    assert len(queries) == 12 and {"red bicycle", "silver bicycle", "grey bicycle"} <= set(queries)
    assert score_of(Color(known), numbered(16), prompt="an orange bicycle", info={"color": "orange"}).value == 0
    orange = Known({0: [box("orange cat")]})
    assert score_of(Color(orange), numbered(16), prompt="an orange cat", info={"color": "orange"}).value == 1


def test_videos_without_any_color_do_not_count_in_the_mean() -> None:
    info = {"color": "red"}
    some = score_of(
        Color(Known({0: [box("red car")], 1: [box("blue car")]})), numbered(16), prompt="a red car", info=info
    )
    none = score_of(Color(Known({})), numbered(16), prompt="a red car", info=info)
    assert none.value is None and none.why == "no frame shows a car of any color"
    assert Color(Known({})).corpus("color/known", [some, none]) == weighted_mean([some]) == 0.5
    with pytest.raises(ValueError, match="color 'teal' is none that is looked for"):
        score_of(Color(Known({})), numbered(16), prompt="a teal car", info={"color": "teal"})


def relation_twin(relation: str, a: Sequence[float], b: Sequence[float], fixed: bool) -> float:
    """Counted on a grid of pixels, corners being whole numbers."""
    grid = np.zeros((2, 100, 100), bool)
    for layer, (left, top, right, bottom) in zip(grid, (a, b), strict=True):
        layer[int(top) : int(bottom), int(left) : int(right)] = True
    (ya, xa), (yb, xb) = (np.argwhere(layer).mean(0) for layer in grid)
    overlap = (grid[0] & grid[1]).sum() / (grid[0] | grid[1]).sum()
    across = relation in (LEFT, RIGHT)
    if across != (abs(xa - xb) > abs(ya - yb)) or abs(xa - xb) == abs(ya - yb):
        return 0.0
    right_side = {LEFT: xa < xb, RIGHT: xa > xb, TOP: ya < yb, BOTTOM: ya > yb}[relation]
    if fixed and not right_side:
        return 0.0
    return 1.0 if overlap < 0.1 else 0.1 / overlap


@pytest.mark.parametrize("relation", [LEFT, RIGHT, TOP, BOTTOM])
def test_relations_of_two_boxes_are_those_counted_on_pixels(relation: str) -> None:
    rng = np.random.default_rng(0)
    values = set()
    for _ in range(200):
        corners = rng.integers(0, 40, (2, 2))
        a, b = (tuple(map(float, (*c, *(c + s)))) for c, s in zip(corners, rng.integers(1, 50, (2, 2)), strict=True))
        for quirks in ("vbench", "fixed"):
            value = relation_score(relation, a, b, quirks)
            assert value == pytest.approx(relation_twin(relation, a, b, quirks == "fixed"), rel=1e-9)
            values.add(value)
    assert {0.0, 1.0} < values
    with pytest.raises(ValueError, match="relationship 'under' is unknown; choose out of on the left of"):
        relation_score("under", (0, 0, 1, 1), (2, 0, 3, 1))


def test_without_the_quirk_left_is_not_right() -> None:
    left, right = (0.0, 0.0, 10.0, 10.0), (30.0, 2.0, 40.0, 12.0)
    assert [relation_score(LEFT, *pair, "fixed") for pair in ((left, right), (right, left))] == [1, 0]
    assert [relation_score(LEFT, *pair, "vbench") for pair in ((left, right), (right, left))] == [1, 1]
    assert [relation_score(TOP, *pair, "fixed") for pair in ((left, right), (right, left))] == [0, 0]


@pytest.mark.parametrize("quirks", ["vbench", "fixed"])
def test_a_frame_counts_its_best_pair_and_a_video_the_mean(quirks: Any) -> None:
    known = Known(random_boxes(["bicycle", "car"], 30, 3))
    asked = {"object_a": "bicycle", "object_b": "car", "relationship": RIGHT}
    expected = []
    for place in middle_indices(16, 30):
        best = 0.0
        boxes = known.boxes[place]
        for i in range(len(boxes)):
            for j in range(len(boxes)):
                if quirks == "vbench" and i < j:
                    best = max(best, relation_twin(RIGHT, boxes[i].corners, boxes[j].corners, False))
                if quirks == "fixed" and (boxes[i].label, boxes[j].label) == ("bicycle", "car"):
                    best = max(best, relation_twin(RIGHT, boxes[i].corners, boxes[j].corners, True))
        expected.append(best)
    info = {"spatial_relationship": {"spatial_relationship": asked}}
    for chunk in (1, 7, 30):
        score = score_of(SpatialRelationship(known, quirks=quirks), numbered(30), chunk, info=info)
        assert score.value == pytest.approx(np.mean(expected), rel=1e-9) and 0 < np.mean(expected) < 1
    assert set(known.asked) == {("bicycle", "car")}


def test_a_prompt_that_says_nothing_has_a_reason_and_asks_nobody() -> None:
    known = Known({})
    for metric in (ObjectClass(known), MultipleObjects(known), Color(known), SpatialRelationship(known)):
        assert score_of(metric, numbered(4), prompt="a red car").why.startswith("the prompt says nothing on")
    assert score_of(Scene("no/model"), numbered(4)).why == "the prompt says nothing on scene"
    assert not known.asked


def test_metrics_go_to_other_processes_as_their_options() -> None:
    for metric in (ObjectClass(), Color(GroundingDino("x")), SpatialRelationship(quirks="fixed"), Scene("x", "cuda")):
        copy = pickle.loads(pickle.dumps(metric))
        assert copy.names == metric.names and vars(copy) == vars(metric)


def test_metrics_say_what_they_rest_on() -> None:
    metric = SpatialRelationship(Known({}), quirks="fixed")
    assert metric.made_by() == {"detector": {"network": "none"}, "frames": 16, "quirks": "fixed"}
    assert ObjectClass(device="cuda:1").detector == Owlv2(device="cuda:1")


def test_a_scene_counts_if_all_its_words_are_in_the_caption() -> None:
    captions = ["a train at a station", "a station platform with a train", "a barn in a field"]
    assert names_scene(captions, "train station platform") == 1 / 3
    assert names_scene(captions, "bar") == 1 / 3  # as in VBench, a part of a word will do
    assert names_scene(captions, "Train Station") == 2 / 3


# The networks themselves, tiny and random, loaded as large ones are.


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    made = {}

    def folder(name: str) -> str:
        if name not in made:
            made[name] = str(getattr(tiny_hub, name)(tmp_path_factory.mktemp(name)))
        return made[name]

    return folder


def detector(folders: Callable[[str], str], name: str, threshold: float) -> Detector:
    kind = {"owlv2": Owlv2, "grounding_dino": GroundingDino}[name]
    return kind(folders(name), threshold)


@pytest.mark.parametrize("name", ["owlv2", "grounding_dino"])
def test_boxes_are_those_that_transformers_reads_out(
    folders: Callable[[str], str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "_OVERLAP", 1.0)  # keep them all
    [frame] = real_frames("bikes.mp4", 1, 72)
    queries = ["red bicycle", "cat", "blue dog"]
    found = detector(folders, name, 0.0).detect(frame[None], queries)[0]
    load = {"owlv2": detection._owlv2, "grounding_dino": detection._grounding_dino}[name]
    processor, network = load(folders(name), "cpu")
    size = [frame.shape[:2]]
    text = [[f"a photo of a {query}" for query in queries]] if name == "owlv2" else "red bicycle. cat. blue dog."
    inputs = processor(text=text, images=frame, return_tensors="pt")
    with torch.no_grad():
        out = network(**inputs)
    if name == "owlv2":
        [read] = processor.image_processor.post_process_object_detection(out, threshold=0.0, target_sizes=size)
        scores, labels = read["scores"], [queries[place] for place in read["labels"]]
    else:
        [read] = processor.post_process_grounded_object_detection(out, inputs.input_ids, 0.0, 0.0, target_sizes=size)
        chances = out.logits[0].sigmoid()  # the tokens are [CLS] red bicycle . cat . blue dog . [SEP]
        each = [(chances[:, 1] + chances[:, 2]) / 2, chances[:, 4], (chances[:, 6] + chances[:, 7]) / 2]
        scores, labels = torch.stack(each).max(0).values, [queries[place] for place in torch.stack(each).argmax(0)]
    limit = torch.tensor([*frame.shape[1::-1]] * 2)
    expected = []
    for label, score, corners in sorted(zip(labels, scores, read["boxes"], strict=True), key=lambda row: -row[1]):
        left, top, right, bottom = corners.clamp(min=0).minimum(limit).tolist()
        if left < right and top < bottom:
            expected.append((label, float(score), left, top, right, bottom))
    assert len(found) == len(expected) >= 3
    for one, row in zip(found, expected, strict=True):
        assert one.label == row[0] and (one.score, *one.corners) == pytest.approx(row[1:], abs=1e-3)


def test_a_query_of_grounding_dino_has_its_own_tokens_alone() -> None:
    tokenizer = tiny_hub.bert_tokenizer()
    tokens = tokenizer("red bicycle. cat. a blue dog.", return_tensors="pt")["input_ids"][0]
    shares = detection._token_shares(tokens, tokenizer, 3)
    half, third = 1 / 2, 1 / 3
    # [CLS] red bicycle . cat . a blue dog . [SEP]
    assert torch.equal(shares[:, 0], torch.tensor([0, half, half, 0, 0, 0, 0, 0, 0, 0, 0]))
    assert torch.equal(shares[:, 1], torch.tensor([0, 0, 0, 0, 1.0, 0, 0, 0, 0, 0, 0]))
    assert torch.equal(shares[:, 2], torch.tensor([0, 0, 0, 0, 0, 0, third, third, third, 0, 0]))


@pytest.mark.parametrize("name", ["owlv2", "grounding_dino"])
def test_weak_boxes_and_repetitions_are_left_out(folders: Callable[[str], str], name: str) -> None:
    frames = real_frames("carphone_pristine.mp4", 2, 72)
    every = detector(folders, name, 0.0).detect(frames, ["cat", "dog"])
    middle = sorted(b.score for b in every[0])[len(every[0]) // 2]
    some = detector(folders, name, middle).detect(frames, ["cat", "dog"])
    assert some[0] == [b for b in every[0] if b.score >= middle] and 0 < len(some[0]) < len(every[0])
    for boxes in every:
        for place, a in enumerate(boxes):
            assert all(overlap(a, b) <= 0.5 for b in boxes[place + 1 :] if b.label == a.label)


def overlap(a: Box, b: Box) -> float:
    both = 1.0
    for k in (0, 1):
        both *= max(0.0, min(a.corners[k + 2], b.corners[k + 2]) - max(a.corners[k], b.corners[k]))
    areas = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a.corners, b.corners))
    return both / (sum(areas) - both)


def test_boxes_of_one_query_that_overlap_by_more_than_half_are_one() -> None:
    middles = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4], [0.9, 0.9, 0.4, 0.4]])
    scores = torch.tensor([[0.6, 0.1], [0.8, 0.1], [0.2, 0.7], [0.5, 0.1]])
    found = detection._kept(middles, scores, ["cat", "dog"], (50, 100), (50, 100), 0.3)
    assert [(b.label, round(b.score, 3)) for b in found] == [("cat", 0.8), ("dog", 0.7), ("cat", 0.5)]
    assert found[1].corners == pytest.approx((30, 15, 70, 35)) and found[2].corners == pytest.approx((70, 35, 100, 50))


def test_a_metric_with_a_real_detector_runs_on_real_footage(folders: Callable[[str], str]) -> None:
    video = real_frames("bikes.mp4", 4, 72)
    owl = detector(folders, "owlv2", 0.5)
    score = score_of(ObjectClass(owl), video, info={"object_class": {"object": "cat"}})
    assert isinstance(score, Score) and score.value is not None and 0 <= score.value <= 1
    assert list(owl.made_by()["sha256"]) == ["model.safetensors"] and owl.made_by()["threshold"] == 0.5


def test_queries_that_cannot_be_read_are_refused(folders: Callable[[str], str]) -> None:
    frame = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"a full stop ends a query of Grounding DINO, and 'st. bernard'"):
        detector(folders, "grounding_dino", 0.5).detect(frame, ["st. bernard"])
    with pytest.raises(ValueError, match="the detector reads 16 tokens"):
        detector(folders, "owlv2", 0.5).detect(frame, ["cat " * 20])


def test_captions_are_counted_frame_by_frame_whatever_the_chunks(folders: Callable[[str], str]) -> None:
    video = real_frames("bikes.mp4", 3, 72)
    metric = Scene(folders("blip"))
    captions = metric.captions(video)
    assert len(captions) == 3 and all(captions)
    word = captions[0].split()[0]
    scores = [score_of(metric, video, chunk, info={"scene": {"scene": {"scene": word}}}) for chunk in (1, 3)]
    assert scores[0] == scores[1]
    named = [word in caption for caption in captions]
    assert scores[0].value == (sum(named) + 13 * named[-1]) / 16


def test_a_model_that_is_not_here_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    frame = np.zeros((1, 32, 32, 3), np.uint8)
    for ask in (Owlv2(str(tmp_path)).detect, GroundingDino(str(tmp_path)).detect):
        with pytest.raises(ValueError, match="is neither a folder with such a model nor in the cache"):
            ask(frame, ["cat"])
    with pytest.raises(ValueError, match=r"hf download .*, and copy the cache or name the folder"):
        Scene(str(tmp_path)).captions(frame)
