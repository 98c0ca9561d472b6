"""Shares are met, the best are kept, and concepts are found in captions."""

from collections import Counter
from collections.abc import Callable

import pytest

from lingen_kit.data.curation import Candidate, Concept, ConceptBalance

Make = Callable[..., Candidate]
CONCEPTS = {"people": Concept(["man", "woman", "child*"], 0.5), "animals": Concept(["cat", "dog*"], 0.25)}


@pytest.fixture
def clips(candidate: Make) -> list[Candidate]:
    """60 of people, 10 of animals, 30 others; the sharper, the later."""
    captions = ["a man walks"] * 60 + ["two dogs run"] * 10 + ["a lake at dawn"] * 30
    return [
        candidate(f"{number:03}", caption=caption, scores={"sharpness": float(number)})
        for number, caption in enumerate(captions)
    ]


def kept(balance: ConceptBalance, clips: list[Candidate]) -> list[Candidate]:
    dropped = balance.choose(clips, [], {})
    return [clip for clip in clips if clip.name not in dropped]


def test_shares_are_exact_and_the_scarcest_decides(clips: list[Candidate]) -> None:
    balance = ConceptBalance(CONCEPTS)
    left = kept(balance, clips)
    assert Counter(balance.concept(clip.caption) for clip in left) == {"people": 20, "animals": 10, "others": 10}
    assert [clip.name for clip in left if balance.concept(clip.caption) == "people"] == [
        f"{i:03}" for i in range(40, 60)
    ]
    report = balance.report()["concepts"]
    assert report["people"] == {"target": 0.5, "before": 60, "before_share": 0.6, "after": 20, "after_share": 0.5}


def test_a_total_takes_what_there_is(clips: list[Candidate]) -> None:
    balance = ConceptBalance(CONCEPTS, total=80)
    left = kept(balance, clips)
    assert Counter(balance.concept(clip.caption) for clip in left) == {"people": 40, "animals": 10, "others": 20}


def test_a_concept_without_clips_is_left_out(clips: list[Candidate]) -> None:
    balance = ConceptBalance({**CONCEPTS, "cars": Concept(["car"], 0.1)}, others=0.15)
    left = kept(balance, clips)
    counts = Counter(balance.concept(clip.caption) for clip in left)
    assert counts["animals"] == 10 and counts["people"] == 20 and counts["others"] == 6
    assert balance.report()["concepts"]["cars"]["before"] == 0


def test_others_may_be_unwanted(clips: list[Candidate]) -> None:
    concepts = {"people": Concept(["man"], 0.5), "animals": Concept(["dog*"], 0.5)}
    balance = ConceptBalance(concepts)
    assert Counter(balance.concept(clip.caption) for clip in kept(balance, clips)) == {"people": 10, "animals": 10}


def test_what_a_person_keeps_stays(clips: list[Candidate]) -> None:
    clips[0].decision = "keep"
    balance = ConceptBalance(CONCEPTS)
    left = kept(balance, clips)
    assert clips[0] in left and len(left) == 40


@pytest.mark.parametrize(
    ("caption", "concept"),
    [
        ("A WOMAN sings", "people"),
        ("Childhood memories", "people"),
        ("a manor in the fog", "others"),
        ("category five storm", "others"),
        ("doghouse", "animals"),
        ("a man and his dog", "people"),
        ("", "others"),
    ],
)
def test_concepts_are_words_of_the_caption(caption: str, concept: str) -> None:
    assert ConceptBalance(CONCEPTS).concept(caption) == concept


def test_concepts_in_scripts_without_spaces() -> None:
    balance = ConceptBalance({"animals": Concept(["猫", "犬"], 0.5)})
    assert balance.concept("一只猫在睡觉") == "animals"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concepts": {"a": Concept(["x"], 0.7), "b": Concept(["y"], 0.7)}}, r"add up to 1\.4"),
        ({"concepts": {"a": Concept(["x"], 0.7)}, "others": 0.1}, r"add up to 0\.8"),
        ({"concepts": {"a": Concept(["x"], -0.1)}}, r"share -0\.1 of a is not between"),
        ({"concepts": {"a": Concept([], 0.1)}}, "the concept a has no words"),
        ({"concepts": {"others": Concept(["x"], 0.1)}}, "'others' is no concept"),
        ({"concepts": {"a": Concept(["x"], 0.1)}, "total": 0}, "total 0 must be at least 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConceptBalance(**options)
