"""FLOPs by formula against what runs, and against the counts of LinGen that are known."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.config import build_pipeline, read_config
from lingen_kit.mixers import MATE, Mamba2, SelfAttention, WindowAttention
from lingen_kit.models import Denoiser
from lingen_kit.models.denoiser import linear_flops

ROOT = Path(__file__).parents[2]
SIZE, TEXT = (4, 6, 8), 5


def _count(denoiser: Denoiser) -> tuple[int, int]:
    """Matrix products that ran: all, and those of the mixers."""
    x, t = torch.randn(1, 3, *SIZE), torch.rand(1)
    text, mask = torch.randn(1, TEXT, 16), torch.ones(1, TEXT, dtype=torch.bool)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        denoiser(x, t, text, mask)
    counts = counter.get_flop_counts()
    mixers = sum(sum(ops.values()) for name, ops in counts.items() if name.endswith(".mixer"))
    return counter.get_total_flops(), mixers


@pytest.mark.parametrize("mixer", [SelfAttention, partial(WindowAttention, window=(2, 3, 2), shift=False)])
def test_every_product_of_an_attention_denoiser_is_counted(mixer: object) -> None:
    denoiser = Denoiser(3, 16, SIZE, dim=24, depth=2, mixer=mixer, patch=(2, 1, 2), mlp_ratio=2.3)
    assert denoiser.flops(SIZE, TEXT) == _count(denoiser)[0]


@pytest.mark.parametrize("mixer", [partial(Mamba2, head_dim=16), partial(MATE, ma=partial(Mamba2, head_dim=16))])
def test_around_any_mixer_every_product_is_counted(mixer: object) -> None:
    """A recurrence is counted by its definition, which is not how it is run; all else must agree."""
    denoiser = Denoiser(3, 16, SIZE, dim=32, depth=3, mixer=mixer, patch=(1, 2, 2))
    everything, mixers = _count(denoiser)
    by_formula = sum(block.mixer.flops(denoiser.grid(SIZE)) for block in denoiser.blocks)
    assert denoiser.flops(SIZE, TEXT) - by_formula == everything - mixers


def _paper(name: str, *words: str) -> Denoiser:
    """The paper's model on latents, with text as wide as the tokens."""
    files = [ROOT / "experiments" / "recipes" / "own_videos.yaml", ROOT / "experiments" / "paper" / f"{name}_4b.yaml"]
    text = ["--model.text_encoder=lingen_kit.models.WordEncoder", "--model.text_encoder.dim=2560"]
    options = read_config(files, ["--model.denoiser.patch=[1,2,2]", *text, *words])
    with torch.device("meta"):
        return build_pipeline({**options, "frames": 136, "height": 64, "width": 112}).denoiser


# Self-attention over MATE, self-attention over its MA-branch, whole DiT over whole LinGen, at 256 text tokens and with
# windows of 256 tokens that divide the grid. The shipped ones, 8x4x4, hold 128.
RATIOS = {
    "512x512, 17 s": ((34, 64, 64), 2.70, 4.24, 1.90),
    "512x512, 68 s": ((136, 64, 64), 9.76, 15.33, 5.65),
    "512x896, 17 s": ((34, 64, 112), 4.47, 7.01, 2.84),
    "512x896, 68 s": ((136, 64, 112), 16.82, 26.43, 9.40),
}


@pytest.fixture(scope="module")
def papers() -> tuple[Denoiser, Denoiser]:
    return _paper("dit"), _paper("lingen", "--model.denoiser.mixer.te.window=[2,16,8]")


@pytest.mark.parametrize(("size", "mate", "ma", "whole"), RATIOS.values(), ids=RATIOS.keys())
def test_the_savings_of_the_papers_model(
    papers: tuple[Denoiser, Denoiser], size: tuple[int, int, int], mate: float, ma: float, whole: float
) -> None:
    dit, lingen = papers
    grid = dit.grid(size)
    mixer = lingen.blocks[0].mixer
    # That count puts the review tokens through the output projection too; we drop them before it.
    review = mixer.ma.sequence_length(grid) - math.prod(grid)
    dropped = linear_flops(review, mixer.ma.out_proj)
    attention = dit.blocks[0].mixer.flops(grid)
    assert (
        attention / (mixer.flops(grid) + dropped),
        attention / (mixer.ma.flops(grid) + dropped),
        dit.flops(size, 256) / (lingen.flops(size, 256) + len(lingen.blocks) * dropped),
    ) == pytest.approx((mate, ma, whole), rel=0.003)
