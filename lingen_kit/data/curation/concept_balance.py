"""A set whose concepts stand in stated shares: LinGen balances the concepts of its tuning set."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lingen_kit.data.curation.filter import Candidate, SetFilter, check_best, rank

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured

OTHERS = "others"


@dataclass
class Concept:
    """A kind of clips, known by words of the caption.

    Args:
        words: A caption with one of these words or phrases belongs to it, case ignored; `dog*` stands for all words
            that begin so. A word of a script without spaces is found inside others.
        share: Of the clips that are kept, between 0 and 1.
    """

    words: list[str]
    share: float


class ConceptBalance(SetFilter):
    """Keeps the best clips of each concept, as many as its share allows.

    A clip belongs to the first concept, in the order of the file, of which its caption holds a word.

    Args:
        concepts: By name.
        others: Share of clips that belong to no concept; None for what the concepts leave of 1.
        total: How many clips to keep. Each concept gets its share of it, or all that there is if that is less. None
            keeps as many as can be had with the shares exact: the scarcest concept decides. Concepts without any
            clip are then left out, and named in the report.
        keep_best: Score by which clips are chosen, the higher the better.
    """

    def __init__(
        self,
        concepts: dict[str, Concept],
        others: float | None = None,
        total: int | None = None,
        keep_best: str = "sharpness",
    ) -> None:
        shares = {name: concept.share for name, concept in concepts.items()}
        if OTHERS in shares:
            raise ValueError(f"ConceptBalance: {OTHERS!r} is no concept but the option of that name")
        rest = 1 - sum(shares.values())
        shares[OTHERS] = max(0.0, rest) if others is None else others
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"ConceptBalance: the share {share} of {name} is not between 0 and 1")
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError(f"ConceptBalance: the shares, with that of {OTHERS}, add up to {sum(shares.values()):g}")
        if empty := [name for name, concept in concepts.items() if not concept.words]:
            raise ValueError(f"ConceptBalance: the concept {empty[0]} has no words")
        for name, concept in concepts.items():
            for word in concept.words:
                if not word.strip("* \t\r\n"):
                    raise ValueError(
                        f"ConceptBalance: the word {word!r} of {name} would match every caption; write one with"
                        f" letters, or use the option {OTHERS} for all other clips"
                    )
        if total is not None and total < 1:
            raise ValueError(f"ConceptBalance: total {total} must be at least 1, or null")
        self.shares, self.total, self.keep_best = shares, total, keep_best
        self.patterns = {name: _pattern(concept.words) for name, concept in concepts.items()}
        self._report: dict[str, Any] = {}

    def check(self, scores: Sequence[str]) -> None:
        """The score to choose by must be there."""
        super().check(scores)
        check_best(type(self).__name__, self.keep_best, scores)

    def concept(self, caption: str) -> str:
        """The concept of a caption."""
        return next((name for name, pattern in self.patterns.items() if pattern.search(caption)), OTHERS)

    def choose(
        self, clips: Sequence[Candidate], rejected: Sequence[Candidate], measured: Mapping[str, Measured]
    ) -> dict[str, str]:
        """What each concept has above its share."""
        members: dict[str, list[Candidate]] = {name: [] for name in self.shares}
        for clip in clips:
            members[self.concept(clip.caption)].append(clip)
        quotas = self._quotas({name: len(group) for name, group in members.items()})
        dropped = {}
        for name, group in members.items():
            group.sort(key=lambda clip: rank(clip, self.keep_best))
            for clip in group[quotas[name] :]:
                if clip.decision != "keep":
                    dropped[clip.name] = (
                        f"{quotas[name]} of {len(group)} clips of {name} are kept (a share of {self.shares[name]:g}),"
                        f" those with the highest {self.keep_best}"
                    )
        before = {name: len(group) for name, group in members.items()}
        after = Counter(self.concept(clip.caption) for clip in clips if clip.name not in dropped)
        kept = max(1, sum(after.values()))
        self._report = {
            name: {
                "target": share,
                "before": before[name],
                "before_share": round(before[name] / max(1, len(clips)), 4),
                "after": after[name],
                "after_share": round(after[name] / kept, 4),
            }
            for name, share in self.shares.items()
        }
        return dropped

    def report(self) -> dict[str, Any]:
        """Clips and shares of each concept, before and after."""
        return {"concepts": self._report}

    def _quotas(self, available: dict[str, int]) -> dict[str, int]:
        wanted = {name: share for name, share in self.shares.items() if share > 0 and available[name] > 0}
        if not wanted:
            return dict.fromkeys(self.shares, 0)
        total = self.total
        if total is None:
            whole = sum(wanted.values())
            wanted = {name: share / whole for name, share in wanted.items()}
            largest = min(available[name] / share for name, share in wanted.items())
        else:
            largest = total
        return {
            name: min(available[name], math.floor(largest * wanted.get(name, 0.0) + 0.5 * (total is not None) + 1e-9))
            for name in self.shares
        }


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(_word(word.strip()) for word in words), re.IGNORECASE)


def _word(word: str) -> str:
    text = r"\s+".join(re.escape(part) for part in word.removesuffix("*").split())
    if not word.isascii() and re.search(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]", word):
        return text
    return rf"\b{text}" + ("" if word.endswith("*") else r"\b")
