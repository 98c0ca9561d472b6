"""Captions in several languages that say something, and ones that do not."""

from collections.abc import Callable

import pytest

from lingen_kit.data.curation import Candidate, CaptionQuality

Make = Callable[..., Candidate]

GOOD = [
    "a man rides a bicycle through the old town",
    "Ein alter Mann füttert Tauben im Park; es schneit.",
    "L'homme d'à côté promène son chien (un caniche).",
    "一位老人在公园里喂鸽子",
    "おじいさんが公園で鳩に餌をやっている",
    "Старик кормит голубей в парке",
    "رجل عجوز يطعم الحمام في الحديقة",
    "एक बूढ़ा आदमी पार्क में कबूतरों को खाना खिला रहा है",
    "ชายชราให้อาหารนกพิราบในสวนสาธารณะ",
]
BAD = {
    "": "caption_words 0 is below 3",
    "cat": "caption_words 1 is below 3",
    "dog dog dog dog dog dog": "caption_repeated 0.8333 is above 0.6",
    "VID 20190423 114512 0031 mov": "caption_non_text",
    "Beautiful sunset Stock Footage": "caption_boilerplate 1 is above 0",
    "a beach, see https://example.com/beach": "caption_boilerplate 1 is above 0",
    "word " * 301: "caption_words 301 is above 300",
}


@pytest.mark.parametrize("caption", GOOD)
def test_captions_of_any_language_pass(caption: str, candidate: Make) -> None:
    each = CaptionQuality()
    assert each.keep(each.scores(candidate(caption=caption), {})) is None


@pytest.mark.parametrize(("caption", "reason"), BAD.items())
def test_captions_that_say_nothing_do_not(caption: str, reason: str, candidate: Make) -> None:
    each = CaptionQuality()
    assert (each.keep(each.scores(candidate(caption=caption), {})) or "").startswith(reason)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("it's a well-known cat", 4),
        ("un'altra città", 2),
        ("老人 feeds 鸽子", 5),
        ("cafe\u0301 au lait", 3),
        ("a_b", 2),
    ],
)
def test_words_are_counted_as_people_do(caption: str, words: int, candidate: Make) -> None:
    assert CaptionQuality().scores(candidate(caption=caption), {})["caption_words"] == words


def test_boilerplate_is_the_users(candidate: Make) -> None:
    each = CaptionQuality(boilerplate=["b-roll"])
    assert each.keep(each.scores(candidate(caption="B-Roll of a lake"), {})) is not None
    assert each.keep(each.scores(candidate(caption="stock footage of a lake"), {})) is None
