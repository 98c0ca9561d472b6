from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from eval.shapes.judge_network import FRAMES, SLOT_COLORS, ShapeJudgeNetwork
from lingen_kit.data import MovingShapes
from lingen_kit.data.sample import collate
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.tasks import ShapeJudging
from lingen_kit.tasks.shape_judge import _truth, worsened


def small() -> ShapeJudging:
    return ShapeJudging(ShapeJudgeNetwork(dim=16, depth=1, hidden=32), optimizer=_adam, warmup_steps=0)


def _adam(parameters):
    return torch.optim.AdamW(parameters, lr=3e-3)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*CSVLogger.*")
def test_it_learns_and_leaves_its_weights_in_the_run_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = MovingShapes(batch_size=8, objects=(1, 2), held_out=0, validation_size=8)
    task = small()
    trainer = Trainer(
        max_steps=60,
        accelerator="cpu",
        devices=1,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        inference_mode=False,
    )
    before = trainer.validate(task, data, verbose=False)[0]
    trainer.fit(task, data)
    after = trainer.validate(task, data, verbose=False)[0]
    assert after["validation/loss"] < 0.8 * before["validation/loss"]
    assert set(after) == {f"validation/{n}" for n in ("loss", "objects", "background", "shape", "action", "size")}
    assert all(0 <= after[f"validation/{name}"] <= 1 for name in ("objects", "background", "shape", "action", "size"))
    weights = load_file(next(tmp_path.rglob("judge.safetensors")))
    assert set(weights) == set(task.network.state_dict())
    assert all(value.dtype == torch.float16 for value in weights.values())


def test_truth_by_slot() -> None:
    dataset = MovingShapesDataset(objects=(2, 2), held_out=0, seed=1)
    sample = dataset[0]
    truth = _truth(collate([sample]), sample["video"][None])
    assert truth["present"].sum() == 2
    for thing in sample["attributes"]["objects"]:
        slot = SLOT_COLORS.index("gray" if thing["color"] == "grey" else thing["color"])
        assert truth["present"][0, slot]
        x, y = thing["positions"][3]
        assert truth["positions"][0, slot, 3].tolist() == pytest.approx([(x + 0.5) / 32, (y + 0.5) / 32], abs=1e-6)


def test_a_perfect_reading_has_no_loss() -> None:
    dataset = MovingShapesDataset(objects=(1, 3), held_out=0, seed=2)
    batch = collate([dataset[index] for index in range(4)])
    task = small()
    truth = _truth(batch, batch["video"])
    reading = task.network(batch["video"])
    sure = {
        word: 50.0 * torch.nn.functional.one_hot(truth[word], getattr(reading, word).shape[-1])
        for word in ("shape", "action", "size", "background")
    }
    perfect = reading._replace(present=100.0 * (truth["present"].float() - 0.5), positions=truth["positions"], **sure)
    assert all(value < 1e-6 for value in task.losses(perfect, truth).values())
    worst = perfect._replace(present=-perfect.present)
    assert task.losses(worst, truth)["present"] > 100


def test_clips_are_made_worse_reproducibly_and_within_bounds() -> None:
    clip = MovingShapesDataset()[0]["video"]
    assert torch.equal(worsened(clip, 5, 1.0), worsened(clip, 5, 1.0))
    assert not torch.equal(worsened(clip, 5, 1.0), worsened(clip, 6, 1.0))
    assert worsened(clip, 5, 0.0) is clip
    many = torch.stack([worsened(clip, seed, 1.0) for seed in range(20)])
    assert many.abs().max() <= 1 and 0.01 < (many - clip).abs().mean() < 0.2


def test_any_size_and_length_is_read() -> None:
    network = ShapeJudgeNetwork(dim=16, depth=1, hidden=32)
    for shape in ((2, 3, 8, 32, 32), (1, 3, 1, 48, 80), (1, 3, 30, 64, 64)):
        reading = network(torch.zeros(shape))
        assert reading.positions.shape == (shape[0], len(SLOT_COLORS), FRAMES, 2)
        assert ((reading.positions > 0) & (reading.positions < 1)).all()


def test_bad_options_and_data_are_refused() -> None:
    with pytest.raises(ValueError, match="dim 12 must be a multiple of 8"):
        ShapeJudgeNetwork(dim=12)
    with pytest.raises(ValueError, match="damage"):
        ShapeJudging(damage=-1)
    with pytest.raises(ValueError, match="give it MovingShapes"):
        _truth({"attributes": [{}]}, torch.zeros(1, 3, 8, 32, 32))  # type: ignore[typeddict-item]
