"""What votes say: win rates, Bradley-Terry scores, how far raters agree, whether a side is favored.

A tie counts half for each side. Intervals are at 95%: Wilson's for shares. Those of Bradley-Terry scores come from the
bootstrap, since votes of one rater, or on one prompt, are no independent witnesses: the variance over raters drawn
anew, plus that over prompts, less that over votes, which is in both (Cameron, Gelbach and Miller, Robust inference with
multiway clustering, 2011).

Letters: M models, R rounds of the bootstrap, V votes.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.arena.votes import ANSWERS, Vote

__all__ = ["Share", "bradley_terry", "krippendorff_alpha", "left_share", "outcomes", "scores_of", "wilson", "win_rates"]

_Z = 1.959964
_ROUNDS = 1000
_ITERATIONS = 200
_PRIOR = 0.5  # ties that every pair is given
_LEFT_WINS = {"left": 1.0, "tie": 0.5, "right": 0.0}

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
    return {
        pair: wilson(won + tied / 2, won + tied + lost) for pair, (won, tied, lost) in outcomes(votes, question).items()
    }


def outcomes(votes: Sequence[Vote], question: str) -> dict[tuple[str, str], tuple[int, int, int]]:
    """How often the first of two models won, tied and lost against the second, for every ordered pair."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for vote in votes:
        if answer := getattr(vote, question):
            place = ANSWERS.index(answer)
            counts[vote.left, vote.right][place] += 1
            counts[vote.right, vote.left][2 - place] += 1
    return {pair: (won, tied, lost) for pair, (won, tied, lost) in sorted(counts.items())}


def bradley_terry(wins: Matrix) -> Matrix:
    """Strengths of models from how often each won against each: the most likely ones (Bradley and Terry, 1952).

    Each pair is given half a tie more than there was, so that a model that won or lost everything has a finite score.
    The likelihood is concave in the scores, so Newton's method finds its one top.

    Args:
        wins: `(..., M, M)`, row over column; ties as half a win for both. The diagonal counts for nothing.

    Returns:
        `(..., M)` natural logarithms of the strengths, with mean 0: e to a difference are the odds.

    Raises:
        ValueError: If the iteration does not settle, as for counts that are no numbers.
    """
    wins = (wins + _PRIOR / 2) * (1 - np.eye(wins.shape[-1]))
    scores = np.zeros(wins.shape[:-1])
    for _ in range(_ITERATIONS):
        chance, bend = _chance_and_bend(wins, scores)
        slope = (wins - (wins + wins.swapaxes(-1, -2)) * chance).sum(-1)  # (..., M)
        # Scores are told from each other alone: adding ones keeps their mean, which the likelihood leaves open.
        step = np.linalg.solve(bend + 1.0, slope[..., None])[..., 0]
        scores = scores + step / np.maximum(1.0, np.abs(step).max(-1, keepdims=True))  # no leap where it is flat
        if np.abs(step).max() < 1e-9:
            return scores - scores.mean(-1, keepdims=True)
    raise ValueError(f"Bradley-Terry scores of {wins.shape[-1]} models do not settle in {_ITERATIONS} iterations")


def _chance_and_bend(wins: Matrix, scores: Matrix) -> tuple[Matrix, Matrix]:
    """The chance of row against column, and the second derivatives of the likelihood with the sign turned."""
    chance = 1 / (1 + np.exp(scores[..., None, :] - scores[..., :, None]))  # (..., M, M)
    bend = -(wins + wins.swapaxes(-1, -2)) * chance * (1 - chance)
    return chance, bend - np.eye(scores.shape[-1]) * bend.sum(-1, keepdims=True)


def _variance(wins: Matrix, scores: Matrix) -> Matrix:
    """Variance of scores, `(M,)`, that the likelihood alone tells, from `(M, M)` wins: never 0, as a bootstrap's is.

    A model that won everything wins everything in each round, too.
    """
    _, bend = _chance_and_bend((wins + _PRIOR / 2) * (1 - np.eye(len(wins))), scores)
    from_mean = np.eye(len(scores)) - 1 / len(scores)
    return np.diag(from_mean @ np.linalg.inv(bend + 1.0) @ from_mean)


def _student(freedom: Matrix) -> Matrix:
    """The 97.5% point of Student's distribution, by its expansion in 1 / degrees of freedom; within 4% from 2 on."""
    z = _Z
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def scores_of(votes: Sequence[Vote], question: str, seed: int = 0) -> dict[str, Share]:
    """Bradley-Terry score of each model, with the bootstrap's interval.

    With a single rater the interval is over prompts alone: nothing about other raters can be learned from one.

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
    left = np.array([place[vote.left] for vote in answered])  # (V,)
    right = np.array([place[vote.right] for vote in answered])
    won = np.array([_LEFT_WINS[getattr(vote, question)] for vote in answered])
    rater = np.unique([vote.rater for vote in answered], return_inverse=True)[1]
    prompt = np.unique([vote.prompt for vote in answered], return_inverse=True)[1]
    results = np.zeros((len(answered), len(models), len(models)))  # what each vote adds to the table of wins
    results[np.arange(len(answered)), left, right] = won
    results[np.arange(len(answered)), right, left] = 1 - won
    flat = results.reshape(len(answered), -1)  # (V, M * M)

    draw = np.random.default_rng(seed)

    def spread(group: NDArray[np.intp]) -> Matrix:
        """Variance of each score over rounds in which the groups of votes are drawn anew, `(M,)`; 0 of one group."""
        groups = int(group.max()) + 1
        even = np.full(groups, 1 / groups)
        tables = [draw.multinomial(groups, even)[group] @ flat for _ in range(_ROUNDS)]  # R of (M * M,)
        # The spread of a sample is that of its source but for one of its groups, which counts where they are few.
        rounds = bradley_terry(np.array(tables).reshape(_ROUNDS, len(models), len(models)))  # (R, M)
        return rounds.var(0) * groups / max(1, groups - 1)

    wins = results.sum(0)
    value = bradley_terry(wins)
    # What chance does to single votes is in the variance over raters and in that over prompts: it is taken off once.
    of_raters, of_prompts, of_votes = spread(rater), spread(prompt), spread(np.arange(len(answered)))
    variance = np.max([of_raters + of_prompts - of_votes, of_raters, of_prompts, _variance(wins, value)], axis=0)
    # What differs between raters is known from so many raters only, and so with prompts (Satterthwaite, 1946).
    doubt = sum(
        (np.maximum(0, part - of_votes) / variance) ** 2 / max(1, int(group.max()))
        for part, group in ((of_raters, rater), (of_prompts, prompt))
    )
    reach = _student(1 / np.clip(doubt, 1e-9, 1)) * np.sqrt(variance)
    counts = np.bincount(np.concatenate([left, right]), minlength=len(models))
    return {
        model: Share(float(value[i]), float(value[i] - reach[i]), float(value[i] + reach[i]), int(counts[i]))
        for i, model in enumerate(models)
    }


def krippendorff_alpha(votes: Sequence[Vote], question: str) -> float | None:
    """How far raters of the same comparison agree: 1 always, 0 as chance would (Krippendorff, nominal).

    Alpha, not Fleiss' kappa, since raters may stop early or see other comparisons: kappa asks for the same number of
    raters of each. Answers are the model that won, or a tie, whichever side it was on. None if no comparison has two
    raters, or all answers are the same.
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
