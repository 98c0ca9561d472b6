"""A progress bar that says how fast training is, and plain lines where there is no terminal."""

import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console

__all__ = ["Progress", "StepClock"]


class StepClock:
    """Measures the rate of training from one step's end to the next: computing and waiting for data.

    The median over the last steps, so that the odd slow one (a checkpoint, another program) does not count.

    Args:
        window: Steps to take the median over.
        warmup: Steps not counted at the start, while kernels are chosen and caches fill.
        now: The clock, in seconds.
    """

    def __init__(self, window: int = 50, warmup: int = 3, now: Callable[[], float] = time.perf_counter) -> None:
        self._warmup = warmup
        self._now = now
        self._steps = 0
        self._last: float | None = None
        self._rates: deque[tuple[float, float]] = deque(maxlen=window)

    def pause(self) -> None:
        """Leave out the time until the next step ends: something other than training happens."""
        self._last = None

    def step(self, samples: int, tokens: int) -> None:
        """Note that a step over so many samples and tokens has ended."""
        now = self._now()
        self._steps += 1
        if self._last is not None and self._steps > self._warmup and now > self._last:
            self._rates.append((samples / (now - self._last), tokens / (now - self._last)))
        self._last = now

    def rates(self) -> tuple[float, float] | None:
        """Return samples and tokens a second, or None before the first step that counts."""
        if not self._rates:
            return None
        samples, tokens = zip(*self._rates, strict=True)
        return statistics.median(samples), statistics.median(tokens)


class Progress(RichProgressBar):
    """Progress with samples and tokens a second, as a bar or, where there is no terminal, in plain lines.

    Under `max_steps` one bar covers the whole training. `throughput/samples_per_s` and, for models that count
    their tokens (`tokens_per_sample`), `throughput/tokens_per_s` are logged: of all ranks together, the
    median over the last steps, without validation and the first steps.

    Args:
        every_n_steps: Steps between two plain lines.
        window: Steps to take the median over.
        warmup: Steps not counted at the start.
        plain: Print lines (true) or draw a bar (false); by default whichever suits the output.
        refresh_rate: Redraws of the bar a second.
        leave: Whether the bar of an epoch stays when the next begins.
    """

    def __init__(
        self,
        every_n_steps: int = 50,
        window: int = 50,
        warmup: int = 3,
        plain: bool | None = None,
        refresh_rate: int = 10,
        leave: bool = False,
    ) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=leave)
        for name, value in {"every_n_steps": every_n_steps, "window": window}.items():
            if value < 1:
                raise ValueError(f"Progress.{name} is {value}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self.plain = plain
        self._clock = StepClock(window, warmup)
        self._started = 0.0
        self._first_step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose between bar and lines."""
        super().setup(trainer, pl_module, stage)
        if self.plain is None:
            console = get_console()
            self.plain = not (console.is_terminal or console.is_jupyter)
        if self.plain:
            self.disable()

    def enable(self) -> None:
        """Show the bar again (Lightning's hook); plain lines stay plain."""
        if not self.plain:
            super().enable()

    @property
    def total_train_batches(self) -> int | float:
        """Length of the training bar: all steps under `max_steps`, else the batches of an epoch."""
        return self.trainer.max_steps if self._by_steps else super().total_train_batches

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Name what stands beside the bar: what was logged with `prog_bar`, and the rates."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        rates = self._clock.rates()
        if rates is not None:
            metrics["samples/s"] = _short(rates[0])
            if rates[1]:
                metrics["tokens/s"] = _short(rates[1])
        return metrics

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the time that the lines report."""
        super().on_train_start(trainer, pl_module)
        self._started = time.perf_counter()
        self._first_step = trainer.global_step
        self._clock.pause()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar of an epoch, unless one bar covers the whole training."""
        if not (self._by_steps and self.train_progress_bar_id is not None):
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure, log and show."""
        sharing: int = getattr(pl_module, "context_parallel", 1)  # ranks that are at work on the same samples
        samples = len(batch["caption"]) * trainer.world_size // sharing
        count_tokens = getattr(pl_module, "tokens_per_sample", None)
        self._clock.step(samples, samples * count_tokens(batch) if count_tokens else 0)
        rates = self._clock.rates()
        if rates is not None:
            pl_module.log("throughput/samples_per_s", rates[0], batch_size=samples)
            if rates[1]:
                pl_module.log("throughput/tokens_per_s", rates[1], batch_size=samples)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        step = trainer.global_step
        if step % self.every_n_steps == 0 and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._print_line(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        super().on_validation_start(trainer, pl_module)
        self._clock.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what validation found."""
        super().on_validation_end(trainer, pl_module)
        self._clock.pause()
        if not trainer.sanity_checking:
            self._print_line(trainer, pl_module, "validated, ")

    @property
    def _by_steps(self) -> bool:
        return self.trainer.max_steps > 0

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training  " if self._by_steps else super()._get_train_description(current_epoch)

    def _update(self, progress_bar_id: Any, current: int, visible: bool = True, hard: bool = False) -> None:
        if self._by_steps and progress_bar_id is not None and progress_bar_id == self.train_progress_bar_id:
            current = self.trainer.global_step
        super()._update(progress_bar_id, current, visible, hard)

    def _print_line(self, trainer: Trainer, pl_module: LightningModule, note: str = "") -> None:
        if not (self.plain and trainer.is_global_zero):
            return
        step, seconds = trainer.global_step, time.perf_counter() - self._started
        line = f"step {step}"
        if self._by_steps:
            line += f"/{trainer.max_steps}"
        if trainer.state.fn == "fit":
            line += f"  {note}{_clock_time(seconds)}"
            if self._by_steps and step > self._first_step:
                left = seconds / (step - self._first_step) * (trainer.max_steps - step)
                line += f" (left {_clock_time(left)})"
        for name, value in self.get_metrics(trainer, pl_module).items():
            line += f"  {name} {value if isinstance(value, str) else format(value, '.4g')}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _short(rate: float) -> str:
    """Write a rate with three digits: 0.82, 41.3, 950, 12.3k, 4.56M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:.3g}{letter}"
    return f"{rate:.3g}"


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(math.floor(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
