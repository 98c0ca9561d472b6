"""A curriculum through the real command line: three stages of a few steps, shared by the tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
import yaml

from lingen_kit.checkpoint import load_pipeline, read_checkpoint
from lingen_kit.tasks import TextToVideo

ROOT = Path(__file__).parents[2]
STEPS = {"1-images": 3, "2-clips": 5, "3-tune": 3}
STAGED = """
data:
  class_path: lingen_kit.data.MovingShapes
  init_args: {frames: 4, height: 16, width: 16, batch_size: 2, validation_size: 2, backgrounds: [navy]}
model:
  class_path: lingen_kit.tasks.TextToVideo
  init_args:
    denoiser:
      class_path: lingen_kit.models.Denoiser
      init_args: {dim: 32, depth: 2, patch: [1, 4, 4], mixer: lingen_kit.mixers.WindowAttention}
    text_encoder: {class_path: lingen_kit.models.WordEncoder, init_args: {dim: 16}}
    optimizer: {class_path: lingen_kit.tasks.MuonAdamW, init_args: {lr: 1e-2}}
    warmup_steps: 2
trainer: {max_steps: 3, val_check_interval: 2, check_val_every_n_epoch: null, log_every_n_steps: 1, accelerator: cpu}
checkpoint: {every_n_train_steps: 2}
stages:
  - name: images
    data: {init_args: {frames: 1}}
  - name: clips
    data: {init_args: {height: 24, image_ratio: 0.5}}
    trainer: {max_steps: 5}
  - name: tune # on smaller clips than the stage before, even smaller than the window of 8x4x4 tokens
    data: {init_args: {frames: 2}}
    seed_everything: 1
    model:
      class_path: lingen_kit.tasks.TextToVideo
      init_args: {trainable: [denoiser.blocks.*, denoiser.position.*], caption_dropout: 0.3}
