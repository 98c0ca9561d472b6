"""Data modules under the real Trainer: a resumed run trains on what an uninterrupted one would have seen."""

import logging
import multiprocessing
import signal
import subprocess
import sys
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

import lingen_kit.data
from lingen_kit.data import MovingShapes
from lingen_kit.data.base import TooManyUnusable, VideoDataModule
from lingen_kit.data.loader import SampleDataset, TrainingLoader, ValidationLoader
from lingen_kit.data.order import keys_of
from lingen_kit.data.sample import Batch, Sample
from lingen_kit.data.sampler import Bucket
from lingen_kit.data.seeds import derive_seed

SIZE = 2


class CountedClips:
    """Tiny clips whose pixels depend on index and epoch, so that a wrong sample shows in the weights."""

    def __init__(self, length: int, unusable: frozenset[int] = frozenset()) -> None:
        self.length = length
        self.unusable = unusable

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        return self.draw(index, epoch=0)

    def draw(self, index: int, epoch: int) -> Sample:
        generator = torch.Generator().manual_seed(derive_seed("clip", index, epoch))
        sample = Sample(
            video=torch.randn(3, 1, SIZE, SIZE, generator=generator),
            caption=f"clip {index}",
            fps=1.0,
            source=f"{index}@{epoch}",
            attributes={},
        )
        if index in self.unusable:
            sample["skipped"] = [(f"bad{index}.mp4", "truncated")]
        return sample


