"""Ctrl-C and SIGTERM lose nothing: training ends after the step it is at, with a checkpoint to resume from."""

import signal
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt(Callback):
    """Stops training cleanly at the first SIGINT or SIGTERM; a second one stops at once.

    With several ranks Lightning's own handling stays: ranks that stop at different steps would wait for each other.

    Attributes:
        received: The signal that stopped training, None if there was none.
    """

    def __init__(self) -> None:
        """Nothing is received yet."""
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of Lightning, which has begun to by now."""
        if trainer.world_size > 1:
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self.received is not None:
                raise KeyboardInterrupt
            self.received = signal.Signals(number)
            trainer.should_stop = True
            rank_zero_info(f"{self.received.name}: training ends after this step (once more to end it at once)")

        self._before = {number: signal.signal(number, stop) for number in _SIGNALS}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the others listen again."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
