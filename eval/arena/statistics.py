"""What votes say: win rates, Bradley-Terry scores, how far raters agree, whether a side is favored.

A tie counts half for each side. Intervals are at 95%: Wilson's for shares; for Bradley-Terry scores the bootstrap over
raters and prompts at once, since votes of one rater, or on one prompt, are no independent witnesses (Owen, The
pigeonhole bootstrap, 2007).

Letters: M models, V votes.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.arena.votes import Vote

__all__ = ["Share", "bradley_terry", "krippendorff_alpha", "left_share", "scores_of", "wilson", "win_rates"]

_Z = 1.959964
_ROUNDS = 1000
_PRIOR = 0.5  # of a tie of every pair: a model that won or lost everything has a finite score

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """A share, or another figure, with its interval.

    Attributes:
        value: The figure.
        low: Lower end of the interval.
        high: Upper end.
        count: Votes behind it.
    """

    value: float
    low: float
    high: float
    count: int


def wilson(wins: float, count: int) -> Share:
    """A share with Wilson's interval.

    Args:
        wins: Of the votes; ties count half.
        count: Votes.

    Raises:
        ValueError: If there are none.
    """
    if count < 1:
        raise ValueError("a share of no votes has no value")
    share, z2 = wins / count, _Z**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # At none and at all the ends are 0 and 1 exactly, but for rounding.
    low, high = (0.0 if wins == 0 else middle - half), (1.0 if wins == count else middle + half)
    return Share(share, low, high, count)


def win_rates(votes: Sequence[Vote], question: str) -> dict[tuple[str, str], Share]:
    """How often the first of two models wins against the second, for every ordered pair that was compared."""
    wins: dict[tuple[str, str], float] = defaultdict(float)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for vote in votes:
        if answer := getattr(vote, question):
            left = {"left": 1.0, "tie": 0.5, "right": 0.0}[answer]
            for pair, won in (((vote.left, vote.right), left), ((vote.right, vote.left), 1 - left)):
                wins[pair] += won
                counts[pair] += 1
    return {pair: wilson(wins[pair], counts[pair]) for pair in sorted(counts)}


def bradley_terry(wins: Matrix, rounds: int = 200) -> Matrix:
    """Strengths of models from how often each won against each (Hunter, Ann. Statist. 2004, MM algorithm).

    Args:
        wins: `(..., M, M)`, row over column; ties as half a win for both. Several tables are fitted at once.
        rounds: Iterations.

    Returns:
        `(..., M)` natural logarithms of the strengths, with mean 0: e to a difference are the odds.
    """
    models = wins.shape[-1]
    wins = wins + _PRIOR / 2 * (1 - np.eye(models))
    games, total = wins + wins.swapaxes(-1, -2), wins.sum(-1)
    strengths = np.ones(total.shape)
    for _ in range(rounds):
        strengths = total / (games / (strengths[..., :, None] + strengths[..., None, :])).sum(-1)
        strengths /= np.exp(np.log(strengths).mean(-1, keepdims=True))
    return np.log(strengths)


def scores_of(votes: Sequence[Vote], question: str, seed: int = 0) -> dict[str, Share]:
    """Bradley-Terry score of each model, with the bootstrap's interval.

    Args:
        votes: The votes.
        question: `quality` or `text`.
        seed: Of the bootstrap.

    Raises:
        ValueError: If nobody answered the question.
    """
    answered = [vote for vote in votes if getattr(vote, question)]
    if not answered:
        raise ValueError(f"nobody answered the question of {question}")
    models = sorted({model for vote in answered for model in (vote.left, vote.right)})
    place = {model: number for number, model in enumerate(models)}
    left = np.array([place[vote.left] for vote in answered])
    right = np.array([place[vote.right] for vote in answered])
    won = np.array([{"left": 1.0, "tie": 0.5, "right": 0.0}[getattr(vote, question)] for vote in answered])
    _, rater = np.unique([vote.rater for vote in answered], return_inverse=True)
    _, prompt = np.unique([vote.prompt for vote in answered], return_inverse=True)

    # Row V of the design: what a vote adds to the table of wins, (V, M * M).
    design = np.zeros((len(answered), len(models) ** 2))
    design[np.arange(len(won)), left * len(models) + right] = won
    design[np.arange(len(won)), right * len(models) + left] = 1 - won

    def fitted(weights: Matrix) -> Matrix:
        return bradley_terry((weights @ design).reshape(len(weights), len(models), len(models)))

    draw = np.random.default_rng(seed)
    # One rater alone is not drawn anew, nor one prompt: nothing can be learned from it about others.
    weights = np.ones((_ROUNDS, len(won)))
    for group in (rater, prompt):
        if (size := int(group.max()) + 1) > 1:
            weights *= draw.multinomial(size, np.full(size, 1 / size), _ROUNDS)[:, group]
    low, high = np.quantile(fitted(weights), (0.025, 0.975), axis=0)
    [value] = fitted(np.ones((1, len(won))))
    counts = np.bincount(np.concatenate([left, right]), minlength=len(models))
    return {
        model: Share(float(value[i]), float(low[i]), float(high[i]), int(counts[i])) for i, model in enumerate(models)
    }


def krippendorff_alpha(votes: Sequence[Vote], question: str) -> float | None:
    """How far raters of the same comparison agree: 1 always, 0 as chance would (Krippendorff, nominal).

    It allows for raters who saw different comparisons, and for any number of them, which kappas do not. None if no
    comparison has two raters, or all answers are the same.
    """
    units: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for vote in votes:
        if answer := getattr(vote, question):
            _, prompt, first, second = vote.key
            units[prompt, first, second].append({"left": vote.left, "right": vote.right}.get(answer, "="))
    shared = [answers for answers in units.values() if len(answers) > 1]
    total = sum(len(answers) for answers in shared)
    if not shared:
        return None
    observed = 0.0
    counts: dict[tuple[int, str], int] = defaultdict(int)
    pooled: dict[str, int] = defaultdict(int)
    for number, answers in enumerate(shared):
        for answer in answers:
            counts[number, answer] += 1
            pooled[answer] += 1
        size = len(answers)
        same = sum(counts[number, answer] * (counts[number, answer] - 1) for answer in set(answers))
        observed += (size * (size - 1) - same) / (size - 1)
    expected = (total**2 - sum(count**2 for count in pooled.values())) / (total - 1)
    return None if expected == 0 else 1 - observed / expected


def left_share(votes: Sequence[Vote], question: str) -> Share | None:
    """Share of the left side among the answers that are no tie; far from a half, a side is favored. None if all are."""
    decided = [answer for vote in votes if (answer := getattr(vote, question)) in ("left", "right")]
    return wilson(decided.count("left"), len(decided)) if decided else None
