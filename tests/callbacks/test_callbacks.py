"""Callbacks in real, tiny fits: what they leave behind, and that they leave training as it was."""

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, seed_everything
from lightning.pytorch.utilities import rank_zero
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import callbacks
from callbacks.ema import EMA
from callbacks.progress import Progress, StepClock
from callbacks.sampling import eval_mode
from lingen_kit.data.moving_shapes import MovingShapes

from .conftest import FakeModule, make_trainer

pytestmark = [
    # Lightning's advice on loader workers is for real training.
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


class Run:
    """A finished fit with every callback, and what it printed."""

    def __init__(self, folder: Path, data: MovingShapes) -> None:
        self.messages: list[str] = []
        self.module = FakeModule()
        self.progress = Progress(every_n_steps=2, plain=True, warmup=1)
        seed_everything(3, verbose=False)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("callbacks.log_samples", "callbacks.prompt_obedience"):
                patch.setattr(f"{name}.rank_zero_info", self.messages.append)
            self.printed = io.StringIO()
            patch.setattr("sys.stdout", self.printed)
            self.trainer = make_trainer(
                folder,
                [
                    callbacks.LogSamples(num=3, seed=5, batch_size=2),
                    callbacks.PromptObedience(num=12, every_n_validations=2, steps=4),
                    EMA(0.5),
                    self.progress,
                ],
                steps=7,
            )
            self.trainer.fit(self.module, datamodule=data)
        self.folder = folder / "run" / "version_0"
        events = EventAccumulator(str(self.folder), size_guidance={"images": 0, "scalars": 0})
        events.Reload()
        self.images = events.Images("samples")
        self.scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shapes: MovingShapes) -> Run:
    return Run(tmp_path_factory.mktemp("fit"), shapes)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, shapes: MovingShapes) -> FakeModule:
    """The same training with averaging alone."""
    module = FakeModule()
    seed_everything(3, verbose=False)
    make_trainer(tmp_path_factory.mktemp("bare"), [EMA(0.5)], steps=7, enable_progress_bar=False).fit(
        module, datamodule=shapes
    )
    return module


