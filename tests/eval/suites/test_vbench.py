import json
from pathlib import Path

import pytest

from eval.aggregation import QUALITY, SEMANTIC
from eval.metric import Score
from eval.suite import Prompt
from eval.suites import Custom, ShapeBench, VBench
from eval.suites.vbench import read_full_info, with_totals

INFO = [
    {"prompt_en": "a dog", "dimension": ["subject_consistency", "dynamic_degree", "motion_smoothness"]},
    {"prompt_en": "a still vase", "dimension": ["temporal_flickering"]},
    {
        "prompt_en": "a red car",
        "dimension": ["color"],
        "auxiliary_info": {"color": {"color": "red"}},
    },
    {"prompt_en": "a red car", "dimension": ["object_class"], "auxiliary_info": {"object_class": {"object": "car"}}},
]


@pytest.fixture
def full_info(tmp_path: Path) -> Path:
    path = tmp_path / "VBench_full_info.json"
    path.write_text(json.dumps(INFO))
    return path


def test_the_list_of_prompts_is_read_and_doubles_are_joined(full_info: Path) -> None:
    entries = {entry.prompt: entry for entry in read_full_info(full_info)}
    assert list(entries) == ["a dog", "a still vase", "a red car"]
    assert entries["a red car"].dimensions == ("color", "object_class")
    assert entries["a red car"].info == {"color": "red", "object_class": "car"}


def test_each_prompt_knows_its_figures_and_samples(full_info: Path) -> None:
    suite = VBench(full_info, dimensions=["subject_consistency", "dynamic_degree", "temporal_flickering"])
    prompts = {prompt.text: prompt for prompt in suite.prompts()}
    assert set(prompts) == {"a dog", "a still vase"}
    assert prompts["a dog"].metrics == {"subject_consistency", "dynamic_degree"} and prompts["a dog"].samples == 5
    assert prompts["a still vase"].samples == 25
    with pytest.raises(ValueError, match="'a cat' is no prompt of vbench"):
        suite.prompt_of("a cat")


def test_bad_lists_and_dimensions_are_refused(full_info: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="VBench has no dimension colour; choose out of subject_consistency"):
        VBench(full_info, dimensions=["colour"])
    with pytest.raises(FileNotFoundError, match="in the repository Vchitect/VBench"):
        VBench(tmp_path / "none.json")
    for content, message in (
        ("[]", "no list of prompts"),
        ("{", "no JSON"),
        ('[{"prompt": "x"}]', "entry 1 has no prompt_en and dimension"),
        ('[{"prompt_en": "x", "dimension": ["y"]}]', "entry 1: there is no dimension 'y'"),
    ):
        path = tmp_path / f"{abs(hash(content))}.json"
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            VBench(path)


def test_totals_that_lack_a_dimension_are_refused_one_by_one() -> None:
    whole = dict.fromkeys((*QUALITY, *SEMANTIC), 0.8)
    assert set(with_totals(whole).totals) == {"quality_score", "semantic_score", "total_score"}
    part = with_totals({**whole, "scene": None})
    assert set(part.totals) == {"quality_score"}
    assert part.refused == {"semantic_score": "scene is missing", "total_score": "scene is missing"}
    none = with_totals({**whole, "imaging_quality": None})
    assert not none.totals and none.refused["quality_score"] == "imaging_quality is missing"
    named = {**whole, "scene": None, "scene/blip": 0.5}
    assert with_totals(named).refused["total_score"] == "scene is missing"


def test_custom_refuses_vbenchs_quality_of_other_extractors(monkeypatch: pytest.MonkeyPatch) -> None:
    class Metric:
        names = ("subject_consistency/lite",)

        def corpus(self, name: str, scores: list[Score]) -> float:
            return 0.5

        def made_by(self) -> dict[str, str]:
            return {}

    suite = Custom()
    monkeypatch.setattr(suite, "metrics", lambda: [Metric()])
    summary = suite.summarize({"subject_consistency/lite": [(Prompt("x"), Score(0.5))]})
    assert summary.figures == {"subject_consistency/lite": 0.5}
    assert "defined for its own networks" in summary.refused["quality_score"]


def test_shapebench_takes_open_words_from_the_data_and_refuses_other_sentences() -> None:
    suite = ShapeBench(num=12).suited_to({"actions": ["moves left", "moves up"], "sizes": ["large"], "frames": 8})
    texts = [prompt.text for prompt in suite.prompts()]
    assert len(texts) == 12
    assert all("moves left" in text or "moves up" in text for text in texts)
    assert not any("large" in text for text in texts)
    chosen = ShapeBench(num=4, actions=["rotates"]).suited_to({"actions": ["moves left"]})
    assert all("rotates" in prompt.text for prompt in chosen.prompts())
    with pytest.raises(ValueError, match="cannot read 'a dog' as a moving-shapes caption"):
        suite.prompt_of("a dog")
    with pytest.raises(ValueError, match="hexagon"):
        ShapeBench(shapes=["hexagon"])


def test_a_set_that_lacks_videos_has_figures_and_no_totals(full_info: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Metric:
        def __init__(self, name: str) -> None:
            self.names = (name,)

        def corpus(self, name: str, scores: list[Score]) -> float | None:
            return 0.8

    suite = VBench(full_info)
    monkeypatch.setattr(suite, "metrics", lambda: [Metric(name) for name in (*QUALITY, *SEMANTIC)])
    scores: dict[str, list[tuple[Prompt, Score]]] = {}
    for prompt in suite.prompts():
        for name in prompt.metrics or ():
            scores[name] = [*scores.get(name, []), *[(prompt, Score(0.5))] * prompt.samples]
    assert set(suite.summarize(scores).totals) == {"quality_score", "semantic_score", "total_score"}
    scores["temporal_flickering"] = scores["temporal_flickering"][:-2]
    summary = suite.summarize(scores)
    assert summary.figures["temporal_flickering"] == 0.8 and not summary.totals
    assert summary.refused["total_score"] == "2 of the 35 videos that the benchmark asks for are missing"
