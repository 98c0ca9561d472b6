"""What came of a study: a table for the terminal, a CSV, and a page."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from textwrap import wrap

from eval.arena.statistics import Share, krippendorff_alpha, left_share, outcomes, scores_of, win_rates
from eval.arena.votes import QUESTIONS, Vote
from lingen_kit.page import escape, page, write

__all__ = ["Report"]

_TITLES = {"quality": "Which looks better", "text": "Which shows the text better"}
_NOTE = (
    "A tie counts half for each. Intervals at 95%: Wilson's for shares, which takes votes as independent; for "
    "Bradley-Terry scores the bootstrap over raters and over prompts, which does not. Scores are natural logarithms of "
    "odds around a mean of 0: a model 0.7 above another wins twice as often as it loses. Each pair is given half a tie "
    "more than there was, so that no score is infinite."
)
_ALPHA = (
    "Krippendorff's alpha is 1 where raters of a comparison always agree, and 0 where they do as by chance. Fleiss' "
    "kappa would ask for the same number of raters of each comparison; alpha does not."
)
_STYLE = """
.share { display: flex; height: 1.6rem; border-radius: .3rem; overflow: hidden; font-size: .8rem; min-width: 14rem; }
.share > span { overflow: hidden; white-space: nowrap; line-height: 1.6rem; padding: 0 .4rem; min-width: 0; }
.share > :first-child { background: var(--accent); color: var(--ground); }
.share > :nth-child(2) { background: var(--line); text-align: center; padding: 0; }
.share > :last-child { background: var(--card); text-align: right; }
.share > .none { display: none; }
.pair { display: grid; gap: .1rem .9rem; grid-template: "one share other" / 9rem 1fr 9rem; align-items: center;
  max-width: 52rem; margin: .4rem 0; font-size: .92rem; overflow-wrap: anywhere; }
.pair > :first-child { grid-area: one; text-align: right; }
.pair > .share { grid-area: share; }
.pair > :last-child { grid-area: other; }
@media (max-width: 40rem) { .pair { grid-template: "one other" "share share" / 1fr 1fr; margin: .7rem 0; }
  .pair > :first-child { text-align: left; }
  .pair > :last-child { text-align: right; } }
.scroll { margin: .8rem 0; }
.interval { color: var(--accent); display: block; }
"""


@dataclass(frozen=True)
class _Outcome:
    """What the answers to one question say."""

    question: str
    scores: dict[str, Share]  # the best first
    rates: dict[tuple[str, str], Share]
    counts: dict[tuple[str, str], tuple[int, int, int]]
    alpha: float | None
    side: Share | None


class Report:
    """Figures of a study, computed once.

    Args:
        votes: All of them; `read_votes` has seen to it that each counts once.
        seed: Of the bootstrap.
    """

    def __init__(self, votes: Sequence[Vote], seed: int = 0) -> None:
        self.votes = list(votes)
        self._outcomes = []
        for question in QUESTIONS:
            if any(getattr(vote, question) for vote in votes):
                scores = scores_of(votes, question, seed)
                self._outcomes.append(
                    _Outcome(
                        question,
                        dict(sorted(scores.items(), key=lambda item: (-item[1].value, item[0]))),
                        win_rates(votes, question),
                        outcomes(votes, question),
                        krippendorff_alpha(votes, question),
                        left_share(votes, question),
                    )
                )

    def write(self, out: Path) -> list[Path]:
        """Write `arena.html` and `arena.csv` into a folder; both paths."""
        write(out / "arena.html", self.page())
        write(out / "arena.csv", self.csv())
        return [out / "arena.html", out / "arena.csv"]

    def text(self) -> str:
        """For the terminal."""
        lines = [self._counts()]
        for found in self._outcomes:
            width = max(map(len, found.scores))
            lines += ["", f"{_TITLES[found.question]}", f"  {'model':{width}}  score   interval         comparisons"]
            for model, share in found.scores.items():
                interval = f"{share.low:+.2f} to {share.high:+.2f}"
                lines.append(f"  {model:{width}}  {share.value:+.2f}   {interval}   {share.count}")
            for one, other in _ordered(found):
                won, tied, lost = found.counts[one, other]
                rate = _percent(found.rates[one, other])
                lines.append(f"  {one} wins {rate} against {other}: {won} won, {tied} tied, {lost} lost")
            lines.append(f"  {_agreement(found.alpha)}; {_position(found.side)}")
        if not self._outcomes:
            lines.append("\nnobody answered a question: all comparisons were skipped")
        return "\n".join([*lines, "", *wrap(_NOTE, 110)])

    def csv(self) -> str:
        """A row a figure: question, figure, model, against, value, low, high, votes."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["question", "figure", "model", "against", "value", "low", "high", "votes"])
        for found in self._outcomes:
            rows = [("bradley_terry", model, "", share) for model, share in sorted(found.scores.items())]
            rows += [("win_rate", one, other, share) for (one, other), share in found.rates.items()]
            if found.side is not None:
                rows.append(("left_share", "", "", found.side))
            for figure, model, against, share in rows:
                writer.writerow(
                    [found.question, figure, model, against, share.value, share.low, share.high, share.count]
                )
            for (one, other), (_, tied, _) in found.counts.items():
                writer.writerow([found.question, "ties", one, other, tied, "", "", found.rates[one, other].count])
            alpha = "" if found.alpha is None else found.alpha
            writer.writerow([found.question, "krippendorff_alpha", "", "", alpha, "", "", ""])
        return text.getvalue()

    def page(self) -> str:
        """The page."""
        parts = [f"<style>{_STYLE}</style><p>{escape(self._counts())}.</p>"]
        for found in self._outcomes:
            parts += [f"<h2>{escape(_TITLES[found.question])}</h2>", _pairs(found), _scores(found)]
            parts.append(
                f"<p>{escape(_sentence(_agreement(found.alpha)))} {escape(_sentence(_position(found.side)))}</p>"
            )
        if not self._outcomes:
            parts.append("<p>Nobody answered a question: all comparisons were skipped.</p>")
        parts += [self._raters(), self._skipped(), f"<p class='muted'>{escape(_NOTE)} {escape(_ALPHA)}</p>"]
        return page("Human evaluation", "\n".join(parts))

    def _counts(self) -> str:
        raters, prompts = len({vote.rater for vote in self.votes}), len({vote.prompt for vote in self.votes})
        skipped = sum(bool(vote.skipped) for vote in self.votes)
        told = f"{len(self.votes)} votes of {raters} {'rater' if raters == 1 else 'raters'} on {prompts} prompts"
        told += f", {skipped} of them skipped" if skipped else ""
        return told + ("; intervals say nothing about other raters than this one" if raters == 1 else "")

    def _raters(self) -> str:
        rows = []
        for name in sorted({vote.rater for vote in self.votes}):
            own = [vote for vote in self.votes if vote.rater == name]
            answered = [vote for vote in own if not vote.skipped]
            cells = [len(own), len(own) - len(answered)]
            seconds = f"{median(vote.seconds for vote in answered):.1f}" if answered else "-"
            ties = [getattr(vote, question) == "tie" for vote in answered for question in QUESTIONS]
            share = f"{100 * sum(ties) / len(ties):.0f}%" if ties else "-"
            rows.append([name, *cells, share, seconds])
        return "<h2>Raters</h2>" + _table(["rater", "votes", "skipped", "ties", "seconds a vote (median)"], rows, 1)

    def _skipped(self) -> str:
        rows = [[v.rater, v.prompt, f"{v.left}, {v.right}", v.skipped] for v in self.votes if v.skipped]
        return "<h2>Skipped</h2>" + _table(["rater", "prompt", "models", "why"], rows, 4) if rows else ""


