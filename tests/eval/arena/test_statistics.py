import itertools
import math

import numpy as np
import pytest

from eval.arena.report import as_csv, as_page, as_text
from eval.arena.statistics import (
    bradley_terry,
    krippendorff_alpha,
    left_share,
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


def test_known_strengths_are_recovered_within_their_intervals() -> None:
    # Ties halve the odds' distance a little; without them the model is exactly the raters'.
    strengths = {"a": -0.8, "b": 0.0, "c": 0.8}
    inside = 0
    for seed in range(5):
        found = scores_of(simulated(strengths, 8, 20, seed, ties=0.0), "quality", seed)
        assert sorted(found, key=lambda model: found[model].value) == ["a", "b", "c"]
        inside += sum(found[model].low <= strengths[model] <= found[model].high for model in strengths)
        assert all(found[model].high - found[model].low < 0.8 for model in strengths)
    assert inside >= 13  # of 15, at 95%


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


def test_reports_hold_all_of_it_and_escape_what_they_quote() -> None:
    votes = simulated({"a": 1.0, "<script>": 0.0}, 3, 6, 0)
    votes.append(Vote("<b>", "p<i>", "a", "<script>", skipped="cannot be played"))
    text, page, table = as_text(votes), as_page(votes), as_csv(votes)
    for part in ("19 votes of 4 raters", "1 of them skipped", "wins", "Krippendorff", "left side"):
        assert part in text
    assert "&lt;script&gt;" in page and "<td><script>" not in page and "p&lt;i&gt;" in page
    assert {line.split(",")[1] for line in table.splitlines()[1:]} == {
        "bradley_terry",
        "win_rate",
        "left_share",
        "krippendorff_alpha",
    }
    nobody = [Vote("r", "p", "a", "b", skipped="x")]
    assert "nobody answered" in as_text(nobody)
