"""A model and data so small that a run of the real command line takes a second."""

from collections.abc import Callable
from pathlib import Path

import pytest

TINY = """
data:
  class_path: lingen_kit.data.MovingShapes
  init_args:
    {frames: 4, height: 16, width: 16, batch_size: 2, validation_size: 2, backgrounds: [navy]}
model:
  class_path: lingen_kit.tasks.TextToVideo
  init_args:
    denoiser:
      class_path: lingen_kit.models.Denoiser
      init_args: {dim: 32, depth: 2, patch: [1, 4, 4], mixer: lingen_kit.mixers.SelfAttention}
    text_encoder:
      class_path: lingen_kit.models.WordEncoder
      init_args: {dim: 16}
    sampler:
      class_path: lingen_kit.diffusion.Sampler
      init_args: {steps: 2}
    warmup_steps: 2
trainer: {max_steps: 4, val_check_interval: 2, check_val_every_n_epoch: null, log_every_n_steps: 1, accelerator: cpu}
checkpoint: {every_n_train_steps: 2}
"""


@pytest.fixture
def tiny(run_dir: Path) -> Path:
    """A config file in an empty current directory."""
    path = run_dir / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def lingen() -> Callable[..., None]:
    """The real front door, in this process."""
    from lingen_kit.cli import main

    return lambda *words: main([str(word) for word in words])