def _ordered(found: _Outcome) -> list[tuple[str, str]]:
    """Each pair once, the better model first."""
    models = list(found.scores)
    return [(one, other) for i, one in enumerate(models) for other in models[i + 1 :] if (one, other) in found.rates]


def _pairs(found: _Outcome) -> str:
    """Won, tied and lost of each pair as a bar, as in the paper's figure."""
    cells = []
    for one, other in _ordered(found):
        parts = found.counts[one, other]
        bars = "".join(
            f'<span style="flex-grow:{part}"{"" if part else " class=none"} title="{part} {what}">'
            f"{100 * part / sum(parts):.0f}%</span>"
            for part, what in zip(parts, ("won", "tied", "lost"), strict=True)
        )
        label = f"{one} won {parts[0]}, tied {parts[1]} and lost {parts[2]} against {other}"
        cells.append(
            f'<div class="pair"><span>{escape(one)}</span>'
            f'<div class="share" role="img" aria-label="{escape(label)}">{bars}</div><span>{escape(other)}</span></div>'
        )
    rates = [
        [f"{one} against {other}", _percent(found.rates[one, other]), *found.counts[one, other]]
        for one, other in _ordered(found)
    ]
    table = _table(["pair", "win rate, a tie as half", "won", "tied", "lost"], rates, 1)
    return "".join(cells) + table


def _scores(found: _Outcome) -> str:
    rows = "".join(
        f"<tr><td>{escape(model)}</td><td>{_interval(share, found.scores)}</td>"
        f"<td class='number'>{share.value:+.2f} ({share.low:+.2f} to {share.high:+.2f})</td>"
        f"<td class='number'>{share.count}</td></tr>"
        for model, share in found.scores.items()
    )
    return (
        "<div class='scroll'><table><tr><th>model</th><th></th><th class='number'>Bradley-Terry score</th>"
        f"<th class='number'>comparisons</th></tr>{rows}</table></div>"
    )


def _interval(share: Share, scores: dict[str, Share]) -> str:
    """An interval and its value on a common scale, as a small drawing; a mark where the mean is."""
    low, high = min(s.low for s in scores.values()), max(s.high for s in scores.values())

    def at(value: float) -> float:
        return 6 + 148 * (value - low) / max(1e-9, high - low)

    return (
        '<svg class="interval" width="160" height="16" role="img" aria-hidden="true">'
        f'<line x1="{at(0):.1f}" x2="{at(0):.1f}" y1="0" y2="16" stroke="currentColor" opacity=".3"/>'
        f'<line x1="{at(share.low):.1f}" x2="{at(share.high):.1f}" y1="8" y2="8" '
        'stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{at(share.value):.1f}" cy="8" r="4.5" fill="currentColor"/></svg>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], numbers_from: int) -> str:
    """A table; columns from a place on hold numbers."""

    def line(tag: str, cells: Sequence[object]) -> str:
        kinds = ["" if place < numbers_from else " class='number'" for place in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{k}>{escape(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<div class='scroll'><table>{line('th', head)}{body}</table></div>"


def _percent(share: Share) -> str:
    return f"{100 * share.value:.1f}% ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _agreement(alpha: float | None) -> str:
    if alpha is None:
        return "no agreement to tell: no two raters of one comparison who could differ"
    return f"agreement of raters (Krippendorff's alpha) {alpha:.2f}"


def _position(side: Share | None) -> str:
    if side is None:
        return "all are ties, so no side is favored"
    favored = " and is favored" if side.low > 0.5 else ", so the right one is favored" if side.high < 0.5 else ""
    return f"the left side wins {_percent(side)} of what is decided{favored}"
