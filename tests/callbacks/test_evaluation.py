import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import callbacks
from lingen_kit.data.moving_shapes import MovingShapes
from tests.callbacks.conftest import FakeModule, make_trainer
from tests.eval.toy_suite import ToySuite

PROMPTS = ["a red circle moves left", "a blue square moves up"]


@pytest.fixture(scope="module")
def data() -> MovingShapes:
    return MovingShapes(
        samples_per_epoch=64, batch_size=4, validation_size=8, sizes=["large"], backgrounds=["navy"], num_workers=0
    )


def test_figures_and_totals_are_logged_written_and_shown(tmp_path: Path, data: MovingShapes) -> None:
    module = FakeModule()
    evaluation = callbacks.Evaluation(ToySuite(PROMPTS), every_n_validations=2, max_share=1, seed=3, steps=4)
    trainer = make_trainer(tmp_path, [evaluation], steps=7, enable_progress_bar=False)
    trainer.fit(module, datamodule=data)
    run = tmp_path / "run" / "version_0"
    written = sorted(path.name for path in (run / "evaluation" / "toy").glob("*.json"))
    assert written == ["step=000002.json", "step=000006.json", "step=000007.json"]
    content = json.loads((run / "evaluation" / "toy" / "step=000007.json").read_text())
    assert [video["prompt"] for video in content["videos"]] == PROMPTS
    assert content["figures"]["change"] > 100
    events = EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("toy/brightness")] == [1, 5, 7]
    assert events.Scalars("toy/total")[-1].value == pytest.approx(content["totals"]["total"], rel=1e-5)
    assert [event.step for event in events.Images("toy/videos")] == [2, 6, 7]
    assert trainer.callback_metrics["toy/total"] > 0
    assert {(call["seed"], call["steps"]) for call in module.calls} == {(3, 4)}


def test_evaluations_that_would_take_more_than_their_share_are_left_out(
    tmp_path: Path, data: MovingShapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every look at the clock takes a second. Only the fifth validation can pay for a second evaluation of the cheaper
    # share, as 2 <= 0.25 * (7 + 1).
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    for share, steps in ((1.0, [2, 4, 6, 8, 10]), (0.25, [2, 10])):
        ticks = iter(range(10_000))
        monkeypatch.setattr("callbacks.evaluation.time", clock)
        evaluation = callbacks.Evaluation(ToySuite(PROMPTS), max_share=share)
        folder = tmp_path / str(share)
        make_trainer(folder, [evaluation], steps=10, enable_progress_bar=False).fit(FakeModule(), datamodule=data)
        written = sorted(path.stem for path in (folder / "run" / "version_0" / "evaluation" / "toy").glob("*.json"))
        assert written == [f"step={step:06d}" for step in steps]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_share": 0.0}, r"max_share is 0\.0; it is a share"),
        ({"every_n_validations": -1}, "every_n_validations -1 must be at least 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        callbacks.Evaluation(ToySuite(PROMPTS), **options)


def test_a_suite_without_prompts_is_refused_at_the_start(tmp_path: Path, data: MovingShapes) -> None:
    trainer = make_trainer(tmp_path, [callbacks.Evaluation(ToySuite())], enable_progress_bar=False)
    with pytest.raises(ValueError, match="suite toy has no prompts of its own; give prompts"):
        trainer.fit(FakeModule(), datamodule=data)
