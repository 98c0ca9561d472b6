"""What training takes over from a checkpoint, tensor by tensor, without a trainer."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.optim import AdamW

from callbacks import StartFrom
from callbacks.checkpoint import describe_optimizers
from lingen_kit.checkpoint import CONFIG_KEY, OPTIMIZERS_KEY
from lingen_kit.mixers import WindowAttention
from lingen_kit.models import Denoiser, WordEncoder
from lingen_kit.models.embeddings import resize_table
from lingen_kit.tasks import MuonAdamW, TextToVideo

OPTIMIZERS = {"AdamW": AdamW, "MuonAdamW": MuonAdamW}
TABLES = [f"pipeline.denoiser.position.tables.{i}" for i in range(3)]


def task(optimizer: type, height: int = 8, frames: int = 2, dim: int = 16, **options) -> TextToVideo:
    def denoiser(channels: int, text_dim: int, size: tuple) -> Denoiser:
        return Denoiser(channels, text_dim, size, dim=dim, depth=1, mixer=WindowAttention, patch=(1, 4, 4))

    return TextToVideo(
        denoiser, WordEncoder(dim=8), frames=frames, height=height, width=8, optimizer=optimizer, **options
    )


def trained(optimizer: type, path: Path, **sizes: int) -> tuple[TextToVideo, dict]:
    """A task after a step, and a checkpoint of it."""
    module = task(optimizer, **sizes)
    (step,) = [module.configure_optimizers()["optimizer"]]
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    step.step()
    content = {
        "state_dict": {name: value.clone() for name, value in module.state_dict().items()},
        "global_step": 7,
        CONFIG_KEY: "",
        OPTIMIZERS_KEY: describe_optimizers([step], module),
        "optimizer_states": [step.state_dict()],
    }
    torch.save(content, path)
    return module, step


def start(path: Path, module: TextToVideo) -> torch.optim.Optimizer:
    optimizer = module.configure_optimizers()["optimizer"]
    callback = StartFrom(path)
    callback.check(module)
    strategy = SingleDeviceStrategy("cpu")
    strategy.connect(module)
    strategy.optimizers = [optimizer]
    callback.on_fit_start(SimpleNamespace(callbacks=[], optimizers=[optimizer], strategy=strategy), module)
    return optimizer


@pytest.mark.parametrize("length", [1, 3, 5, 10, 20])
def test_a_table_is_interpolated_between_the_middles_of_its_rows(length: int) -> None:
    table = torch.randn(10, 4)
    resized = resize_table(table, length)
    for row in range(length):
        place = min(max((row + 0.5) * 10 / length - 0.5, 0), 9)
        low = min(int(place), 8)
        expected = table[low] * (low + 1 - place) + table[low + 1] * (place - low)
        torch.testing.assert_close(resized[row], expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_weights_and_moments_of_the_same_shape_stay_and_tables_grow(optimizer: type, tmp_path: Path) -> None:
    old, old_step = trained(optimizer, tmp_path / "a.ckpt")
    # Other parameters are trained than before, in groups of other lengths: names tell whose state is whose.
    new = task(optimizer, height=16, frames=4, trainable=["denoiser.blocks.*", "denoiser.position.*"])
    new_step = start(tmp_path / "a.ckpt", new)
    before, after = dict(old.named_parameters()), dict(new.named_parameters())
    for name, parameter in after.items():
        grown = name in TABLES[:2]
        expected = resize_table(before[name], len(parameter)) if grown else before[name]
        torch.testing.assert_close(parameter, expected, rtol=0, atol=0)
        assert (parameter in new_step.state) == parameter.requires_grad
        for key, value in new_step.state[parameter].items() if parameter.requires_grad else ():
            then = old_step.state[before[name]][key]
            torch.testing.assert_close(value, resize_table(then, len(parameter)) if grown and then.ndim else then)


def test_options_of_the_optimizer_are_those_of_now(tmp_path: Path) -> None:
    trained(AdamW, tmp_path / "a.ckpt")
    now = start(tmp_path / "a.ckpt", task(lambda groups: AdamW(groups, lr=0.5, betas=(0.5, 0.6)), warmup_steps=1))
    assert {(group["lr"], group["betas"]) for group in now.param_groups} == {(0.5, (0.5, 0.6))}


def test_rows_that_grow_out_of_a_single_one_differ(tmp_path: Path) -> None:
    """A model of images has one row for all times; copies of it would leave the frames without an order."""
    old, _ = trained(AdamW, tmp_path / "a.ckpt", frames=1)
    new = task(AdamW, frames=3)
    fresh = new.pipeline.denoiser.position.tables[0].detach().clone()
    start(tmp_path / "a.ckpt", new)
    table = new.pipeline.denoiser.position.tables[0]
    torch.testing.assert_close(table, old.pipeline.denoiser.position.tables[0] + fresh)
    assert len(table.unique(dim=0)) == 3


def test_another_model_is_refused(tmp_path: Path) -> None:
    trained(AdamW, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a.ckpt is of another model"):
        StartFrom(tmp_path / "a.ckpt").check(task(AdamW, dim=32))
    with pytest.raises(FileNotFoundError, match=r"b.ckpt"):
        StartFrom(tmp_path / "b.ckpt").check(task(AdamW))


def test_patterns_choose_what_is_trained() -> None:
    module = task(AdamW, trainable=["denoiser.blocks.*.mixer.*", "text_encoder.*"])
    names = {name for name, parameter in module.pipeline.named_parameters() if parameter.requires_grad}
    expected = ("denoiser.blocks.0.mixer.", "text_encoder.")
    assert names == {name for name, _ in module.pipeline.named_parameters() if name.startswith(expected)}
    assert all(any(name.startswith(part) for name in names) for part in expected)
    for patterns, message in ((["denoiser.blocs.*"], r"'denoiser.blocs.\*' matches no"), ([], "empty list")):
        with pytest.raises(ValueError, match=message):
            task(AdamW, trainable=patterns)
