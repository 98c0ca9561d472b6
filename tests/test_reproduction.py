"""The page of the paper's claims is what the shipped results make of it, and verdicts follow from numbers."""

import copy
from pathlib import Path

import pytest

from benchmarks.reproduction import claims, document

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results() -> claims.Results:
    return document.read_results()


def verdict(results: claims.Results, source: str, word: str) -> str:
    (found,) = [c for c in claims.claims(results) if c.source.startswith(source) and word in c.claimed]
    return found.verdict


def test_the_page_is_what_the_results_make_of_it(results: claims.Results) -> None:
    assert document.PAGE.read_text(encoding="utf-8") == document.document(results)


def test_every_plot_is_there_and_is_drawn_anew(results: claims.Results, tmp_path: Path) -> None:
    document.draw(results, tmp_path)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    shown = {claim.picture for claim in claims.claims(results) if claim.picture and claim.verdict != "not measured"}
    assert shown <= drawn
    assert {path.name for path in document.PICTURES.glob("*.png")} == drawn


def test_no_results_no_verdict() -> None:
    results = document.read_results(ROOT / "docs" / "results")
    for part in ("scans", "variants", "lengths", "sizes", "adaptation", "ablations"):
        results[part] = None
    unknown = [claim for claim in claims.claims(results) if claim.verdict == "not measured"]
    assert len(unknown) == 8


def test_verdicts_can_fail(results: claims.Results) -> None:
    bad = copy.deepcopy(results)
    bad["adjacency"]["face"]["rotary-major"][2] += 1
    assert verdict(results, "supplement, Sec. A", "d_k") == "reproduced in shape"
    assert verdict(bad, "supplement, Sec. A", "d_k") == "not reproduced"
    bad["flops"]["projections"]["counted"] += 1
    assert verdict(bad, "supplement, Eq. 1", "FLOPs") == "not reproduced"
    bad["tables"]["rows"][0]["printed"] += 0.01
    assert verdict(bad, "supplement, Tables 1", "Quality") == "not reproduced"
    for row in bad["flops"]["rows"]:
        row["mixer"]["dit"] = row["mixer"]["lingen"]
    assert verdict(bad, "main paper, abstract", "FLOPs") == "not reproduced"


def curve(lingen: float, dit: float) -> claims.Results:
    tokens = [1024 * 2**i for i in range(6)]
    rows = [{"tokens": n, "lingen": 1e-4 * n**lingen, "dit": 1e-8 * n**dit, "ratio": 0.0} for n in tokens]
    return {"made": {"machine": "a machine"}, "rows": rows}


@pytest.mark.parametrize(
    ("lingen", "dit", "wanted"),
    [(1.0, 2.0, "reproduced in shape"), (1.2, 2.0, "not reproduced"), (1.0, 1.5, "not reproduced")],
)
def test_linear_means_linear_and_quadratic_means_a_crossing(
    results: claims.Results, lingen: float, dit: float, wanted: str
) -> None:
    assert verdict({**results, "lengths": curve(lingen, dit)}, "main paper", "linear in the number") == wanted


@pytest.mark.parametrize(
    ("alone", "in_memory", "wanted"),
    [(100, 12, "reproduced"), (100, 3, "reproduced in shape"), (5, 3, "not reproduced")],
)
def test_a_rearrangement_is_cheaper_by_ten(
    results: claims.Results, alone: float, in_memory: float, wanted: str
) -> None:
    ratios = {
        reading: {"zigzag": value, "hilbert": value, "zigzag as published": value}
        for reading, value in (("alone", alone), ("in memory", in_memory))
    }
    found = {"made": {"machine": "a machine"}, "dim": 8, "ratios": ratios}
    assert verdict({**results, "scans": found}, "main paper, Table 2", "rearrangement") == wanted


def ablations(both: float, zigzag: float, error: float = 0.001) -> claims.Results:
    losses = {"lingen": 0.10, "without_tesa": 0.11, "without_rms": 0.105, "without_both": both, "zigzag": zigzag}
    return {
        name: {"seeds": 3, "parameters": 1, "on": "here", "validation/loss": (loss, error)}
        for name, loss in losses.items()
    }


@pytest.mark.parametrize(
    ("both", "zigzag", "error", "wanted"),
    [
        (0.12, 0.1, 0.001, "reproduced in shape"),
        (0.12, 0.1, 0.02, "not reproduced"),
        (0.10, 0.1, 0.001, "not reproduced"),
        (0.12, 0.2, 0.001, "not reproduced"),
    ],
)
def test_a_loss_is_worse_by_more_than_its_error(results, both: float, zigzag: float, error: float, wanted: str) -> None:
    found = {**results, "ablations": ablations(both, zigzag, error)}
    assert verdict(found, "main paper, Fig. 11", "without both") == wanted


def test_the_leaderboard_of_the_ablations_is_read(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    assert claims.read_ablations(path) is None
    path.write_text(
        "trial,state,seeds,validation/loss,validation/loss standard error,parameters,row\n"
        "0,baseline,3,0.1,0.01,683920,lingen\n1,failed,0,,,5,zigzag\n"
    )
    assert claims.read_ablations(path) == {"lingen": {"seeds": 3, "parameters": 683920, "validation/loss": (0.1, 0.01)}}
