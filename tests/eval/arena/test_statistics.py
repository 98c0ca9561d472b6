import csv
import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from eval.arena.report import Report
from eval.arena.statistics import (
    _student,
    bradley_terry,
    krippendorff_alpha,
    left_share,
    outcomes,
    scores_of,
    wilson,
    win_rates,
)
from eval.arena.votes import Vote


def simulated(strengths: dict[str, float], raters: int, prompts: int, seed: int, ties: float = 0.1, bias: float = 0.0):
    """Votes of raters for whom e to the difference of strengths are the odds."""
    draw = np.random.default_rng(seed)
    votes = []
    for rater, prompt in itertools.product(range(raters), range(prompts)):
        for one, other in itertools.combinations(strengths, 2):
            left, right = (one, other) if draw.random() < 0.5 else (other, one)
            chance = 1 / (1 + math.exp(strengths[right] - strengths[left] - bias))
            answer = "tie" if draw.random() < ties else "left" if draw.random() < chance else "right"
            votes.append(Vote(f"r{rater}", f"p{prompt}", left, right, quality=answer, text=answer))
    return votes


@pytest.mark.parametrize("tastes", ["none", "prompts", "raters"])
def test_known_strengths_are_within_their_intervals_as_often_as_they_should(tastes: str) -> None:
    strengths, draw = {"a": -0.8, "b": 0.0, "c": 0.8}, np.random.default_rng(0)
    inside, width = 0, 0.0
    for seed in range(24):
        votes = []
        groups = 20 if tastes == "prompts" else 8
        for group in range(groups):
            # Each prompt, or each rater, moves the strengths by a chance of its own; they are as given on the whole.
            own = {m: s + float(draw.normal(0, 0.9 * (tastes != "none"))) for m, s in strengths.items()}
            part = simulated(own, *((8, 1) if tastes == "prompts" else (1, 20)), seed * 100 + group, ties=0.0)
            name = {"prompt": f"p{group}"} if tastes == "prompts" else {"rater": f"r{group}"}
            votes += [replace(vote, **name) for vote in part]
        found = scores_of(votes, "quality", seed)
        width += sum(share.high - share.low for share in found.values())
        inside += sum(share.low <= _seen(strengths, tastes)[m] <= share.high for m, share in found.items())
    assert 66 <= inside <= 72  # of 72 at 95%; 68.4 are expected
    assert 0.25 < width / 72 < (0.45 if tastes == "none" else 1.3)  # and not by being endless


def _seen(strengths: dict[str, float], tastes: str) -> dict[str, float]:
    """Strengths as they show where tastes differ: the mean over tastes of the odds' chances is nearer to a half."""
    if tastes == "none":
        return strengths
    differences = np.random.default_rng(1).normal(0, 0.9 * math.sqrt(2), 20_000)
    models = list(strengths)
    chance = np.array(
        [[(1 / (1 + np.exp(-(strengths[i] - strengths[j] + differences)))).mean() for j in models] for i in models]
    )
    return dict(zip(models, bradley_terry(1e6 * chance * (1 - np.eye(len(models)))), strict=True))


def test_students_points_are_those_of_the_tables() -> None:
    found = _student(np.array([2.0, 3.0, 7.0, 19.0, 1e9]))
    np.testing.assert_allclose(found, [4.303, 3.182, 2.365, 2.093, 1.960], rtol=0.04)
    np.testing.assert_allclose(found[2:], [2.365, 2.093, 1.960], atol=0.002)


def test_ties_and_few_votes_leave_no_interval_without_width() -> None:
    won = scores_of(simulated({"a": 50.0, "b": 0.0}, 3, 5, 0, ties=0.0), "quality")["a"]
    assert won.high - won.low > 2  # 15 of 15: the bootstrap alone would see no spread at all
    tied = scores_of([Vote("r", "p", "a", "b", quality="tie", text="tie")], "quality")["a"]
    assert tied.value == pytest.approx(0) and tied.high > 1
    few = scores_of(simulated({"a": 0.5, "b": 0.0}, 2, 5, 0), "quality")["a"]
    many = scores_of(simulated({"a": 0.5, "b": 0.0}, 8, 20, 0), "quality")["a"]
    assert few.high - few.low > 2 * (many.high - many.low)


def test_scores_are_those_of_the_published_iteration() -> None:
    def slow(wins: np.ndarray) -> np.ndarray:  # Hunter (2004), equation 3, a model at a time
        wins = np.where(np.eye(len(wins), dtype=bool), 0.0, wins + 0.25)
        strengths = [1.0] * len(wins)
        for _ in range(3000):
            for i in range(len(wins)):
                games = [(wins[i, j] + wins[j, i]) / (strengths[i] + strengths[j]) for j in range(len(wins)) if j != i]
                strengths[i] = wins[i].sum() / sum(games)
        scores = np.log(strengths)
        return scores - scores.mean()

    draw = np.random.default_rng(0)
    tables = draw.integers(0, 30, (3, 4, 4)).astype(float)
    tables[0, 0], tables[1] = 0, 0  # one that never wins; no votes at all
    np.testing.assert_allclose(bradley_terry(tables), [slow(table) for table in tables], atol=1e-7)
    extreme = np.triu(np.full((6, 6), 1e5), 1)  # the first always wins, and so on
    assert (np.diff(bradley_terry(extreme)) < -5).all()
    with pytest.raises(ValueError, match="do not settle"):
        bradley_terry(np.full((2, 2), np.nan))


