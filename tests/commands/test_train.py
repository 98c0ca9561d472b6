"""The trainer's verbs through the real command line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
import yaml

from callbacks import AtomicCheckpointIO
from lingen_kit.checkpoint import CONFIG_KEY, load_pipeline, read_checkpoint
from lingen_kit.tasks import TextToVideo

LAST = Path("runs/tiny/version_0/checkpoints/last.ckpt")

SWAPS = {
    "SelfAttention": ["lingen_kit.mixers.SelfAttention"],
    "short name": ["WindowAttention", "--model.denoiser.mixer.window", "[2,2,2]"],
    "Mamba2": ["lingen_kit.mixers.Mamba2", "--model.denoiser.mixer.head_dim", "16"],
    "MATE": ["lingen_kit.mixers.MATE"],
    "pattern": ["[lingen_kit.mixers.Mamba2, lingen_kit.mixers.SelfAttention]"],
}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS.keys())
def test_a_mixer_is_swapped_by_one_flag(lingen: Callable, tiny: Path, swap: list[str]) -> None:
    lingen("fit", "--config", tiny, "--model.denoiser.mixer", *swap)
    content = read_checkpoint(LAST)
    assert content["global_step"] == 4
    pipeline = load_pipeline(LAST)
    assert {type(block.mixer).__name__ for block in pipeline.denoiser.blocks} <= {
        "SelfAttention", "WindowAttention", "Mamba2", "MATE"
    }  # fmt: skip
    assert pipeline(["a red circle"]).shape == (1, 3, 4, 16, 16)
    with Path("runs/tiny/version_0/metrics.csv").open() as file:
        logged = {(int(row["step"]), row["name"]): float(row["value"]) for row in csv.DictReader(file)}
    assert all((step, "train/loss") in logged for step in range(4))
    assert (3, "validation/loss") in logged
    assert Path("runs/tiny/version_0/config.yaml").is_file()
    assert list(Path("runs/tiny/version_0").glob("events.out.tfevents.*"))


NEW_MIXER = """
from torch import Tensor, nn
from lingen_kit.mixers import Mixer


class Mean(Mixer):
    '''Adds a projection of the mean over all tokens.'''

    def __init__(self, dim: int, layer: int, *, scale: float = 1.0) -> None:
        super().__init__(dim, layer)
        self.proj = nn.Linear(dim, dim)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.proj(x.mean((1, 2, 3), keepdim=True)).expand_as(x)

    def flops(self, grid: tuple[int, int, int]) -> int:
        return 2 * self.dim**2
