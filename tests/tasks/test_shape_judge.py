import csv
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eval.shapes.judge_network import FRAMES, SLOT_COLORS, ShapeJudgeNetwork
from lingen_kit.data.sample import collate
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.data.shapes_grammar import ACTIONS, BACKGROUNDS, SHAPES, SIZES, canonical_color
from lingen_kit.tasks import ShapeJudging
from lingen_kit.tasks.shape_judge import _truth, worsened


def small() -> ShapeJudging:
    return ShapeJudging(ShapeJudgeNetwork(dim=16, depth=1, hidden=32))


TINY = """
data:
  class_path: lingen_kit.data.MovingShapes
  init_args: {frames: 8, height: 32, width: 32, batch_size: 8, objects: [1, 2], held_out: 0, validation_size: 16}
model:
  class_path: lingen_kit.tasks.ShapeJudging
  init_args:
    network: {class_path: eval.shapes.judge_network.ShapeJudgeNetwork, init_args: {dim: 16, depth: 1, hidden: 32}}
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 3.0e-3}}
    warmup_steps: 5
ema: {decay: 0.9}
trainer:
  max_steps: 60
  val_check_interval: 10
  check_val_every_n_epoch: null
  log_every_n_steps: 10
"""


def test_it_learns_and_leaves_its_averaged_weights_in_the_run_folder(run_dir: Path) -> None:
    """Through the real command line."""
    from lingen_kit.checkpoint import read_checkpoint
    from lingen_kit.cli import main

    Path("judge.yaml").write_text(TINY)
    main(["fit", "--config", "judge.yaml"])
    folder = Path("runs/judge/version_0")
    with (folder / "metrics.csv").open() as file:
        rows = [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]
    logged = {name: [value for _, other, value in rows if other == name] for _, name, _ in rows}
    losses = logged["validation/loss"]
    # What it costs to call all words equally likely, with every position right; untrained it is 16.
    ignorance = len(SLOT_COLORS) * math.log(2) + sum(math.log(n) for n in (5, 5, 9, 2))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * ignorance
    words = {f"validation/{name}" for name in ("objects", "background", "shape", "action", "size")}
    assert words <= set(logged)
    weights = load_file(folder / "judge.safetensors")
    average = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    assert {f"network.{name}" for name in weights} == {name for name in average if name.startswith("network.")}
    assert all(torch.equal(value, average[f"network.{name}"].half()) for name, value in weights.items())


def test_validation_counts_the_objects_that_are_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = MovingShapesDataset(objects=(1, 3), held_out=0, seed=6)
    batch = collate([dataset[index] for index in range(6)])
    batch["places"] = [0, 1, 2, 3, None, None]  # the last two are repeats
    task = small()
    monkeypatch.setattr(task, "log", lambda *words, **options: None)
    task.validation_step(batch, 0)
    reading = task.network(batch["video"])
    right: dict[str, list[bool]] = {name: [] for name in ("objects", "background", "shape", "action", "size")}
    for index, truth in enumerate(batch["attributes"][:4]):
        things = {canonical_color(thing["color"]): thing for thing in truth["objects"]}
        seen = {color for color, logit in zip(SLOT_COLORS, reading.present[index], strict=True) if logit > 0}
        right["objects"].append(seen == set(things))
        right["background"].append(list(BACKGROUNDS)[int(reading.background[index].argmax())] == truth["background"])
        for color, thing in things.items():
            for word, known in (("shape", SHAPES), ("action", ACTIONS), ("size", list(SIZES))):
                logits = getattr(reading, word)[index, SLOT_COLORS.index(color)]
                right[word].append(known[int(logits.argmax())] == thing[word])
    for name, values in right.items():
        assert task.validated[name].compute().item() == pytest.approx(sum(values) / len(values)), name


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