"""


class Killed(BaseException):
    """Nothing that any code prepares for."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    from lingen_kit.cli import main

    folder = tmp_path_factory.mktemp("whole")
    (folder / "staged.yaml").write_text(STAGED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", "staged.yaml"])
    return folder / "runs" / "staged" / "version_0"


@pytest.fixture
def staged(run_dir: Path) -> Path:
    path = run_dir / "staged.yaml"
    path.write_text(STAGED)
    return path


def last(folder: Path, stage: str) -> dict:
    return read_checkpoint(folder / stage / "checkpoints" / "last.ckpt")


def assert_equal(first: Path, second: Path, stages: tuple[str, ...] = tuple(STEPS)) -> None:
    for stage in stages:
        ours, theirs = last(first, stage), last(second, stage)
        assert ours["global_step"] == theirs["global_step"]
        for part in ("state_dict", "current_model_state"):
            assert all(torch.equal(ours[part][key], value) for key, value in theirs[part].items())
        states = [content["optimizer_states"][0]["state"] for content in (ours, theirs)]
        assert states[0].keys() == states[1].keys()
        for i, state in states[1].items():
            assert all(torch.equal(states[0][i][key], value) for key, value in state.items())


def test_each_stage_has_a_folder_of_its_own(whole: Path) -> None:
    for stage, steps in STEPS.items():
        content = last(whole, stage)
        assert content["global_step"] == steps
        assert all((whole / stage / name).is_file() for name in ("config.yaml", "metrics.csv"))
        assert list((whole / stage).glob("events.out.tfevents.*"))
    sizes = [load_pipeline(whole / stage / "checkpoints/last.ckpt").denoiser.position.grid for stage in STEPS]
    assert sizes == [(1, 4, 4), (4, 6, 4), (2, 4, 4)]
    assert sorted(path.name for path in whole.iterdir()) == [*STEPS, "config.yaml"]


def test_what_is_not_trained_stays_and_the_optimizer_goes_on(whole: Path) -> None:
    clips, tune = last(whole, "2-clips")["state_dict"], last(whole, "3-tune")["state_dict"]
    same = {
        name for name, value in tune.items() if value.shape == clips[name].shape and torch.equal(value, clips[name])
    }
    trained = {name for name in tune if name.startswith(("pipeline.denoiser.blocks.", "pipeline.denoiser.position."))}
    assert same == tune.keys() - trained
    steps = {
        float(state["step"])
        for state in last(whole, "3-tune")["optimizer_states"][0]["state"].values()
        if "step" in state
    }
    assert steps == {sum(STEPS.values())}  # Adam's moments are as old as the whole run
    assert last(whole, "3-tune")["averaging_state"]["n_averaged"] == sum(STEPS.values())


def test_the_runs_config_runs_as_it_is(whole: Path, run_dir: Path, lingen: Callable) -> None:
    config = whole / "config.yaml"
    assert len(yaml.safe_load(config.read_text())["stages"]) == 3
    lingen("fit", "--config", config, "--name", "again")
    assert_equal(run_dir / "runs/again/version_0", whole)


CUTS = {"at the start of the second stage": 3, "in the last stage": 10}  # steps of training before the cut


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_a_cut_off_run_goes_on_to_the_same_weights(
    whole: Path, staged: Path, lingen: Callable, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    step, steps = TextToVideo.training_step, iter(range(cut))

    def killed(task: TextToVideo, batch: dict, batch_idx: int) -> torch.Tensor:
        if next(steps, None) is None:
            raise Killed
        return step(task, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TextToVideo, "training_step", killed)
        with pytest.raises(Killed):
            lingen("fit", "--config", staged)
    lingen("fit", "--config", staged, "--ckpt_path", "last")
    assert_equal(Path("runs/staged/version_0"), whole)
    assert not Path("runs/staged/version_1").exists()


def test_a_run_killed_while_it_saves_goes_on_from_the_checkpoint_before(
    whole: Path, staged: Path, lingen: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save, saves = torch.save, iter(range(4))  # steps 2 and 3 of the first stage, 2 and 4 of the second

    def killed(content: dict, file: BinaryIO) -> None:
        if next(saves, None) is None:
            file.write(b"half of it")
            raise Killed
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(Killed):
            lingen("fit", "--config", staged)
    assert last(Path("runs/staged/version_0"), "2-clips")["global_step"] == 4
    lingen("fit", "--config", staged, "--ckpt_path", "last")
    assert_equal(Path("runs/staged/version_0"), whole)

    with pytest.raises(SystemExit):
        lingen("fit", "--config", staged, "--ckpt_path", "last")
    assert "all 3 stages" in capsys.readouterr().err


@pytest.fixture
def two_done(whole: Path, staged: Path) -> Path:
    """A run whose last stage has not begun."""
    folder = Path("runs/staged/version_0")
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "3-tune")
    return folder


def test_what_changed_since_is_named(two_done: Path, staged: Path, lingen: Callable) -> None:
    changed = ["--stages.images.model.warmup_steps", "9", "--stages.tune.trainer.max_steps", "1"]
    with pytest.warns(UserWarning, match=r"stage images is done; what changed(.|\n)*model.warmup_steps: 2 -> 9"):
        lingen("fit", "--config", staged, "--ckpt_path", "last", *changed)
    assert last(two_done, "3-tune")["global_step"] == 1
    with pytest.warns(UserWarning, match=r"trained with other options(.|\n)*trainer.max_steps: 1 -> 3"):
        lingen("fit", "--config", staged, "--ckpt_path", "last")
    assert last(two_done, "3-tune")["global_step"] == 3


def test_a_stage_that_has_begun_keeps_its_place(
    two_done: Path, staged: Path, lingen: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    staged.write_text(STAGED.replace("name: clips", "name: videos"))
    with pytest.raises(SystemExit):
        lingen("fit", "--config", staged, "--ckpt_path", "last")
    error = capsys.readouterr().err
    assert all(word in error for word in ("2-clips", "videos", "--start_from"))


def test_another_optimizer_is_refused_on_resume_and_starts_anew_from_the_weights(
    two_done: Path, staged: Path, lingen: Callable, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    plain = STAGED[: STAGED.index("stages:")]
    Path("plain.yaml").write_text(plain.replace("height: 16", "height: 24"))
    checkpoint = two_done / "2-clips/checkpoints/last.ckpt"
    words = ["fit", "--config", "plain.yaml", "--trainer.max_steps", "7"]
    adam = ["--model.optimizer", "torch.optim.AdamW", "--model.optimizer.lr", "0", "--ema.decay", "0"]
    with pytest.raises(SystemExit):
        lingen(*words, *adam, "--ckpt_path", checkpoint)
    error = capsys.readouterr().err
    assert "another model.optimizer.class_path" in error and "--start_from" in error

    with caplog.at_level("INFO"):
        lingen(*words, *adam, "--start_from", checkpoint)
    assert "AdamW cannot take that of MuonAdamW" in caplog.text
    then, now = last(two_done, "2-clips"), read_checkpoint("runs/plain/version_0/checkpoints/last.ckpt")
    assert now["global_step"] == 7
    # The trained weights were taken over, not the average: with no learning rate they are as they were.
    for key, value in then["current_model_state"].items():
        assert torch.equal(now["current_model_state"][key], value)

    with pytest.raises(SystemExit):
        lingen(*words, "--start_from", checkpoint, "--model.denoiser.dim", "64")
    assert "another model" in capsys.readouterr().err
    assert not Path("runs/plain/version_1").exists()


WRONG = {
    "unknown key": (["--stages.clips.model.denoiser.dimm", "3"], ["stage clips", "'dimm'"]),
    "size": (["--stages.tune.data.height", "18"], ["stage tune", "height 18"]),
    "another model": (["--stages.clips.model.denoiser.dim", "64"], ["stage clips", "of stage images", "another model"]),
    "no end": (["--stages.clips.trainer.max_steps", "-1"], ["stage clips", "max_steps -1"]),
    "no folder": (["--trainer.logger", "false"], ["stage images", "logger"]),
    "a later stage": (["--stages.images.start_from", "tune"], ["stage images", "start_from tune"]),
    "no checkpoint": (["--start_from", "nope.ckpt"], ["nope.ckpt"]),
    "a file to resume": (["--ckpt_path", "a.ckpt"], ["--ckpt_path a.ckpt", "--start_from"]),
    "nothing to resume": (["--ckpt_path", "last"], ["nothing to resume"]),
}


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_shows_before_anything_is_trained(
    staged: Path, lingen: Callable, capsys: pytest.CaptureFixture[str], words: list[str], expected: list[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        lingen("fit", "--config", staged, *words)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert all(word in error for word in expected), error
    assert "Traceback" not in error and not Path("runs").exists()


def test_other_verbs_take_one_stage(staged: Path, lingen: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lingen("validate", "--config", staged)
    assert "runs/NAME/version_N/3-tune" in capsys.readouterr().err


def test_a_diverged_stage_is_named_and_ends_the_run(
    staged: Path, lingen: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = TextToVideo.losses
    monkeypatch.setattr(
        TextToVideo, "losses", lambda task, *x: losses(task, *x) * (torch.nan if task.pipeline.frames == 4 else 1)
    )
    with pytest.raises(SystemExit):
        lingen("fit", "--config", staged)
    assert "stage clips: the loss is nan at step 1" in capsys.readouterr().err
    assert last(Path("runs/staged/version_0"), "1-images")["global_step"] == 3


@pytest.mark.slow
def test_two_ranks_go_through_the_stages_and_one_goes_on(whole: Path, staged: Path, lingen: Callable) -> None:
    """Lightning starts the second process once, for all stages; the last stage is resumed by a single one.

    Adam turns the order of sums into steps of its own where gradients are next to nothing: hence the tolerance.
    """
    ranks = [
        "--trainer.devices",
        "2",
        "--trainer.strategy",
        "ddp_find_unused_parameters_true",
        "--data.batch_size",
        "1",
    ]
    subprocess.run(
        [sys.executable, "-m", "lingen_kit", "fit", "--config", str(staged), *ranks],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=600,
    )
    folder = Path("runs/staged/version_0")
    assert sorted(path.name for path in folder.iterdir()) == [*STEPS, "config.yaml"]
    for stage in STEPS:
        for key, value in last(whole, stage)["state_dict"].items():
            torch.testing.assert_close(last(folder, stage)["state_dict"][key], value, rtol=1e-3, atol=5e-3)
    shutil.rmtree(folder / "3-tune")
    with pytest.warns(UserWarning, match="stage (images|clips) is done"):
        lingen("fit", "--config", staged, "--ckpt_path", "last")
    for key, value in last(whole, "3-tune")["state_dict"].items():
        torch.testing.assert_close(last(folder, "3-tune")["state_dict"][key], value, rtol=1e-3, atol=5e-3)
