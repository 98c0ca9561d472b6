import itertools
import math
from pathlib import Path

import pytest

from lingen_kit.search.proxy import Pair, agreement, chosen, kendall_tau, verdict
from lingen_kit.search.reading import make_search
from lingen_kit.search.records import (
    Record,
    best,
    best_first,
    pareto,
    read_metrics,
    read_record,
    read_records,
    write_record,
)
from lingen_kit.search.settings import Direction, Proxy

BOTH = {"good": "maximize", "slow": "minimize"}


def record(number: int, good: float, slow: float, **options: object) -> Record:
    return Record(number, {}, "complete", results={"0": {"good": good}}, costs={"slow": slow}, **options)  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = Record(7, {"model.depth": "4"}, curves={"0": [(1, 0.5)]}, results={"0": {"a": 1.0}}, reason="é")
    write_record(tmp_path, kept)
    assert read_records(tmp_path) == [kept]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trial.json"
    path.write_text('{"number": 1')
    with pytest.raises(ValueError, match=r"trial\.json is damaged"):
        read_record(path)


def test_means_and_standard_errors_are_over_the_seeds() -> None:
    kept = Record(0, {}, results={"0": {"a": 1.0}, "1": {"a": 3.0}})
    assert kept.mean("a") == 2
    assert kept.error("a") == pytest.approx(math.sqrt(2) / math.sqrt(2))
    assert math.isnan(kept.mean("b"))
    assert math.isnan(Record(0, {}, results={"0": {"a": 1.0}}).error("a"))


def test_the_front_holds_what_no_other_candidate_beats() -> None:
    records = [record(0, 0.5, 1), record(1, 0.6, 2), record(2, 0.4, 2), record(3, 0.6, 2.5), record(4, 0.5, 1)]
    assert [r.number for r in pareto(records, BOTH)] == [0, 1, 4]
    assert [r.number for r in best_first(records, BOTH)] == [1, 0, 4, 3, 2]


def test_the_recommended_one_is_no_slower_than_the_baseline() -> None:
    records = [record(0, 0.5, 1, baseline=True), record(1, 0.9, 2), record(2, 0.6, 0.9)]
    found = best(records, BOTH)
    assert found is not None and found.number == 2
    found = best([r for r in records if not r.baseline], BOTH)
    assert found is not None and found.number == 1
    assert best([], BOTH) is None


def test_of_a_step_that_is_there_twice_the_later_row_holds_and_half_a_row_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,name,value\n1,a,2.0\n2,a,3.0\n1,a,5.0\n3,a,1")
    assert read_metrics(path) == {"a": [(1, 5.0), (2, 3.0)]}
    assert read_metrics(tmp_path / "nowhere.csv") == {}


def slow_tau(x: list[float], y: list[float]) -> float:
    """Kendall's tau-b by counting pairs."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = [((x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])) for i, j in pairs]
    score = sum(a * b for a, b in signs)
    return score / math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))


@pytest.mark.parametrize(
    ("x", "y"),
    [([1, 2, 3, 4], [1, 2, 3, 4]), ([1, 2, 3, 4], [4, 3, 2, 1]), ([1, 2, 2, 4, 0], [1, 3, 2, 2, 5])],
)
def test_tau_counts_pairs(x: list[float], y: list[float]) -> None:
    assert kendall_tau(x, y) == pytest.approx(slow_tau(x, y))


@pytest.mark.parametrize(
    ("direction", "same_way", "number"),
    [("minimize", True, 7), ("minimize", False, 9), ("maximize", True, 9), ("maximize", False, 7)],
)
def test_the_first_after_the_longer_training_has_the_best_figure(
    direction: Direction, same_way: bool, number: int
) -> None:
    pair = Pair("loss", "score", [7, 8, 9], [0.3, 0.1, 0.2], [1.0, 2.0, 3.0], same_way)
    assert pair.first(direction) == (number, {7: 1.0, 9: 3.0}[number])


def test_tau_of_a_constant_is_unknown() -> None:
    assert math.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))


def test_few_candidates_have_a_wide_interval_and_a_warning() -> None:
    proxy = Proxy({}, warn_below=0.5)
    few = agreement([1, 2, 3], [1, 3, 2])
    assert few.low < few.tau < few.high
    assert verdict(few, proxy, "good", "good").startswith("Warning")
    many = agreement(list(range(30)), [x + 3 * (x % 2) for x in range(30)])
    assert many.high - many.low < few.high - few.low
    assert not verdict(many, proxy, "good", "good").startswith("Warning")
    with pytest.raises(ValueError, match="3 candidates or more"):
        agreement([1, 2], [1, 2])


def test_the_longer_training_is_for_the_best_and_for_some_of_the_others() -> None:
    search = make_search(
        {
            "base": "b.yaml",
            "space": {"model.a": [1, 2]},
            "objectives": {"good": "maximize", "flops": "minimize"},
            "trials": 2,
            "proxy": {"overrides": {}, "top": 2, "random": 2},
        }
    )
    records = [record(number, number / 10, 1) for number in range(8)] + [Record(8, {}, "failed")]
    numbers = chosen(records, search)
    assert numbers[:2] == [7, 6]
    assert len(set(numbers)) == 4 and set(numbers) <= set(range(8))
    assert chosen(records, search) == numbers
