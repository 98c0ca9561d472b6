"""docs/reproduction.md: made from shipped results, by rules that can say no."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reproduction import cost_claims as cost
from benchmarks.reproduction import document
from benchmarks.reproduction import quality_claims as quality
from benchmarks.reproduction.claim import Claim, Results
from benchmarks.reproduction.claims import claims
from benchmarks.reproduction.computed import tables

Rule = Callable[[Results], Claim]
SHIPPED = document.read_results()


def judge(make: Rule, change: Callable[[dict[str, Any]], object] = lambda results: None) -> Claim:
    results = copy.deepcopy(SHIPPED)
    change(results)
    return make(results)


def test_the_shipped_page_is_what_the_shipped_results_make() -> None:
    made = document.document(SHIPPED).encode()
    assert document.PAGE.read_bytes() == made, "run `make reproduction` and commit what it writes"


def test_every_plot_of_the_page_is_shipped_and_small(tmp_path: Path) -> None:
    document.draw(SHIPPED, tmp_path)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    shown = sorted(c.picture for c in claims(SHIPPED) if c.picture and c.verdict != "not measured")
    assert drawn == shown == sorted(path.name for path in document.PICTURES.iterdir())
    for name in drawn:
        shipped = (document.PICTURES / name).read_bytes()
        assert shipped.startswith(b"\x89PNG") and len(shipped) < 150_000


def test_a_changed_result_file_changes_the_page(tmp_path: Path) -> None:
    for path in document.RESULTS.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".csv"):
            to = tmp_path / path.relative_to(document.RESULTS)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    assert document.document(document.read_results(tmp_path)) == document.document(SHIPPED)
    file = tmp_path / "reproduction" / "schedule.json"
    content = json.loads(file.read_text())
    content["rows"][0]["paper_mfu"] = 0.314
    file.write_text(json.dumps(content))
    page = document.document(document.read_results(tmp_path))
    assert "256p images 31%" in page and "256p images 31%" not in document.document(SHIPPED)


def test_what_is_not_measured_is_not_judged() -> None:
    parts = {cost.lengths: "lengths", cost.scans: "scans", cost.variants: "variants", cost.sizes: "sizes"}
    parts |= {quality.adaptation: "adaptation", quality.ablation: "ablations", quality.zigzag_loss: "ablations"}
    for make, part in parts.items():
        found = judge(make, lambda results, part=part: results.update({part: None}))
        assert (found.verdict, found.measured) == ("not measured", "")


def test_d_k_must_agree_in_both_readings() -> None:
    assert judge(cost.adjacency).verdict == "reproduced in shape"

    def both(results: dict[str, Any]) -> None:
        results["adjacency"]["cube"]["zigzag"] = results["adjacency"]["cube"]["rotary-major"]

    def neither(results: dict[str, Any]) -> None:
        results["adjacency"]["face"]["zigzag"][1] += 0.01

    assert judge(cost.adjacency, both).verdict == "reproduced"
    assert judge(cost.adjacency, neither).verdict == "not reproduced"


def test_tables_must_follow_from_their_columns() -> None:
    assert judge(quality.tables).verdict == "reproduced in shape"

    def off(results: dict[str, Any]) -> None:
        results["tables"]["rows"][0]["printed"] += 0.001

    assert judge(quality.tables, off).verdict == "not reproduced"
    assert tables()["rows"] == SHIPPED["tables"]["rows"]


def test_the_headers_of_the_supplement_do_not_fit_its_scores() -> None:
    rows = [row for row in SHIPPED["tables"]["rows"] if "as_headed" in row]
    assert {row["table"] for row in rows} == {1, 2, 4}
    assert all(abs(row["printed"] - row["as_headed"]) > 1e-4 for row in rows)
    assert max(abs(row["printed"] - row["as_headed"]) for row in rows) > 0.02


def test_counted_flops_must_be_those_of_the_equations() -> None:
    assert judge(cost.equations).verdict == "reproduced"
    for i in range(3):

        def other(results: dict[str, Any], i: int = i) -> None:
            results["equations"]["rows"][i]["counted"] += 1

        assert judge(cost.equations, other).verdict == "not reproduced"


def test_fifteen_times_fewer_flops_are_those_of_a_part() -> None:
    assert judge(cost.flops).verdict == "reproduced in shape"

    def scale(factor: float) -> Callable[[dict[str, Any]], None]:
        def change(results: dict[str, Any]) -> None:
            for row in results["flops"]["rows"]:
                for part in (row["whole"], row["mixer"]):
                    part["dit"] *= factor

        return change

    assert judge(cost.flops, scale(2)).verdict == "reproduced"
    assert judge(cost.flops, scale(0.3)).verdict == "not reproduced"


@pytest.mark.parametrize(
    "seconds, verdict",
    [(None, "needs hardware"), (12, "reproduced"), (2, "reproduced in shape"), (0.9, "not reproduced")],
)
def test_latency_is_judged_only_where_it_was_measured(seconds: float | None, verdict: str) -> None:
    def change(results: dict[str, Any]) -> None:
        if seconds is not None:
            for name, value in (("LinGen", 1), ("DiT", seconds)):
                results["gpu"].append({"config": name, "tokens": "139264", "seconds": str(value), "device_name": "x"})

    assert judge(cost.latency, change).verdict == verdict


@pytest.mark.parametrize(
    "lingen, dit, verdict",
    [(1.0, 2.0, "reproduced in shape"), (1.1, 2.0, "not reproduced"), (1.0, 1.5, "not reproduced")],
)
def test_growth_must_be_linear_and_quadratic(lingen: float, dit: float, verdict: str) -> None:
    tokens = [1024 * n for n in (1, 4, 16, 64)]
    rows = [{"tokens": n, "lingen": (n / 4096) ** lingen, "dit": (n / 5000) ** dit} for n in tokens]
    found = judge(
        cost.lengths, lambda results: results.update(lengths={"rows": rows, "clock": "", "made": {"machine": "x"}})
    )
    assert found.verdict == verdict
    assert f"tokens^{lingen:.2f}" in found.measured
    assert "faster from 16,384 tokens on" in found.measured


def test_linear_growth_is_not_enough_where_dit_stays_the_faster_one() -> None:
    rows = [{"tokens": n, "lingen": n * 1.0, "dit": n**2 * 1e-6} for n in (1024, 4096, 16384, 65536)]
    found = judge(
        cost.lengths, lambda results: results.update(lengths={"rows": rows, "clock": "", "made": {"machine": "x"}})
    )
    assert found.verdict == "not reproduced"


@pytest.mark.parametrize(
    "memory, alone, published, verdict",
    [
        (10.0, 1.0, 1.0, "reproduced"),
        (9.9, 10.0, 1.0, "reproduced in shape"),
        (9.9, 1.0, 10.0, "reproduced in shape"),
        (9.9, 9.9, 9.9, "not reproduced"),
    ],
)
def test_ten_times_cheaper_must_hold_in_memory(memory: float, alone: float, published: float, verdict: str) -> None:
    ratios = {"as views": {"zigzag": 500.0}, "alone": {"zigzag": alone}}  # views alone decide nothing
    ratios["in memory"] = {"zigzag": memory, "zigzag as published": published}
    content = {"ratios": ratios, "dim": 128, "made": {"machine": "x"}}
    assert judge(cost.scans, lambda results: results.update(scans=content)).verdict == verdict


@pytest.mark.parametrize("lingen, verdict", [(1.0, "reproduced in shape"), (2.0, "not reproduced")])
def test_a_smaller_slope_over_the_size_is_what_is_claimed(lingen: float, verdict: str) -> None:
    rows = [
        {"parameters": {"lingen": n, "dit": n}, "seconds": {"lingen": lingen * n / 1e6, "dit": 1.5 * n / 1e6}}
        for n in (10**5, 10**6)
    ]
    content = {"rows": rows, "tokens": 8704, "clock": "", "made": {"machine": "x"}}
    found = judge(cost.sizes, lambda results: results.update(sizes=content))
    assert found.verdict == verdict
    assert f"{lingen:.2f} s more" in found.measured


def test_variants_are_judged_by_the_papers_ratios_and_order() -> None:
    paper = {"default": 102, "without_tesa": 94, "without_rms": 99, "zigzag": 144, "mamba": 127, "without_ma": 65}

    def with_ratios(ratios: dict[str, float]) -> str:
        content = {"ratios": ratios, "paper": paper, "seconds": {}, "made": {"machine": "x"}}
        return judge(cost.variants, lambda results: results.update(variants=content)).verdict

    same = {name: seconds / 102 for name, seconds in paper.items()}
    assert with_ratios(same) == "reproduced"
    assert with_ratios({name: value**2 for name, value in same.items()}) == "reproduced in shape"
    assert with_ratios({name: 1 / value for name, value in same.items()}) == "not reproduced"


def test_a_difference_counts_from_two_standard_errors_on() -> None:
    loss = {"lingen": 1.0, "without_tesa": 1.1, "without_rms": 1.1, "without_both": 1.5, "zigzag": 1.01}

    def verdict(claim: Rule, **changed: float) -> str:
        rows = {
            name: {"validation/loss": (value, 0.05), "seeds": 3, "on": "x"} for name, value in (loss | changed).items()
        }
        return judge(claim, lambda results: results.update(ablations=rows)).verdict

    assert verdict(quality.ablation) == "reproduced in shape"
    assert verdict(quality.ablation, without_both=1.2) == "not reproduced"
    assert verdict(quality.zigzag_loss) == "reproduced in shape"
    assert verdict(quality.zigzag_loss, zigzag=1.2) == verdict(quality.zigzag_loss, zigzag=0.8) == "not reproduced"


@pytest.mark.parametrize(
    "lingen, dit, verdict",
    [
        ([1.0, 1.1, 1.3], [1.05, 1.16, 1.34], "reproduced in shape"),  # little, but with every seed
        ([1.0, 1.1, 1.3], [1.3, 1.1, 1.2], "not reproduced"),
        ([1.5, 1.6, 1.7], [1.1, 1.2, 1.3], "not reproduced"),
    ],
)
def test_adapting_faster_means_less_loss_on_the_way(lingen: list[float], dit: list[float], verdict: str) -> None:
    made = {name: {"excess": values, "curve": [2.0, 1.0]} for name, values in (("lingen", lingen), ("dit", dit))}
    content = {**made, "steps": 64, "seeds": 3, "on": "x", "made": {"machine": "x"}}
    assert judge(quality.adaptation, lambda results: results.update(adaptation=content)).verdict == verdict


def test_an_incomplete_leaderboard_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert quality.read_ablations(tmp_path / "leaderboard.csv") is None
    file = tmp_path / "leaderboard.csv"
    file.write_text(
        "trial,state,seeds,validation/loss,validation/loss standard error,parameters,row\n"
        "0,baseline,3,0.5,0.01,683920,lingen\n1,failed,,,,,zigzag\n"
    )
    rows = quality.read_ablations(file)
    assert rows == {"lingen": {"seeds": 3, "parameters": 683920, "validation/loss": (0.5, 0.01)}}
