"""Studies of trainings that end at once: what is tried, what becomes of what fails, what survives a kill."""

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from filelock import FileLock

from lingen_kit.search.engine import Engine, check_words
from lingen_kit.search.pruning import hopeless
from lingen_kit.search.records import Record
from lingen_kit.search.space import same
from lingen_kit.search.study import Study
from tests.search.conftest import VERBS

LOSSES = {"model.loss": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
FATES = ["well", "value_error", "crash", "memory", "bug", "diverge"]


def states(study: Study) -> Counter[str]:
    return Counter(record.state for record in study.records())


def begun(study: Study) -> list[int]:
    """How often each training was begun."""
    return [path.read_text().count("begun") for path in study.folder.glob("trials/*/*.begun")]


def test_every_candidate_of_a_small_space_is_trained_once(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study(LOSSES, sampler="TPESampler", trials=10)
    engine(study, workers=2).run()
    records = study.records()
    assert sorted(record.mean("validation/loss") for record in records) == pytest.approx(
        [loss + 1 / 3 for loss in LOSSES["model.loss"]]
    )
    assert begun(study) == [1] * 6


def test_what_fails_is_named_and_ends_nothing(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study({"model.fate": FATES}, sampler="exhaustive", trials=None)
    engine(study).run()
    reasons = {record.params["model.fate"]: (record.state, record.reason) for record in study.records()}
    assert reasons == {
        "well": ("complete", ""),
        "value_error": ("failed", "model.width 7 is no good: choose 8"),
        "crash": ("failed", "killed by SIGSEGV"),
        "memory": ("failed", "killed by SIGKILL; most likely because memory ran out"),
        "bug": ("failed", "ZeroDivisionError: a bug"),
        "diverge": ("failed", "validation/loss is nan: it diverged"),
    }


def test_when_nothing_works_the_search_ends_and_says_why(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study({"model.loss": list(range(9))}, overrides={"model.fate": "value_error"}, trials=9)
    with pytest.raises(ValueError, match=r"all 3 trainings have failed, and the search ends: model\.width 7"):
        engine(study).run()
    assert states(study) == {"failed": 3}


def test_a_figure_that_nobody_logs_ends_the_search_after_one_training(make_study, engine) -> None:
    study = make_study(LOSSES, objectives={"validation/los": "minimize"})
    with pytest.raises(
        ValueError, match="objective validation/los is logged by nobody; this training logged validation/loss"
    ):
        engine(study).run()
    assert states(study) == {"failed": 1}


def test_a_training_that_takes_too_long_is_ended(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study({"model.seconds": [0.0, 300.0]}, sampler="exhaustive", trials=None, time_limit=0.2)
    engine(study).run()
    assert [(r.state, r.reason) for r in study.records()] == [
        ("complete", ""),
        ("failed", "it took more than time_limit 0.2 minutes"),
    ]


def test_constraints_are_checked_before_training(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study(
        {"model.width": [4, 8, 13, 16]}, sampler="exhaustive", trials=None, constraints={"parameters": 8}
    )
    engine(study).run()
    records = {record.params["model.width"]: record for record in study.records()}
    assert {width: record.state for width, record in records.items()} == {
        "4": "complete",
        "8": "complete",
        "13": "rejected",
        "16": "rejected",
    }
    assert records["16"].reason == "parameters 16 is above 8"
    assert records["13"].reason == "it cannot be built: width 13 brings bad luck"
    assert len(begun(study)) == 2


def test_constraints_that_nothing_meets_are_named(make_study, engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lingen_kit.search.engine.GIVE_UP", 5)
    study = make_study({"model.width": list(range(20, 40))}, constraints={"parameters": 8, "flops": 1000}, trials=20)
    with pytest.raises(
        ValueError, match=r"none of the last 5 candidates meets the constraints.*parameters must be from 0 to 8"
    ):
        engine(study).run()
    assert begun(study) == []


def test_candidates_that_cannot_be_built_end_the_search_too(make_study, engine, monkeypatch) -> None:
    monkeypatch.setattr("lingen_kit.search.engine.GIVE_UP", 3)
    space = {"model.width": [13], "model.loss": {"low": 0.0, "high": 1.0}}
    with pytest.raises(ValueError, match="3 cannot be built, such as the last: it cannot be built: width 13"):
        engine(make_study(space)).run()


def test_a_budget_is_solved_for_the_largest_value_within(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study({"model.loss": [1.0]}, budget={"key": "model.width", "parameters": 100, "step": 8}, trials=1)
    engine(study).run()
    (record,) = study.records()
    assert record.solved == 96
    assert record.costs["parameters"] == 96
    assert record.words[-1] == "--model.width=96"


def test_repeats_have_a_mean_and_a_standard_error(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study({"model.loss": [1.0]}, seeds=[0, 1, 2], trials=1)
    engine(study).run()
    (record,) = study.records()
    assert record.mean("validation/loss") == pytest.approx(1 + 1 / 3 + 0.01)
    assert record.error("validation/loss") == pytest.approx(0.01 / 3**0.5)


def test_a_hopeless_training_is_pruned(make_study, engine: Callable[..., Engine]) -> None:
    losses = [1.0, 1.1, 1.2, 9.0]
    study = make_study(
        {"model.loss": losses},
        overrides={"model.seconds": 3.0},
        sampler="exhaustive",
        trials=None,
        pruner={"class_path": "optuna.pruners.MedianPruner", "init_args": {"n_startup_trials": 2}},
    )
    engine(study).run()
    *good, bad = study.records()
    assert {record.state for record in good} <= {"complete", "pruned"}
    assert (bad.state, bad.reason) == ("pruned", "validation/loss 10 at step 10")


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_pruning_looks_at_the_same_step(direction: str) -> None:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    sign = 1 if direction == "minimize" else -1
    others = [[(1, sign * 5.0), (2, sign * 1.0)]] * 3
    assert hopeless(pruner, direction, others, [(1, sign * 4.0)]) is None
    assert hopeless(pruner, direction, others, [(1, sign * 4.0), (2, sign * 3.0)]) == 2
    assert hopeless(pruner, direction, others, [(1, float("nan"))]) == 1


def test_two_processes_on_one_study_never_try_the_same(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study({"model.loss": [float(i) for i in range(8)]}, trials=8, overrides={"model.seconds": 0.2})
    engines = [engine(study), engine(Study(study.folder))]
    threads = [threading.Thread(target=e.run) for e in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = study.records()
    assert len({same(record.params) for record in records}) == len(records) == 8
    assert begun(study) == [1] * 8


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_what_was_cut_off_is_gone_on_with_under_its_number(make_study, engine, storage: str) -> None:
    study = make_study(LOSSES, storage=storage, seeds=[0, 1], overrides={"model.seconds": 2.0})
    first = engine(study)
    first.on_change = lambda record: first.stopping.set() if record.results else None
    first.run()
    (cut,) = study.records()
    assert cut.state == "running" and list(cut.results) == ["0"]

    again = Study(study.folder)
    second = engine(again, workers=2)
    second.run()
    records = again.records()
    assert (records[0].number, records[0].params) == (cut.number, cut.params)
    assert len({same(record.params) for record in records}) == len(records) == 6
    assert states(again) == {"complete": 6}
    assert begun(again) == [1] * 12  # nothing was repeated


def test_a_lost_database_is_built_anew_from_the_records(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study(LOSSES, trials=3)
    engine(study).run()
    before = [(record.number, record.params) for record in study.records()]
    (study.folder / "study.db").unlink()
    settings = study.folder / "search.yaml"
    settings.write_text(settings.read_text().replace("trials: 3", "trials: 5"))
    again = Study(study.folder)
    engine(again).run()
    after = [(record.number, record.params) for record in again.records()]
    assert after[:3] == before and len(after) == 5
    assert begun(again) == [1] * 5


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_damaged_database_is_named_with_the_way_out(make_study, storage: str) -> None:
    study = make_study(LOSSES, storage=storage)
    database = study.folder / {"sqlite": "study.db", "journal": "study.journal"}[storage]
    database.write_bytes(b"no database at all" * 100 + b"\n" + b"{}\n")
    with pytest.raises(ValueError, match=r"the database of .* is damaged .*move the database away"):
        Study(study.folder)


def test_a_locked_database_is_named(make_study, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(LOSSES)
    monkeypatch.setattr("lingen_kit.search.study._LOCKED", 0.2)
    other = sqlite3.connect(study.folder / "study.db")
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(ValueError, match=r"the database of .* is locked by another process: end it, and resume"):
            Study(study.folder).next()
    finally:
        other.close()
    with FileLock(study.folder / "lock"), pytest.raises(ValueError, match=r"lock has been held by another process"):
        study.next()


def test_a_changed_base_is_refused(make_study, tmp_path: Path) -> None:
    study = make_study(LOSSES)
    (tmp_path / "base.yaml").write_text("model: {other: 1}\n")
    with pytest.raises(ValueError, match=r"base\.yaml is not what it was when the study"):
        Study(study.folder)


def test_a_study_is_begun_once(make_study) -> None:
    make_study(LOSSES)
    with pytest.raises(FileExistsError, match="go on with it by `search resume"):
        make_study(LOSSES)
    with pytest.raises(FileNotFoundError, match="holds no study"):
        Study(Path("nowhere"))
    with pytest.raises(FileNotFoundError, match=r"config nowhere\.yaml does not exist"):
        make_study(LOSSES, base="nowhere.yaml", name="another")
    make_study(LOSSES, name="another")  # nothing was left of the one that could not begin


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ("optuna.samplers.NoSampler", "there is no optuna.samplers.NoSampler"),
        ("optuna.pruners.MedianPruner", "is no optuna.samplers"),
        ({"class_path": "TPESampler", "init_args": {"speed": 3}}, "does not take .*speed"),
    ],
)
def test_a_sampler_that_there_is_not_is_named(make_study, sampler: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"sampler: .*{message}"):
        make_study(LOSSES, sampler=sampler)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"space": {"model.depht": [1, 2]}}, "space: model.depht 1: model.depht is unknown; choose out of"),
        ({"overrides": {"trainer.steps": 3}}, "base and overrides: trainer.steps is unknown"),
        ({"budget": {"key": "model.dim", "flops": 3}}, "budget: model.dim is unknown"),
        ({"proxy": {"overrides": {"model.size": 3}}}, "proxy: model.size is unknown"),
        ({"overrides": {"model.width": 13}}, "base and overrides: width 13 brings bad luck"),
    ],
)
def test_a_key_that_does_not_exist_is_named_before_anything_is_trained(make_study, keys, message: str) -> None:
    study = make_study(**{"space": LOSSES, **keys})
    with pytest.raises(ValueError, match=message):
        check_words(study.search, VERBS)


def test_the_proxy_is_put_to_the_test_after_the_search(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study(LOSSES, proxy={"overrides": {"model.longer": 0.5}, "top": 2, "random": 2, "seeds": [3, 4]})
    engine(study, workers=2).run()
    longer = [record for record in study.records() if record.longer]
    assert len(longer) == 4
    assert {record.mean("validation/loss") for record in longer} >= {1 + 1 / 3, 2 + 1 / 3}
    for record in longer:
        assert record.mean_longer("validation/loss") == pytest.approx(record.mean("validation/loss") + 0.5 + 0.035)


def test_the_baseline_comes_first(make_study, engine: Callable[..., Engine]) -> None:
    study = make_study(LOSSES, baseline={"model.loss": 4.0}, trials=2)
    engine(study).run()
    first: Record = study.records()[0]
    assert first.baseline and first.params == {"model.loss": "4.0"}
    assert json.loads((study.folder / "trials/0000/trial.json").read_text())["baseline"] is True
