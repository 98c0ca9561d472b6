import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import lingen_kit.search
from lingen_kit.errors import MissingPackage
from lingen_kit.search.reading import make_search, read_sections

MINIMAL: dict[str, Any] = {
    "base": "base.yaml",
    "space": {"model.depth": [2, 4], "model.lr": {"low": 0.1, "high": 0.2}},
    "objectives": {"validation/loss": "minimize"},
    "trials": 3,
}


def test_the_least_that_a_search_needs() -> None:
    search = make_search(MINIMAL)
    assert search.line() == ["--config=base.yaml"]
    assert search.costs == ["parameters", "flops"]
    assert search.seeds == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spase": {}}, "spase is unknown; choose out of base, space"),
        ({"objectives": None}, "objectives is missing"),
        ({"objectives": {"validation/loss": "min"}}, "'min' is none of minimize, maximize"),
        ({"trials": None}, "trials is missing"),
        ({"measured_at": {"length": 8}}, "measured_at.length is unknown; choose out of frames, height, width"),
        ({"measured_at": {"frames": 0}}, "measured_at.frames 0 must be a whole number of at least 1"),
        ({"trials": 0}, "trials 0 must be a whole number of at least 1"),
        ({"trials": None, "sampler": "exhaustive"}, "the space has no end of values"),
        ({"seeds": [0, 0]}, "has one of them twice"),
        ({"seeds": 3}, "seeds 3 must be a list"),
        ({"overrides": {"model.depth": 2}}, "model.depth is both in overrides and in what is varied"),
        ({"constraints": {"validation/loss": 1}}, "constraints.validation/loss is not known before training"),
        ({"constraints": {"parameters": "many"}}, "constraints.parameters 'many' must be the greatest value"),
        ({"constraints": {"parameters": [3, 2]}}, r"constraints.parameters \[3, 2\] must be"),
        ({"budget": {"key": "model.dim"}}, "one of parameters and flops must be given"),
        ({"budget": {"key": "model.depth", "flops": 1}}, "budget.key model.depth is varied by the space, too"),
        ({"baseline": {"model.depth": 2}}, r"baseline: model\.lr None is not between"),
        ({"baseline": {"model.depth": 3, "model.lr": 0.1}}, r"baseline: model\.depth '3' is none of 2, 4"),
        ({"storage": "mysql"}, "storage 'mysql' must be sqlite, journal, or the URL"),
        ({"time_limit": -1}, "time_limit -1 must be minutes"),
        ({"sampler": 3}, "sampler 3 must hold class_path"),
        ({"pruner": "MedianPruner", "prune_by": "latency"}, "prune_by latency is known before training"),
        ({"proxy": {"top": 3}}, "proxy .* must hold overrides"),
        ({"proxy": {"overrides": {}, "top": 1, "random": 1}}, "a rank correlation of two says nothing"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_search({**MINIMAL, **change})


def test_numbers_are_those_of_fit_and_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    text = "base: b.yaml\nspace: {model.lr: {low: 1e-3, high: 2.0e-2}}\nobjectives: {l: minimize}\ntrials: 2\n"
    path.write_text(text)
    assert read_sections(path)["space"]["model.lr"] == {"low": 0.001, "high": 0.02}
    path.write_text(text + "seeds: x\n")
    with pytest.raises(ValueError, match=r"s\.yaml: seeds 'x'"):
        read_sections(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is no YAML"):
        read_sections(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_sections(tmp_path / "nowhere.yaml")


def test_files_come_first_so_that_the_cheap_setting_holds() -> None:
    keys = {"overrides": {"trainer.max_steps": 3}, "proxy": {"overrides": {"trainer.max_steps": 9}, "top": 3}}
    search = make_search({**MINIMAL, **keys})
    words = ["--config=x.yaml", "--model.depth=2"]
    assert search.line(words) == ["--config=base.yaml", "--config=x.yaml", "--trainer.max_steps=3", "--model.depth=2"]
    assert search.line(words, longer=True)[2] == "--trainer.max_steps=9"


def test_without_optuna_the_search_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackage, match=r"pip install 'lingen_kit\[search\]'"):
        importlib.reload(lingen_kit.search)
