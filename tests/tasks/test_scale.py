"""Training on two gloo ranks, replicated and sharded, against one: losses, gradients, weights and their average.

The two ranks are forked once and run every case through the front door; the tests read the files that the runs left.
"""

import csv
import os
import socket
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch.utilities import rank_zero_only

from lingen_kit.checkpoint import load_pipeline, read_checkpoint
from lingen_kit.cli import main
from lingen_kit.mixers import SelfAttention
from lingen_kit.models import Denoiser
from lingen_kit.tasks.text_to_video import compile_each

TINY = """
data:
  class_path: lingen_kit.data.MovingShapes
  init_args: {frames: 1, height: 16, width: 16, validation_size: 3, backgrounds: [navy]}
model:
  class_path: lingen_kit.tasks.TextToVideo
  init_args:
    denoiser:
      class_path: lingen_kit.models.Denoiser
      init_args: {dim: 32, depth: 2, patch: [1, 4, 4], mixer: lingen_kit.mixers.MATE}
    text_encoder: {class_path: lingen_kit.models.WordEncoder, init_args: {dim: 8}}
    warmup_steps: 2
trainer:
  {max_steps: 4, val_check_interval: 2, check_val_every_n_epoch: null, log_every_n_steps: 1, accelerator: cpu,
   gradient_clip_val: 1.0}
checkpoint: {every_n_train_steps: 1, save_top_k: -1}
"""
ONE = ["--data.batch_size", "4"]
TWO = ["--data.batch_size", "2", "--trainer.devices", "2"]
FSDP2 = [*TWO, "--trainer.strategy", "fsdp2"]
CASES = {
    "ddp": [*TWO, "--trainer.strategy", "ddp"],
    "fsdp2": [*FSDP2, "--model.denoiser.checkpoint_every", "1"],
    "one to fsdp2": [*FSDP2, "--ckpt_path", "runs/one/version_0/checkpoints/step=0000002.ckpt"],
    "start": [
        *FSDP2,
        "--start_from",
        "runs/one/version_0/checkpoints/step=0000002.ckpt",
        "--trainer.max_steps",
        "1",
        "--data.frames",
        "3",
    ],
    "muon": [*FSDP2, "--model.optimizer", "lingen_kit.tasks.MuonAdamW"],
}


def fit(name: str, words: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options changed on resuming, as these cases mean to, and by libraries
        main(["fit", "--config", "tiny.yaml", "--name", name, *words])


def work(rank: int, port: int) -> None:
    torch.set_num_threads(1)  # the pool of threads of the parent does not survive a fork
    rank_zero_only.rank = rank  # read off the environment once, when Lightning was imported
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    launched |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}  # as torchrun does
    os.environ |= {name: str(value) for name, value in launched.items()}
    for name, words in CASES.items():
        fit(name, words)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    (folder / "tiny.yaml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch, socket.socket() as free:
        patch.chdir(folder)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        fit("one", ONE)
        free.close()
        mp.start_processes(work, (port,), nprocs=2, start_method="fork")
        fit("fsdp2 to one", [*ONE, "--ckpt_path", "runs/fsdp2/version_0/checkpoints/step=0000002.ckpt"])
    return folder / "runs"


def at(runs: Path, name: str, step: int) -> dict:
    return read_checkpoint(runs / name / "version_0" / "checkpoints" / f"step={step:07}.ckpt")


def losses(runs: Path, name: str) -> dict[tuple[str, str], float]:
    with (runs / name / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["name"].endswith("/loss")]
    return {(row["step"], row["name"]): float(row["value"]) for row in rows}


def moments(content: dict, key: str) -> torch.Tensor:
    """A moment of all parameters in one vector, in the order of the optimizer."""
    return torch.cat([state[key].flatten() for _, state in sorted(content["optimizer_states"][0]["state"].items())])


def relative(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x - y).norm() / y.norm())


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_two_ranks_find_the_losses_and_gradients_of_one(runs: Path, name: str) -> None:
    assert losses(runs, name) == pytest.approx(losses(runs, "one"), rel=1e-5)
    for step in (1, 4):  # AdamW's first moments are the mean of the gradients so far
        ours, theirs = (moments(at(runs, run, step), "exp_avg") for run in (name, "one"))
        assert theirs.norm() > 0
        assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "fsdp2 to one", "one to fsdp2"])
def test_checkpoints_of_any_number_of_ranks_go_on_on_any_other(runs: Path, name: str) -> None:
    expected = losses(runs, "one")
    assert losses(runs, name) == pytest.approx({key: expected[key] for key in losses(runs, name)}, rel=1e-5)
    ours, theirs = at(runs, name, 4), at(runs, "one", 4)
    assert ours["averaging_state"] == theirs["averaging_state"]
    for part in ("state_dict", "current_model_state"):
        assert ours[part].keys() == theirs[part].keys()
        for key, value in theirs[part].items():
            torch.testing.assert_close(ours[part][key], value, rtol=1e-4, atol=1e-5)
    for key in ("exp_avg", "exp_avg_sq"):
        assert relative(moments(ours, key), moments(theirs, key)) < 1e-4


def test_a_sharded_run_starts_from_weights_average_and_moments(runs: Path) -> None:
    then, now = at(runs, "one", 2), at(runs, "start", 1)
    assert now["averaging_state"]["n_averaged"] == 3
    assert {float(state["step"]) for state in now["optimizer_states"][0]["state"].values()} == {3}
    for part in ("state_dict", "current_model_state"):
        before, after = then[part], now[part]
        times = "pipeline.denoiser.position.tables.0"
        assert before[times].shape == (1, 32) and len(after[times].unique(dim=0)) == 3  # from images to videos
        assert all((after[key] - value).abs().max() < 2e-3 for key, value in before.items() if key != times)


def test_muon_trains_shards_as_it_does_whole_matrices(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    fit("muon one", [*ONE, "--model.optimizer", "lingen_kit.tasks.MuonAdamW"])
    # It orthogonalizes in bf16.
    assert losses(runs, "muon") == pytest.approx(losses(runs, "muon one"), rel=1e-3)


def test_samples_come_from_a_sharded_runs_checkpoint(runs: Path) -> None:
    path = runs / "fsdp2" / "version_0" / "checkpoints" / "last.ckpt"
    assert load_pipeline(path)(["a red circle moves left"], steps=1).isfinite().all()


def test_a_fused_optimizer_is_clipped_in_bf16(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    options = ["--trainer.precision", "bf16-mixed", "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]
    norms = []
    for clip in ("0", "0.01"):
        words = [*ONE, *options, "--model.optimizer", "torch.optim.AdamW", "--model.optimizer.fused", "true"]
        fit(f"clip {clip}", [*words, "--trainer.gradient_clip_val", clip])
        norms.append(10 * moments(at(runs, f"clip {clip}", 1), "exp_avg").norm().item())
    assert norms[0] > 0.02 and norms[1] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.slow
# Dynamo looks at gradients of tensors that have none, and through the cache of a function that never changes its mind.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_compiled_blocks_keep_their_names_and_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    models = []
    for _ in range(2):
        torch.manual_seed(1)
        models.append(Denoiser(3, 8, (2, 4, 4), dim=16, depth=2, mixer=SelfAttention))
        torch.nn.init.normal_(models[-1].head.weight)
    compile_each(models[1].blocks)
    inputs = torch.randn(1, 3, 2, 4, 4), torch.tensor([0.3]), torch.randn(1, 2, 8), torch.ones(1, 2, dtype=torch.bool)
    outputs = [model(*inputs) for model in models]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    for one, two in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-4)