class TestLogSamples:
    def test_files_of_every_validation_and_of_the_end(self, run: Run) -> None:
        found = sorted(path.name for path in (run.folder / "samples").iterdir())
        assert found == [f"step={step:06d}{suffix}" for step in (2, 4, 6, 7) for suffix in (".mp4", ".png")]

    def test_the_mp4_shows_the_grid(self, run: Run) -> None:
        with av.open(str(run.folder / "samples" / "step=000007.mp4")) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            rate = float(container.streams.video[0].average_rate)
        assert len(frames) == 8
        assert rate == 8
        assert frames[0].shape == (264, 264, 3)  # 2x2 clips of 32 with a gap of 2, four times as large
        assert np.abs(frames[0].astype(int) - frames[-1]).max() > 100

    def test_the_sheet_has_a_captioned_row_a_prompt(self, run: Run) -> None:
        with Image.open(run.folder / "samples" / "step=000007.png") as image:
            assert image.size == (4 + 8 * 100, 4 + 3 * (96 + 4 + 22))

    def test_tensorboard_shows_moving_pictures(self, run: Run) -> None:
        assert [event.step for event in run.images] == [2, 4, 6, 7]
        with Image.open(io.BytesIO(run.images[-1].encoded_image_string)) as image:
            assert (image.format, image.n_frames) == ("GIF", 8)

    def test_prompts_are_the_first_validation_captions_with_the_same_seeds(
        self, run: Run, shapes: MovingShapes
    ) -> None:
        captions = [shapes.validation_dataset()[index]["caption"] for index in range(3)]
        calls = [call for call in run.module.calls if call["steps"] is None]
        assert [(call["prompts"], call["seed"]) for call in calls] == [
            (captions[:2], 5),
            (captions[2:], 7),
        ] * 4

    def test_quality_is_logged_at_each_step(self, run: Run) -> None:
        names = [name for name in run.scalars if name.startswith("quality/")]
        assert len(names) == 5
        for name in names:
            # Lightning counts a validation's scalars with the training step it follows, counted from 0.
            assert [step for step, _ in run.scalars[name]] == [1, 3, 5, 7]
            assert all(math.isfinite(value) for _, value in run.scalars[name])
        motion = run.scalars["quality/motion_short_sides_per_second"]
        assert motion[0][1] > 0.2

    def test_figures_can_be_monitored(self, run: Run) -> None:
        assert "quality/sharpness" in run.trainer.callback_metrics

    def test_paths_are_printed_at_the_end(self, run: Run) -> None:
        printed = [Path(message.removeprefix("samples: ")) for message in run.messages if "samples: " in message]
        assert [path.name for path in printed] == ["step=000007.mp4", "step=000007.png"]
        assert all(path.is_file() for path in printed)

    def test_a_full_disk_is_reported(
        self, tmp_path: Path, shapes: MovingShapes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_space(source: object, target: object) -> None:
            raise OSError(28, "No space left on device", str(target))

        trainer = make_trainer(tmp_path, [callbacks.LogSamples(num=1)], enable_progress_bar=False)
        monkeypatch.setattr(os, "replace", no_space)
        with pytest.raises(OSError, match="No space left"):
            trainer.fit(FakeModule(), datamodule=shapes)

    def test_given_prompts_rhythm_and_rate(self, tmp_path: Path, shapes: MovingShapes) -> None:
        prompts = ["a red circle moves left", "a green square moves up"]
        sampler = callbacks.LogSamples(prompts, every_n_validations=2, metrics=False, frames=8, fps=12)
        module = FakeModule()
        make_trainer(tmp_path, [sampler], steps=6, enable_progress_bar=False).fit(module, datamodule=shapes)
        assert [call["prompts"] for call in module.calls] == [
            prompts,
            prompts,
        ]  # validations 1 and 3, the last
        assert [call["frames"] for call in module.calls] == [8, 8]
        assert sampler.state_dict() == {"validations": 3}
        resumed = callbacks.LogSamples(prompts)
        resumed.load_state_dict({"validations": 3})
        assert resumed.state_dict() == {"validations": 3}

    @pytest.mark.parametrize("name", ["num", "every_n_validations", "batch_size"])
    def test_bad_numbers_are_named(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} is 0"):
            callbacks.LogSamples(**{name: 0})

    def test_no_prompts_is_refused(self) -> None:
        with pytest.raises(ValueError, match="prompts is empty"):
            callbacks.LogSamples([])


class TestPromptObedience:
    def test_an_obedient_model_scores_high(self, run: Run) -> None:
        for name in ("color", "shape", "direction", "action", "all"):
            assert [step for step, _ in run.scalars[f"obedience/{name}"]] == [3, 7]
            assert run.scalars[f"obedience/{name}"][-1][1] > 0.9

    def test_the_report_tells_what_was_seen(self, run: Run) -> None:
        report = json.loads((run.folder / "obedience.json").read_text())
        assert (report["step"], report["prompts"]) == (7, 12)
        assert report["scores"]["color"] > 0.9
        assert len(report["samples"]) == 12
        first = report["samples"][0]
        assert first["seen"]["color"] in first["prompt"]

    def test_one_line_is_printed(self, run: Run) -> None:
        [line] = [message for message in run.messages if "obedience" in message]
        assert line.startswith("obedience on 12 held-out prompts: color ")
        assert "%" in line

    def test_prompts_are_held_out_and_options_passed_on(self, run: Run, shapes: MovingShapes) -> None:
        calls = [call for call in run.module.calls if call["steps"] == 4]
        held = [prompt for prompt, _ in shapes.validation_dataset().held_out_prompts(12, 0)]
        assert [call["prompts"] for call in calls] == [held, held]

    def test_a_disobedient_model_scores_low(self, tmp_path: Path, shapes: MovingShapes) -> None:
        trainer = make_trainer(
            tmp_path,
            [callbacks.PromptObedience(num=12)],
            steps=1,
            enable_progress_bar=False,
            limit_val_batches=0,
        )
        trainer.fit(FakeModule(obeys=False), datamodule=shapes)
        scores = json.loads((tmp_path / "run" / "version_0" / "obedience.json").read_text())["scores"]
        assert scores["all"] < 0.2
        assert scores["direction"] < 0.6

    def test_other_data_is_refused_at_the_start(self, tmp_path: Path, shapes: MovingShapes) -> None:
        trainer = make_trainer(tmp_path, [callbacks.PromptObedience()], enable_progress_bar=False)
        with pytest.raises(ValueError, match=r"cannot judge no data module.*MovingShapes"):
            trainer.fit(FakeModule(), shapes.train_dataloader(), shapes.val_dataloader())

    def test_data_with_nothing_held_out_is_refused(self, tmp_path: Path) -> None:
        trainer = make_trainer(tmp_path, [callbacks.PromptObedience()], enable_progress_bar=False)
        with pytest.raises(ValueError, match=r"data\.held_out=0"):
            trainer.fit(FakeModule(), datamodule=MovingShapes(held_out=0))


class TestTrainingIsLeftAlone:
    def test_random_numbers_and_weights_are_those_without_callbacks(self, run: Run, bare: FakeModule) -> None:
        assert run.module.draws == bare.draws
        assert torch.equal(run.module.weight, bare.weight)

    def test_samples_come_from_the_average_also_at_the_end(self, run: Run) -> None:
        """The module ends with the average; the last samples were drawn before it was put there for good."""
        last = [call for call in run.module.calls if call["prompts"]][-1]
        assert last["weight"] == pytest.approx(run.module.weight.item())
        trained = 1 - 0.8**7
        assert abs(last["weight"] - trained) > 0.01

    def test_modes_come_back_one_by_one(self) -> None:
        module = FakeModule().train()
        module.frozen.eval()
        with eval_mode(module):
            assert not module.training
        assert module.training
        assert not module.frozen.training


class TestStepClock:
    def test_median_without_warmup_and_pauses(self) -> None:
        times = iter([0.0, 10.0, 11.0, 12.0, 100.0, 102.0, 104.0])
        clock = StepClock(window=10, warmup=2, now=lambda: next(times))
        for step in range(7):
            if step == 4:
                clock.pause()
            clock.step(8, 80)
            if step < 2:
                assert clock.rates() is None
        # Counted: 1 s, 1 s, (pause), 2 s, 2 s.
        assert clock.rates() == (6.0, 60.0)

    def test_window(self) -> None:
        times = iter([0.0, 1.0, 2.0, 2.5, 3.0])
        clock = StepClock(window=2, warmup=0, now=lambda: next(times))
        for _ in range(5):
            clock.step(1, 0)
        assert clock.rates() == (2.0, 0.0)


class TestProgress:
    def test_plain_lines_at_the_interval(self, run: Run) -> None:
        lines = run.printed.getvalue().splitlines()
        assert [line.split()[1] for line in lines if "validated" not in line] == ["2/7", "4/7", "6/7"]
        assert [line.split()[1] for line in lines if "validated" in line] == ["2/7", "4/7", "6/7"]
        assert all("train/loss" in line and "samples/s" in line for line in lines[2:])
        assert "\x1b" not in run.printed.getvalue()
        assert "\r" not in run.printed.getvalue()

    def test_throughput_is_logged(self, run: Run) -> None:
        samples, tokens = (dict(run.scalars[f"throughput/{name}_per_s"]) for name in ("samples", "tokens"))
        assert samples
        for step, rate in samples.items():
            assert tokens[step] == pytest.approx(7 * rate, rel=1e-5)

    def test_bar_in_a_terminal_counts_steps(
        self, tmp_path: Path, shapes: MovingShapes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The real bar, drawn to a terminal of our own; the steps go on over the epochs."""
        screen = io.StringIO()
        progress = Progress(plain=False)
        progress._console_kwargs = {"file": screen, "force_terminal": True, "width": 160}
        seen: list[tuple[float, float | None]] = []

        class Watch(Callback):
            def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *rest: Any) -> None:
                seen.append((progress.train_progress_bar.completed, progress.train_progress_bar.total))

        trainer = make_trainer(tmp_path, [progress, Watch()], steps=5, limit_train_batches=2, val_check_interval=5)
        trainer.fit(FakeModule(), datamodule=shapes)
        assert seen == [(step, 5) for step in range(1, 6)]
        drawn = screen.getvalue()
        assert "Training" in drawn
        assert "samples/s" in drawn

    @pytest.mark.parametrize("name", ["every_n_steps", "window"])
    def test_bad_numbers_are_named(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} is 0"):
            Progress(**{name: 0})


def test_messages_go_through_lightning_s_logger() -> None:
    assert rank_zero.rank_zero_info is callbacks.log_samples.rank_zero_info