"""


def test_a_new_mixer_is_one_file_and_one_flag(
    lingen: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    (run_dir / "my_mixers.py").write_text(NEW_MIXER)
    monkeypatch.syspath_prepend(run_dir)
    lingen("fit", "--config", tiny, "--model.denoiser.mixer", "my_mixers.Mean", "--model.denoiser.mixer.scale", "0.5")
    assert [block.mixer.scale for block in load_pipeline(LAST).denoiser.blocks] == [0.5, 0.5]


def test_the_saved_config_runs_as_it_is_and_gives_the_same_weights(lingen: Callable, tiny: Path) -> None:
    lingen("fit", "--config", tiny)
    lingen("fit", "--config", "runs/tiny/version_0/config.yaml", "--name", "again")
    first, second = (read_checkpoint(f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("tiny", "again"))
    assert all(torch.equal(first["state_dict"][key], value) for key, value in second["state_dict"].items())
    config = yaml.safe_load(first[CONFIG_KEY])
    assert config["model"]["init_args"]["frames"] == 4  # linked from the data
    assert config["model"]["init_args"]["schedule_steps"] == 4  # linked from the trainer


def test_a_checkpoint_holds_the_average_and_the_trained_weights(lingen: Callable, tiny: Path) -> None:
    lingen("fit", "--config", tiny, "--ema.decay", "0.9")
    content = read_checkpoint(LAST)
    averaged, trained = content["state_dict"], content["current_model_state"]
    assert averaged.keys() == trained.keys()
    assert any(not torch.equal(averaged[key], trained[key]) for key in averaged)
    weights = load_pipeline(LAST).state_dict()
    assert all(torch.equal(weights[key.removeprefix("pipeline.")], value) for key, value in averaged.items())


def test_a_killed_run_resumes_to_the_same_weights(lingen: Callable, tiny: Path) -> None:
    """SIGKILL in the middle of training, against a run that nobody disturbed: every tensor is equal bit for bit."""
    steps = ["--trainer.max_steps", "60", "--trainer.val_check_interval", "7", "--model.denoiser.mixer", "MATE"]
    command = ["fit", "--config", str(tiny), *steps, "--name", "killed"]
    killed = Path("runs/killed/version_0/checkpoints/last.ckpt")
    process = subprocess.Popen(
        [sys.executable, "-m", "lingen_kit", *command], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    deadline = time.monotonic() + 240
    while not killed.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = read_checkpoint(killed)["global_step"]
    assert 0 < at < 60, "the run was to be killed in its middle"

    lingen(*command, "--ckpt_path", "last")
    lingen("fit", "--config", tiny, *steps, "--name", "whole")
    resumed, whole = (read_checkpoint(f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("killed", "whole"))
    assert resumed["global_step"] == whole["global_step"] == 60
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(resumed[part][key], value) for key, value in whole[part].items())
    assert resumed["lr_schedulers"] == whole["lr_schedulers"]
    moments = [content["optimizer_states"][0]["state"] for content in (resumed, whole)]
    assert all(torch.equal(moments[0][i]["exp_avg_sq"], moments[1][i]["exp_avg_sq"]) for i in moments[1])
    assert not Path("runs/killed/version_1").exists()  # continued in place


def test_two_ranks_train_what_one_rank_does(lingen: Callable, tiny: Path) -> None:
    """The same global batch on two gloo ranks: the same losses, the same weights but for the order of sums."""
    both = ["fit", "--config", str(tiny), "--data.validation_size", "5", "--model.denoiser.mixer", "MATE"]
    ranks = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "2", "--name", "two"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(
        [sys.executable, "-m", "lingen_kit", *both, *ranks],
        env=environment,
        check=True,
        capture_output=True,
        timeout=240,
    )
    lingen(*both, "--data.batch_size", "4", "--name", "one")
    logged = {}
    for name in ("one", "two"):
        with Path(f"runs/{name}/version_0/metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["name"].endswith("/loss")]
        logged[name] = {(row["step"], row["name"]): float(row["value"]) for row in rows}
    assert logged["two"] == pytest.approx(logged["one"], rel=1e-5)
    one, two = (read_checkpoint(f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("one", "two"))
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_saves_its_last_step(
    lingen: Callable,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    step = TextToVideo.training_step

    def interrupted(task: TextToVideo, batch: dict, batch_idx: int) -> torch.Tensor:
        if task.global_step == 4:
            signal.raise_signal(number)
        return step(task, batch, batch_idx)

    command = ["fit", "--config", str(tiny), "--trainer.max_steps", "9", "--checkpoint.every_n_train_steps", "100"]
    with monkeypatch.context() as patch:
        patch.setattr(TextToVideo, "training_step", interrupted)
        with pytest.raises(SystemExit) as exit_:
            lingen(*command)
    assert exit_.value.code == 128 + number
    assert read_checkpoint(LAST)["global_step"] == 5
    assert "--name tiny --ckpt_path last" in capsys.readouterr().out
    lingen(*command, "--ckpt_path", "last")
    lingen(*command, "--name", "whole")
    resumed, whole = (read_checkpoint(f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("tiny", "whole"))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(resumed[part][key], value) for key, value in whole[part].items())


def test_a_diverged_run_stops_and_keeps_its_checkpoint(
    lingen: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = TextToVideo.losses
    monkeypatch.setattr(
        TextToVideo, "losses", lambda task, *x: losses(task, *x) * (1 if task.global_step < 3 else torch.nan)
    )
    with pytest.raises(SystemExit) as exit_:
        lingen("fit", "--config", tiny)
    assert exit_.value.code == 2
    assert "the loss is nan at step 4" in capsys.readouterr().err
    content = read_checkpoint(LAST)
    assert content["global_step"] == 2
    assert all(value.isfinite().all() for value in content["state_dict"].values())


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def full(content: dict, file: BinaryIO) -> None:
        file.write(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match=r"last.ckpt.*disk full"):
            AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_finished_run_is_not_resumed(lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lingen("fit", "--config", tiny)
    with pytest.raises(SystemExit):
        lingen("fit", "--config", tiny, "--ckpt_path", "last")
    assert "at step 4 already" in capsys.readouterr().err


def test_predict_writes_a_folder_that_trains(lingen: Callable, tiny: Path) -> None:
    lingen("fit", "--config", tiny)
    lingen("predict", "--config", tiny, "--ckpt_path", "last")
    records = [json.loads(line) for line in Path("predictions/tiny/metadata.jsonl").read_text().splitlines()]
    assert len(records) == 2
    flags = ["--data", "lingen_kit.data.VideoFolder", "--data.root", "predictions/tiny", "--data.fps", "8"]
    shape = ["--data.frames", "4", "--data.height", "16", "--data.width", "16", "--data.batch_size", "2"]
    config = tiny.read_text()
    start, end = config.index("data:"), config.index("model:")
    Path("folder.yaml").write_text(config[:start] + config[end:])
    lingen("fit", "--config", "folder.yaml", *flags, *shape, "--trainer.max_steps", "1")


def test_validate_measures_a_checkpoint(lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lingen("fit", "--config", tiny)
    capsys.readouterr()
    lingen("validate", "--config", tiny, "--ckpt_path", LAST)
    assert "validation/loss" in capsys.readouterr().out
    assert not Path("runs/tiny/version_1").exists()

    lingen("validate", "--config", tiny, "--ckpt_path", "last")
    with pytest.raises(SystemExit):
        lingen("validate", "--config", tiny)  # of random weights there is nothing to measure
    assert "--ckpt_path" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=r"objective.prediction: None -> x"):
        lingen("validate", "--config", tiny, "--ckpt_path", "last",
               "--model.objective", "FlowMatching", "--model.objective.prediction", "x")  # fmt: skip


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_renamed_run_resumes_into_its_last_checkpoint(lingen: Callable, tiny: Path) -> None:
    lingen("fit", "--config", tiny, "--model.final_lr_ratio", "1")
    Path("runs/tiny").rename("runs/renamed")
    with pytest.warns(UserWarning, match="schedule_steps: 4 -> 8"):
        lingen("fit", "--config", tiny, "--name", "renamed", "--ckpt_path", "last", "--trainer.max_steps", "8",
               "--model.final_lr_ratio", "1")  # fmt: skip
    checkpoints = Path("runs/renamed/version_0/checkpoints")
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]
    assert read_checkpoint(checkpoints / "last.ckpt")["global_step"] == 8
    assert yaml.safe_load(Path("runs/renamed/version_0/config.yaml").read_text())["ckpt_path"] is None


def test_without_a_run_folder_nothing_is_written_here(lingen: Callable, tiny: Path) -> None:
    Path("config.yaml").write_text("mine")
    lingen("fit", "--config", tiny, "--trainer.logger", "false", "--trainer.max_steps", "1")
    assert Path("config.yaml").read_text() == "mine"


def test_a_checkpoint_without_a_pipeline_is_named(
    lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("fit", "--config", tiny, "--trainer.max_steps", "1")
    content = read_checkpoint(LAST)
    for config in ("", "{}", "a: [1", "model: {init_args: {denoiser: torch.nn.Linear}}", "model: 3"):
        torch.save({**content, CONFIG_KEY: config}, "odd.ckpt")
        with pytest.raises(SystemExit):
            lingen("sample", "--ckpt", "odd.ckpt", "--prompt", "a")
        assert "odd.ckpt does not describe" in capsys.readouterr().err


CLIPS = ["--data", "lingen_kit.data.VideoFolder", "--data.root", "clips"]
WRONG = {
    "unknown key": (["--model.denoiser.dimm", "3"], ["model.denoiser", "'dimm' of Denoiser; did you mean 'dim'?"]),
    "unknown data key": (["--data.fpss", "3"], ["fps", "`fit --data.help lingen_kit.data.MovingShapes`"]),
    "unknown trainer key": (["--trainer.max_stepz", "3"], ["max_stepz", "did you mean --trainer.max_steps?"]),
    "wrong type": (["--trainer.max_steps", "abc"], ["trainer.max_steps", "int", "'abc'"]),
    "no such mixer": (["--model.denoiser.mixer", "lingen_kit.mixers.Nope"], ["mixer", "'Nope'", "MATE"]),
    "no mixer at all": (["--model.denoiser.mixer", "torch.nn.Linear"], ["torch.nn.Linear", "Mixer"]),
    "heads": (["--model.denoiser.mixer.heads", "5"], ["heads 5", "32"]),
    "patch": (["--model.denoiser.patch", "[1,3,4]"], ["height 16", "patch size 3", "multiple of 3"]),
    "frames": (["--data.frames", "5", "--model.denoiser.patch", "[2,4,4]"], ["frames 5", "patch size 2"]),
    "no config file": (["--config", "nope.yaml"], ["nope.yaml"]),
    "no folder": (["--data", "lingen_kit.data.VideoFolder", "--data.root", "nowhere"], ["nowhere", "data.root"]),
    "no checkpoint": (["--ckpt_path", "nope.ckpt"], ["nope.ckpt"]),
    "nothing to resume": (["--ckpt_path", "last", "--name", "new"], ["nothing to resume", "new"]),
    "no interval": (["--trainer.val_check_interval", "0"], ["val_check_interval 0"]),
    "folders in the name": (["--name", "../x"], ["--name '../x'"]),
    "not a number": (["--model.sampler.guidance", ".nan"], ["guidance nan"]),
    "no depth": (["--model.denoiser.depth", "0"], ["depth 0", "at least 1"]),
    "no list": ([*CLIPS, "--data.buckets.sides", "32"], ["data.buckets.sides: expected a list, such as [32]"]),
    "base 60": ([*CLIPS, "--data.buckets.aspects", "[4:3]"], ["YAML reads 4:3", "write 4/3"]),
    "no such verb": (None, ["fti", "fit", "sample"]),
}


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_explained_in_a_line(
    lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str], words: list[str] | None, expected: list[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        lingen(*(["fti"] if words is None else ["fit", "--config", tiny, *words]))
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    message = error[error.index("error: ") :]
    assert all(word in message for word in expected), message
    assert "Traceback" not in error
    assert len(message) < 500


def test_an_unknown_key_in_a_file_is_told_its_siblings(
    lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("depth: 2", "dept: 2"))
    with pytest.raises(SystemExit):
        lingen("fit", "--config", tiny)
    error = capsys.readouterr().err
    assert "model.denoiser: unknown option 'dept' of Denoiser; did you mean 'depth'? choose out of dim, depth" in error


def test_a_config_without_a_model_leads_on(lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny.read_text()
    tiny.write_text(config[config.index("data:") : config.index("model:")])
    with pytest.raises(SystemExit):
        lingen("fit", "--config", tiny)
    assert "has no model: stack it on one that does, such as --config experiments" in capsys.readouterr().err


def test_a_failed_start_leaves_no_folder(lingen: Callable, tiny: Path) -> None:
    with pytest.raises(SystemExit):
        lingen("fit", "--config", tiny, "--data", "lingen_kit.data.VideoFolder", "--data.root", "nowhere")
    assert not Path("runs/tiny").exists()


def test_damaged_and_foreign_checkpoints_are_named(
    lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("fit", "--config", tiny)
    whole = LAST.read_bytes()
    Path("truncated.ckpt").write_bytes(whole[: len(whole) // 2])
    Path("text.ckpt").write_text("no checkpoint")
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, "foreign.ckpt")

    class Payload:
        def __reduce__(self) -> tuple:
            return os.mkdir, ("pwned",)

    torch.save({"state_dict": {}, CONFIG_KEY: "", "payload": Payload()}, "pickled.ckpt")
    for name in ("truncated", "text", "foreign", "pickled"):
        for words in (["sample", "--ckpt", f"{name}.ckpt", "--prompt", "a"],
                      ["fit", "--config", tiny, "--ckpt_path", f"{name}.ckpt"]):  # fmt: skip
            with pytest.raises(SystemExit) as exit_:
                lingen(*words)
            assert exit_.value.code == 2
            assert f"{name}.ckpt" in capsys.readouterr().err
    assert not Path("pwned").exists()

    with pytest.raises(SystemExit):
        lingen("fit", "--config", tiny, "--ckpt_path", LAST, "--model.denoiser.mixer", "MATE")
    error = capsys.readouterr().err
    assert str(LAST) in error and "another model" in error
