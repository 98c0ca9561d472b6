"""Captions that say nothing: too short, repeating themselves, advertisements, file names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from lingen_kit.data.curation.filter import Candidate, Filter, Limit

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured

BOILERPLATE = (
    "stock footage",
    "stock video",
    "stock clip",
    "royalty free",
    "royalty-free",
    "shutterstock",
    "getty images",
    "istock",
    "adobe stock",
    "pond5",
    "all rights reserved",
    "copyright",
    "watermark",
    "subscribe",
    "click here",
    "download now",
    "http://",
    "https://",
    "www.",
)
"""Phrases of vendors and advertisements, in the small letters in which they are looked for."""

# Scripts without spaces: a character of Chinese or Japanese counts as a word, so does a run of up to five letters of
# Thai, Lao, Burmese and Khmer, whose words are about that long.
_WORDS = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]{1,5}"
    r"|(?:(?![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])[^\W_]|[\u0300-\u036f"
    r"\u0900-\u0dff])+(?:['\u2019-][^\W_]+)*"
)
_PUNCTUATION = frozenset(".,;:!?'\"()-–—…’‘“”«»¿¡、。，！？：；（）「」『』《》·।॥،؛؟&")  # noqa: RUF001 - of many scripts


class CaptionQuality(Filter):
    """Drops clips by their caption, in whatever language it is.

    Args:
        min_words: Fewest words. LinGen tunes on captions written by people, of some ten to a hundred words.
        max_words: Most words; text encoders cut off long captions, T5 often at 256 or 512 pieces.
        max_repeated: Greatest share of words that stand in the caption already; long captions repeat articles and
            reach 0.4, a caption that goes in circles 0.7.
        max_non_text: Greatest share of characters that are no letter, space or usual punctuation: digits, symbols,
            emoji. A file name as a caption has 0.3 or more.
        boilerplate: Phrases of which none may occur, case ignored.
    """

    explains: ClassVar[Mapping[str, str]] = {
        "caption_words": "words of the caption",
        "caption_repeated": "share of words that stand in the caption already",
        "caption_non_text": "share of characters that are digits, symbols and the like",
        "caption_boilerplate": "number of boilerplate phrases, such as 'stock footage'",
    }

    judges_captions = True

    def __init__(
        self,
        min_words: int = 3,
        max_words: int | None = 300,
        max_repeated: float = 0.6,
        max_non_text: float = 0.25,
        boilerplate: Sequence[str] = BOILERPLATE,
    ) -> None:
        if empty := [phrase for phrase in boilerplate if not phrase.strip()]:
            raise ValueError(
                f"CaptionQuality: the boilerplate phrase {empty[0]!r} would match every caption; leave it out"
            )
        self.min_words, self.max_words = min_words, max_words
        self.max_repeated, self.max_non_text = max_repeated, max_non_text
        self.boilerplate = [phrase.casefold() for phrase in boilerplate]

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """Counts and shares of the caption."""
        text = unicodedata.normalize("NFC", clip.caption)
        words = _WORDS.findall(text.casefold())
        odd = sum(not _is_text(character) for character in text)
        return {
            "caption_words": float(len(words)),
            "caption_repeated": round(1 - len(set(words)) / len(words), 4) if words else 0.0,
            "caption_non_text": round(odd / len(text), 4) if text else 0.0,
            "caption_boilerplate": float(len(self._phrases(text))),
        }

    def limits(self) -> Mapping[str, Limit]:
        """Its bounds."""
        return {
            "caption_words": (float(self.min_words), None if self.max_words is None else float(self.max_words)),
            "caption_repeated": (None, self.max_repeated),
            "caption_non_text": (None, self.max_non_text),
            "caption_boilerplate": (None, 0.0),
        }

    def _phrases(self, text: str) -> list[str]:
        folded = " ".join(text.casefold().split())
        return [phrase for phrase in self.boilerplate if phrase in folded]


def _is_text(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM" or character.isspace() or character in _PUNCTUATION