class CountedData(VideoDataModule):
    def __init__(
        self,
        length: int = 26,
        batch_size: int = 4,
        num_workers: int = 0,
        unusable: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(frames=1, height=SIZE, width=SIZE, batch_size=batch_size, num_workers=num_workers)
        self.length = length
        self.unusable = unusable
        self._file_count = length

    def train_dataset(self) -> CountedClips:
        return CountedClips(self.length, self.unusable)

    def validation_dataset(self) -> CountedClips:
        return CountedClips(3)


class BucketedData(CountedData):
    """The same clips in three buckets, of which the last comes half as often."""

    def buckets(self, dataset: SampleDataset) -> list[Bucket]:
        if len(dataset) < 4:
            return super().buckets(dataset)
        size = self.batch_size
        parts = {"a": range(13), "b": range(13, 19), "c": range(19, 26)}
        repeats = {"a": 1, "b": 1, "c": Fraction(1, 2)}
        sizes = {"a": size, "b": size // 2, "c": size}
        return [Bucket(name, part, sizes[name], Fraction(repeats[name])) for name, part in parts.items()]


class Recorder(LightningModule):
    """Draws its noise as the real task does, and writes down what it trains on."""

    def __init__(self, reads_stepping_batches: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3 * SIZE * SIZE, 4)
        self.reads_stepping_batches = reads_stepping_batches
        self.trained: list[tuple[int, tuple[str, ...]]] = []
        self.validated: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.trained.append((self.global_step, tuple(batch["source"])))
        generator = torch.Generator().manual_seed(derive_seed("noise", 0, self.global_step))
        video = batch["video"].flatten(1)
        return self.layer(video + torch.randn(video.shape, generator=generator)).square().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0 and not self.trainer.sanity_checking:
            self.validated.append(self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.reads_stepping_batches:
            assert self.trainer.estimated_stepping_batches
        return torch.optim.AdamW(self.parameters(), lr=0.05)


class Kill(Callback):
    """Ends a run the hard way: at a step, before it is trained, or half-way into it."""

    def __init__(self, step: int, half_way: bool = False) -> None:
        self.step = step
        self.half_way = half_way

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and not self.half_way:
            raise RuntimeError("killed")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == self.step and self.half_way:
            raise RuntimeError("killed")


AT_BATCH_END = {"every_n_train_steps": 1, "save_on_train_epoch_end": False}
AT_VALIDATION_END = {"every_n_epochs": 1, "save_on_train_epoch_end": False}
AT_EPOCH_END = {"every_n_epochs": 1, "save_on_train_epoch_end": True}
ON_EXCEPTION = {"every_n_train_steps": 10**6, "save_on_exception": True, "save_on_train_epoch_end": False}


def train(
    folder: Path,
    data: VideoDataModule,
    *,
    module: Recorder | None = None,
    save: dict[str, Any] = AT_BATCH_END,
    ckpt_path: Path | None = None,
    kill: Kill | None = None,
    **options: Any,
) -> Recorder:
    """Fit a recorder in 20 steps, with checkpoints in `folder`, and give it back."""
    module = module or Recorder()
    checkpoints = ModelCheckpoint(dirpath=folder, filename="{step}", save_top_k=-1, **save)
    defaults = {
        "max_steps": 20,
        "val_check_interval": 5,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [checkpoints] + ([kill] if kill else []),
    }
    trainer = Trainer(**defaults | options)
    with pytest.raises(RuntimeError, match="killed") if kill else nullcontext():
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module


def assert_continues(resumed: Recorder, whole: Recorder, step: int) -> None:
    """It trained on what was left, validated at the same steps, and ended with the same weights."""
    assert resumed.trained == whole.trained[step:]
    assert resumed.validated == [at for at in whole.validated if at > step]
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


# 26 clips in batches of 4: Lightning's epoch is 6 steps, and batches run across the ends of the passes.
LIMITS = {
    "steps": {},
    "epochs": {"max_steps": -1, "max_epochs": 3, "val_check_interval": 1.0, "check_val_every_n_epoch": 1},
    "limited_epochs": {"limit_train_batches": 4},
    "no_validation": {"limit_val_batches": 0},
}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("step", [4, 5, 6, 11, 12])
def test_checkpoint_of_any_step_continues_exactly(tmp_path: Path, limits: str, step: int) -> None:
    options = LIMITS[limits]
    whole = train(tmp_path / "whole", CountedData(), **options)
    train(tmp_path / "cut", CountedData(), kill=Kill(step), **options)
    resumed = train(tmp_path / "cut", CountedData(), ckpt_path=tmp_path / f"cut/step={step}.ckpt", **options)
    assert_continues(resumed, whole, step)


@pytest.mark.parametrize(
    "limits,save,step",
    [
        pytest.param("steps", AT_VALIDATION_END, 5, id="after_validation_in_mid_epoch"),
        pytest.param("epochs", AT_VALIDATION_END, 6, id="after_validation_at_epoch_end"),
        pytest.param("epochs", AT_EPOCH_END, 12, id="epoch_end_of_epochs"),
        pytest.param("steps", AT_EPOCH_END, 12, id="epoch_end_of_steps"),
        pytest.param("no_validation", AT_EPOCH_END, 6, id="epoch_end_without_validation"),
    ],
)
def test_checkpoints_saved_elsewhere_continue_exactly(
    tmp_path: Path, limits: str, save: dict[str, Any], step: int
) -> None:
    options = LIMITS[limits]
    whole = train(tmp_path / "whole", CountedData(), save=save, **options)
    train(tmp_path / "cut", CountedData(), save=save, kill=Kill(step + 1), **options)
    resumed = train(tmp_path / "cut", CountedData(), save=save, ckpt_path=tmp_path / f"cut/step={step}.ckpt", **options)
    assert_continues(resumed, whole, step)


@pytest.mark.parametrize("half_way", [False, True], ids=["before_the_step", "in_the_step"])
def test_batch_in_flight_at_an_exception_is_trained_on(tmp_path: Path, half_way: bool) -> None:
    whole = train(tmp_path / "whole", CountedData())
    train(tmp_path / "cut", CountedData(), save=ON_EXCEPTION, kill=Kill(8, half_way))
    (saved,) = (tmp_path / "cut").glob("*.ckpt")
    resumed = train(tmp_path / "cut", CountedData(), save=ON_EXCEPTION, ckpt_path=saved)
    assert resumed.trained == whole.trained[8:]


@pytest.mark.parametrize("step", [4, 6])
def test_workers_change_nothing(tmp_path: Path, step: int) -> None:
    whole = train(tmp_path / "whole", CountedData(num_workers=0))
    train(tmp_path / "cut", CountedData(num_workers=2), kill=Kill(step))
    resumed = train(tmp_path / "cut", CountedData(num_workers=2), ckpt_path=tmp_path / f"cut/step={step}.ckpt")
    assert_continues(resumed, whole, step)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("step", [4, 6, 11])
def test_buckets_continue_exactly(tmp_path: Path, step: int, num_workers: int) -> None:
    whole = train(tmp_path / "whole", BucketedData())
    assert {len(sources) for _, sources in whole.trained} == {2, 4}
    train(tmp_path / "cut", BucketedData(num_workers=num_workers), kill=Kill(step))
    ckpt_path = tmp_path / f"cut/step={step}.ckpt"
    resumed = train(tmp_path / "cut", BucketedData(num_workers=num_workers), ckpt_path=ckpt_path)
    assert_continues(resumed, whole, step)


@pytest.mark.filterwarnings("ignore:files, buckets or batches have changed")
@pytest.mark.parametrize("early", [False, True], ids=["", "number_of_steps_read_early"])
def test_other_batches_go_on_with_the_next_samples_of_each_bucket(tmp_path: Path, early: bool) -> None:
    whole = train(tmp_path / "whole", BucketedData(), max_steps=60)
    train(tmp_path / "cut", BucketedData(), kill=Kill(7))
    wide = BucketedData(batch_size=8)
    train(tmp_path / "cut", wide, ckpt_path=tmp_path / "cut/step=7.ckpt", kill=Kill(12))
    module = Recorder(reads_stepping_batches=early)
    last = train(tmp_path / "cut", BucketedData(batch_size=8), module=module, ckpt_path=tmp_path / "cut/step=12.ckpt")
    unbroken = train(tmp_path / "cut", BucketedData(batch_size=8), ckpt_path=tmp_path / "cut/step=7.ckpt")
    assert last.trained == unbroken.trained[5:]

    def of_bucket(steps: list[tuple[int, tuple[str, ...]]], members: range) -> list[str]:
        return [source for _, sources in steps for source in sources if int(source.split("@")[0]) in members]

    for members in (range(13), range(13, 19), range(19, 26)):
        stream = of_bucket(whole.trained, members)
        seen = of_bucket(whole.trained[:7], members) + of_bucket(unbroken.trained, members)
        assert seen == stream[: len(seen)]


class NamedData(CountedData):
    """The clips of some names."""

    def __init__(self, names: list[int], **options: Any) -> None:
        super().__init__(length=len(names), **options)
        self.names = names

    def train_dataset(self) -> CountedClips:
        dataset = CountedClips(self.length)
        draw = dataset.draw
        dataset.draw = lambda index, epoch: draw(self.names[index], epoch)  # type: ignore[method-assign]
        return dataset

    def buckets(self, dataset: SampleDataset) -> list[Bucket]:
        if len(dataset) < 4:
            return super().buckets(dataset)
        return [Bucket("all", range(self.length), self.batch_size, keys=keys_of(map(str, self.names)))]


@pytest.mark.filterwarnings("ignore:files, buckets or batches have changed")
def test_files_may_come_and_go_between_kill_and_resume(tmp_path: Path) -> None:
    train(tmp_path, NamedData(list(range(26))), kill=Kill(10))  # in the second pass
    data = NamedData(list(range(3, 30)))
    resumed = train(tmp_path, data, ckpt_path=tmp_path / "step=10.ckpt", kill=Kill(12))
    resumed.trained += train(tmp_path, data, ckpt_path=tmp_path / "step=12.ckpt").trained
    whole = train(tmp_path / "whole", NamedData(list(range(26))), max_steps=10)
    second = [source for _, sources in whole.trained + resumed.trained for source in sources if source.endswith("@1")]
    assert {f"{name}@1" for name in range(3, 26)} <= set(second)
    assert len(second) == len(set(second))
    third = [source for _, sources in resumed.trained for source in sources if source.endswith("@2")]
    assert len(third) == len(set(third))


def test_reading_the_number_of_steps_early_does_not_move_the_order(tmp_path: Path) -> None:
    """`estimated_stepping_batches` creates the loader before the checkpoint is restored."""
    whole = train(tmp_path / "whole", CountedData())
    train(tmp_path / "cut", CountedData(), kill=Kill(9))
    module = Recorder(reads_stepping_batches=True)
    resumed = train(tmp_path / "cut", CountedData(), module=module, ckpt_path=tmp_path / "cut/step=9.ckpt")
    assert_continues(resumed, whole, 9)


@pytest.mark.filterwarnings("ignore:files, buckets or batches have changed")
def test_batch_size_may_change_on_the_way(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", CountedData())
    train(tmp_path / "cut", CountedData(), kill=Kill(10))
    data = CountedData(batch_size=8)
    resumed = train(tmp_path / "cut", data, ckpt_path=tmp_path / "cut/step=10.ckpt", max_steps=15)

    def stream(module: Recorder) -> list[str]:
        return [source for _, sources in module.trained for source in sources]

    assert [len(sources) for _, sources in resumed.trained] == [8] * 5
    assert stream(resumed) == stream(whole)[40:]


def test_interrupted_twice(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", CountedData())
    train(tmp_path / "cut", CountedData(), kill=Kill(5))
    train(tmp_path / "cut", CountedData(), ckpt_path=tmp_path / "cut/step=5.ckpt", kill=Kill(13))
    resumed = train(tmp_path / "cut", CountedData(), ckpt_path=tmp_path / "cut/step=13.ckpt")
    assert_continues(resumed, whole, 13)


def test_a_new_run_with_a_used_data_module_starts_at_the_beginning(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", CountedData())
    data = CountedData()
    train(tmp_path / "cut", data, kill=Kill(5))
    train(tmp_path / "cut", data, ckpt_path=tmp_path / "cut/step=5.ckpt", max_steps=8)
    assert train(tmp_path / "again", data).trained == whole.trained


def test_an_epoch_is_one_pass_without_losses(tmp_path: Path) -> None:
    run = train(tmp_path, CountedData(length=24), max_steps=18)
    for epoch in range(3):
        seen = [source for _, sources in run.trained[6 * epoch : 6 * epoch + 6] for source in sources]
        assert sorted(seen) == sorted(f"{index}@{epoch}" for index in range(24))


def test_fewer_clips_than_a_batch_still_train(tmp_path: Path) -> None:
    run = train(tmp_path, CountedData(length=3, batch_size=4), max_steps=6)
    assert [len(sources) for _, sources in run.trained] == [4] * 6
    seen = [source for _, sources in run.trained for source in sources]
    assert sorted(seen) == sorted(f"{index}@{epoch}" for index in range(3) for epoch in range(8))


def test_overfit_batches_repeats_them(tmp_path: Path) -> None:
    run = train(tmp_path, CountedData(), max_steps=6, overfit_batches=2)
    sources = [sources for _, sources in run.trained]
    assert sources == sources[:2] * 3
    assert sources[0] != sources[1]
    with pytest.raises(ValueError, match=r"overfit_batches is 0\.1.*whole number"):
        train(tmp_path, CountedData(), overfit_batches=0.1)


def test_unusable_files_are_named_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = CountedData(length=40, unusable=frozenset({3, 7}))
    with caplog.at_level(logging.WARNING, logger="lingen_kit"):
        train(tmp_path, data)
    assert sorted(data.skipped_report()) == [("bad3.mp4", "truncated"), ("bad7.mp4", "truncated")]
    assert sorted(caplog.messages) == ["skipped bad3.mp4: truncated", "skipped bad7.mp4: truncated"]


def test_summary_counts_and_names_what_was_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = CountedData(length=400)
    assert data.summary() is None
    data.note_unusable([("a.mp4", "truncated")])
    data.note_unusable([("a.mp4", "truncated"), ("b.mp4", "too short")])
    assert data.summary() == "2 of 400 files skipped:\n  a.mp4: truncated\n  b.mp4: too short"
    data.note_unusable((f"{number}.mp4", "truncated") for number in range(12))
    summary = data.summary() or ""
    assert summary.startswith("14 of 400 files skipped:\n  a.mp4: truncated\n")
    assert summary.endswith("7.mp4: truncated\n  and 4 more")
    data.keep_report(tmp_path)
    assert data.summary() == f"14 of 400 files skipped, see {tmp_path / 'skipped.jsonl'}"
    assert caplog.messages[0] == "skipped a.mp4: truncated"
    assert len(caplog.messages) == 3  # a message each time, not a line each file


def test_too_many_unusable_files_stop_training(tmp_path: Path) -> None:
    with pytest.raises(TooManyUnusable) as caught:
        train(tmp_path, CountedData(length=40, unusable=frozenset({3, 7, 9})))
    message = str(caught.value)
    assert "3 of 40 files (8%)" in message
    assert "max_bad_share allows 5%" in message
    assert all(f"bad{index}.mp4: truncated" in message for index in (3, 7, 9))


def test_workers_stop_with_the_run(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    train(tmp_path, CountedData(num_workers=2), kill=Kill(3))
    assert set(multiprocessing.active_children()) == before


def test_loaders_leave_the_global_random_numbers_alone() -> None:
    data = CountedData(num_workers=0)
    before = torch.get_rng_state()
    next(iter(data.train_dataloader()))
    next(iter(data.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_trainer_a_loader_goes_through_the_passes() -> None:
    loader = CountedData(length=8).train_dataloader()
    first, second = [[source for batch in loader for source in batch["source"]] for _ in range(2)]
    assert sorted(first) == [f"{index}@0" for index in range(8)]
    assert sorted(second) == [f"{index}@1" for index in range(8)]


@pytest.mark.parametrize(
    "argument,value,message",
    [
        ("frames", 0, r"data\.frames is 0; it must be at least 1"),
        ("batch_size", 0, r"data\.batch_size is 0; it must be at least 1"),
        ("num_workers", -1, r"data\.num_workers is -1; it must be at least 0"),
        ("fps", 0.0, r"data\.fps is 0\.0; it must be above 0"),
        ("fps", -8.0, r"data\.fps is -8\.0; it must be above 0"),
        ("fps", float("nan"), r"data\.fps is nan; it must be above 0 and finite, such as 8"),
        ("fps", float("inf"), r"data\.fps is inf; it must be above 0 and finite, such as 8"),
        ("samples_per_epoch", 0, r"data\.samples_per_epoch is 0"),
    ],
)
def test_bad_arguments_are_named(argument: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MovingShapes(**{argument: value})


def test_pixels_as_tokens_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"clip of 8x32x32 has 8192, and its batches hold 1. Set data\.token_size"):
        MovingShapes(batch_tokens=6144)
    assert MovingShapes(batch_tokens=6144, token_size=(1, 4, 4)).batch_size_of((8, 32, 32)) == 12


def test_ranks_compare_what_they_have_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strategy:
        root_device = torch.device("cpu")

        def __init__(self, others: int) -> None:
            self.others = others

        def all_gather(self, mine: Tensor) -> Tensor:
            return torch.stack([mine, mine, mine - self.others])

    data = CountedData(length=26)
    for others in (0, 1):
        trainer = SimpleNamespace(
            world_size=3, global_rank=0, strategy=Strategy(others), overfit_batches=0, lightning_module=None
        )
        data.trainer = trainer  # type: ignore[assignment]
        monkeypatch.setattr(data, "step", lambda: 0)
        monkeypatch.setattr(data, "_batches_trained", lambda: 0)
        if not others:
            assert len(data.train_dataloader()) == 2
            continue
        for loader in (data.train_dataloader, data.val_dataloader):
            with pytest.raises(ValueError, match=r"rank 0 has (26|3), rank 2 (25|2); all must see"):
                loader()


def test_ctrl_c_is_left_to_the_first_process() -> None:
    """A terminal sends it to the workers too, which were forked with the handlers of training."""

    class Handlers(CountedClips):
        def draw(self, index: int, epoch: int) -> Sample:
            sample = super().draw(index, epoch)
            handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            sample["source"] = str(handlers == [signal.SIG_IGN, signal.SIG_DFL])
            return sample

    data = CountedData(num_workers=1)
    data.train_dataset = lambda: Handlers(26)  # type: ignore[method-assign]
    assert next(iter(data.train_dataloader()))["source"] == ["True"] * 4


def test_moving_shapes_yields_batches_and_held_out_validation() -> None:
    data = MovingShapes(batch_size=8, samples_per_epoch=64, validation_size=12, actions=["moves left", "moves up"])

    def words(loader: TrainingLoader | ValidationLoader) -> set[tuple[str, str, str]]:
        return {
            (thing["shape"], thing["color"], thing["action"])
            for batch in loader
            for attributes in batch["attributes"]
            for thing in attributes["objects"]
        }

    batch = next(iter(data.train_dataloader()))
    assert batch["video"].shape == (8, 3, 8, 32, 32)
    assert batch["video"].dtype == torch.float32
    assert len(data.train_dataloader()) == 8
    assert len(data.val_dataloader()) == 2
    assert words(data.train_dataloader()).isdisjoint(words(data.val_dataloader()))


def test_data_sets_load_without_lightning() -> None:
    script = (
        "import sys, lingen_kit.data.shapes, lingen_kit.data.sampler, lingen_kit.data.decode;"
        "print('lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_class_paths_resolve() -> None:
    assert lingen_kit.data.MovingShapes is MovingShapes
    assert lingen_kit.data.VideoFolder.__name__ == "VideoFolder"
    with pytest.raises(AttributeError, match="NoSuchModule"):
        lingen_kit.data.NoSuchModule  # noqa: B018