def test_two_models_by_hand() -> None:
    wins = np.array([[0.0, 30.0], [10.0, 0.0]])
    found = bradley_terry(wins)
    assert found[0] - found[1] == pytest.approx(math.log(30.25 / 10.25), abs=1e-9)  # half a tie is the prior
    votes = [
        Vote("r", f"p{i}", "a", "b", quality=answer, text="tie") for i, answer in enumerate(["left"] * 3 + ["tie"])
    ]
    rates = win_rates(votes, "quality")
    assert rates["a", "b"].value == 3.5 / 4 and rates["b", "a"].value == 0.5 / 4


def test_wilsons_interval_by_hand() -> None:
    share = wilson(8, 10)
    assert (share.low, share.high) == (pytest.approx(0.4901625, abs=1e-6), pytest.approx(0.9433178, abs=1e-6))
    assert wilson(0, 5).low == 0 and wilson(5, 5).high == 1
    with pytest.raises(ValueError, match="no votes"):
        wilson(0, 0)


def test_a_model_that_always_wins_has_a_finite_score() -> None:
    votes = simulated({"a": 50.0, "b": 0.0}, 3, 5, 0, ties=0.0)
    found = scores_of(votes, "quality")
    assert 1 < found["a"].value < 10 and math.isfinite(found["a"].high)


def test_agreement_against_its_definition() -> None:
    def plain(votes: list[Vote]) -> float:
        units: dict[str, list[str]] = {}
        for vote in votes:
            winner = {"left": vote.left, "right": vote.right, "tie": "tie"}[vote.quality]
            units.setdefault(vote.prompt, []).append(winner)
        values = [value for unit in units.values() if len(unit) > 1 for value in unit]
        observed = sum(
            sum(x != y for x, y in itertools.permutations(unit, 2)) / (len(unit) - 1)
            for unit in units.values()
            if len(unit) > 1
        ) / len(values)
        expected = sum(x != y for x, y in itertools.permutations(values, 2)) / (len(values) * (len(values) - 1))
        return 1 - observed / expected

    votes = simulated({"a": 1.0, "b": 0.0}, 4, 12, 3)[:-5]
    assert krippendorff_alpha(votes, "quality") == pytest.approx(plain(votes), abs=1e-12)
    same = [
        Vote(f"r{r}", f"p{p}", "a", "b", quality=["left", "right"][p % 2], text="tie")
        for r in range(3)
        for p in range(6)
    ]
    assert krippendorff_alpha(same, "quality") == 1
    assert krippendorff_alpha(same, "text") is None  # all say the same: nothing to differ in
    assert krippendorff_alpha(same[:6], "quality") is None


def test_a_favored_side_shows() -> None:
    even = left_share(simulated({"a": 0.0, "b": 0.0}, 10, 40, 1), "quality")
    biased = left_share(simulated({"a": 0.0, "b": 0.0}, 10, 40, 1, bias=1.0), "quality")
    assert even is not None and even.low < 0.5 < even.high
    assert biased is not None and biased.low > 0.6
    assert left_share([Vote("r", "p", "a", "b", quality="tie", text="tie")], "quality") is None


def test_wins_ties_and_losses_are_counted_for_the_model_and_not_for_the_side() -> None:
    votes = [
        Vote("r", "p0", "a", "b", quality="left", text="tie"),
        Vote("r", "p1", "b", "a", quality="right", text="tie"),
        Vote("r", "p2", "b", "a", quality="left", text="tie"),
        Vote("r", "p3", "a", "b", quality="tie", text="tie"),
        Vote("r", "p4", "a", "b", skipped="broken"),
    ]
    assert outcomes(votes, "quality") == {("a", "b"): (2, 1, 1), ("b", "a"): (1, 1, 2)}
    assert win_rates(votes, "quality")["a", "b"].value == 2.5 / 4


def test_reports_hold_all_of_it_and_escape_what_they_quote() -> None:
    votes = simulated({"a": 1.0, "<script>": 0.0}, 3, 6, 0)
    votes.append(Vote("<b>", "p<i>", "a", "<script>", skipped="cannot be played"))
    report = Report(votes)
    text, page, table = report.text(), report.page(), list(csv.DictReader(io.StringIO(report.csv())))
    for part in ("19 votes of 4 raters", "1 of them skipped", "wins", "Krippendorff", "left side"):
        assert part in text
    assert "&lt;script&gt;" in page and "<td><script>" not in page and "p&lt;i&gt;" in page and "<b>" not in page
    figures = {"bradley_terry", "win_rate", "left_share", "ties", "krippendorff_alpha"}
    assert {(row["question"], row["figure"]) for row in table} == {(q, f) for q in ("quality", "text") for f in figures}
    [rate] = [row for row in table if row["figure"] == "win_rate" and row["model"] == "a" and row["question"] == "text"]
    assert float(rate["value"]) == win_rates(votes, "text")["a", "<script>"].value and rate["votes"] == "18"
    assert not any(value.lower() in ("nan", "inf") for row in table for value in row.values())


def test_reports_of_next_to_nothing() -> None:
    nobody = Report([Vote("r", "p", "a", "b", skipped="x")])
    assert "nobody answered" in nobody.text() and "Nobody answered" in nobody.page()
    assert nobody.csv().count("\n") == 1
    one = Report([Vote("r", "p", "a", "b", quality="tie", text="tie")])
    assert "all are ties" in one.text() and "intervals say nothing about other raters" in one.text()
    assert "a wins 50.0%" in one.text()
