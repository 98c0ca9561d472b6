"""What came of a study: a table for the terminal, a CSV, and a page."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from eval.arena.statistics import Share, krippendorff_alpha, left_share, scores_of, win_rates
from eval.arena.votes import QUESTIONS, Vote
from lingen_kit.page import escape, page, write

__all__ = ["as_csv", "as_page", "as_text", "write_report"]

_TITLES = {"quality": "Which looks better", "text": "Which shows the text better"}
_NOTE = (
    "A tie counts half for each. Intervals at 95%: Wilson's for shares, the bootstrap over raters and prompts for "
    "Bradley-Terry scores, which are natural logarithms of odds around a mean of 0."
)


def write_report(votes: Sequence[Vote], out: Path) -> list[Path]:
    """Write `arena.html` and `arena.csv` into a folder; both paths."""
    write(out / "arena.html", as_page(votes))
    write(out / "arena.csv", as_csv(votes))
    return [out / "arena.html", out / "arena.csv"]


def as_text(votes: Sequence[Vote]) -> str:
    """For the terminal."""
    lines = [_counts(votes)]
    for question in QUESTIONS:
        if not _answered(votes, question):
            lines.append(f"\n{_TITLES[question]}: nobody answered")
            continue
        scores = sorted(scores_of(votes, question).items(), key=lambda item: -item[1].value)
        width = max(len(model) for model, _ in scores)
        lines.append(f"\n{_TITLES[question]}")
        lines += [f"  {model:{width}}  {_score(share)}  {share.count} comparisons" for model, share in scores]
        for (one, other), share in win_rates(votes, question).items():
            lines.append(f"  {one:{width}}  wins {_percent(share)} against {other}, of {share.count}")
        lines.append(f"  {_agreement(votes, question)}; {_position(votes, question)}")
    return "\n".join([*lines, "", _NOTE])


def as_csv(votes: Sequence[Vote]) -> str:
    """A row a figure: question, figure, model, against, value, low, high, votes."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["question", "figure", "model", "against", "value", "low", "high", "votes"])
    for question in QUESTIONS:
        if not _answered(votes, question):
            continue
        rows = [("bradley_terry", model, "", share) for model, share in scores_of(votes, question).items()]
        rows += [("win_rate", one, other, share) for (one, other), share in win_rates(votes, question).items()]
        if (side := left_share(votes, question)) is not None:
            rows.append(("left_share", "", "", side))
        for figure, model, against, share in rows:
            writer.writerow([question, figure, model, against, share.value, share.low, share.high, share.count])
        alpha = krippendorff_alpha(votes, question)
        writer.writerow([question, "krippendorff_alpha", "", "", "" if alpha is None else alpha, "", "", ""])
    return text.getvalue()


def as_page(votes: Sequence[Vote]) -> str:
    """The page."""
    parts = [f"<p>{escape(_counts(votes))}</p><p class='muted'>{escape(_NOTE)}</p>"]
    for question in QUESTIONS:
        parts.append(f"<h2>{escape(_TITLES[question])}</h2>")
        if not _answered(votes, question):
            parts.append("<p>Nobody answered.</p>")
            continue
        rates = win_rates(votes, question)
        models = [m for m, _ in sorted(scores_of(votes, question).items(), key=lambda item: -item[1].value)]
        scores = scores_of(votes, question)
        rows = "".join(
            f"<tr><td>{escape(model)}</td><td>{_bar(scores[model], scores)}</td>"
            f"<td class='number'>{_score(scores[model])}</td><td class='number'>{scores[model].count}</td></tr>"
            for model in models
        )
        parts.append(
            "<div class='scroll'><table><tr><th>model</th><th></th><th class='number'>Bradley-Terry score</th>"
            f"<th class='number'>comparisons</th></tr>{rows}</table></div>"
        )
        head = "".join(f"<th class='number'>against {escape(model)}</th>" for model in models)
        body = "".join(
            f"<tr><td>{escape(one)}</td>"
            + "".join(
                f"<td class='number'>{_percent(rates[one, other]) if (one, other) in rates else ''}</td>"
                for other in models
            )
            + "</tr>"
            for one in models
        )
        parts.append(f"<h3>Wins</h3><div class='scroll'><table><tr><th></th>{head}</tr>{body}</table></div>")
        parts.append(f"<p>{escape(_agreement(votes, question))}; {escape(_position(votes, question))}.</p>")
    skipped = [vote for vote in votes if vote.skipped]
    if skipped:
        rows = "".join(
            f"<tr><td>{escape(v.rater)}</td><td>{escape(v.prompt)}</td><td>{escape(f'{v.left}, {v.right}')}</td>"
            f"<td>{escape(v.skipped)}</td></tr>"
            for v in skipped
        )
        parts.append(
            "<h2>Skipped</h2><div class='scroll'><table><tr><th>rater</th><th>prompt</th><th>models</th><th>why</th>"
            f"</tr>{rows}</table></div>"
        )
    return page("Human evaluation", "\n".join(parts))


def _counts(votes: Sequence[Vote]) -> str:
    raters, prompts = len({vote.rater for vote in votes}), len({vote.prompt for vote in votes})
    skipped = sum(bool(vote.skipped) for vote in votes)
    told = f"{len(votes)} votes of {raters} raters on {prompts} prompts"
    return told + (f", {skipped} of them skipped" if skipped else "")


def _answered(votes: Sequence[Vote], question: str) -> bool:
    return any(getattr(vote, question) for vote in votes)


def _percent(share: Share) -> str:
    return f"{100 * share.value:.1f}% ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _score(share: Share) -> str:
    return f"{share.value:+.2f} ({share.low:+.2f} to {share.high:+.2f})"


def _agreement(votes: Sequence[Vote], question: str) -> str:
    alpha = krippendorff_alpha(votes, question)
    if alpha is None:
        return "no agreement to tell: no two raters of one comparison who could differ"
    return f"agreement of raters (Krippendorff's alpha, 0 is chance) {alpha:.2f}"


def _position(votes: Sequence[Vote], question: str) -> str:
    side = left_share(votes, question)
    return "all ties" if side is None else f"the left side wins {_percent(side)} of what is decided"


def _bar(share: Share, scores: dict[str, Share]) -> str:
    """An interval and its value on a common scale, as a small drawing."""
    low, high = min(s.low for s in scores.values()), max(s.high for s in scores.values())

    def at(value: float) -> float:
        return 5 + 150 * (value - low) / max(1e-9, high - low)

    return (
        '<svg width="160" height="14" role="img" aria-hidden="true">'
        f'<line x1="{at(share.low):.1f}" x2="{at(share.high):.1f}" y1="7" y2="7" stroke="currentColor"/>'
        f'<circle cx="{at(share.value):.1f}" cy="7" r="4" fill="currentColor"/></svg>'
    )
