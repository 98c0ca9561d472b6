"""The denoiser, its embeddings and the text encoder."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from lingen_kit.mixers import MATE, Mamba2, SelfAttention, WindowAttention
from lingen_kit.models import Denoiser, WordEncoder
from lingen_kit.models.embeddings import FactorizedPosition


def _denoiser(**options: object) -> Denoiser:
    defaults: dict = {"dim": 32, "depth": 2, "mixer": SelfAttention, "patch": (1, 2, 2)}
    return Denoiser(3, 16, (4, 8, 8), **{**defaults, **options})


def _perturb(module: torch.nn.Module) -> None:
    """Leave the zero initialisation, under which every output is zero."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))


def test_a_pattern_of_mixers_is_cycled_over_the_layers() -> None:
    model = _denoiser(depth=5, mixer=[partial(Mamba2, head_dim=16), WindowAttention])
    assert [type(block.mixer) for block in model.blocks] == [
        Mamba2,
        WindowAttention,
        Mamba2,
        WindowAttention,
        Mamba2,
    ]
    # Each mixer goes through all its kinds, whatever stands between: scan orders and window shifts still alternate.
    assert [block.mixer.layer for block in model.blocks[::2]] == [0, 1, 2]
    assert [block.mixer.shift for block in model.blocks[1::2]] == [(0, 0, 0), (4, 2, 2)]


def test_output_starts_at_zero_and_depends_on_every_input() -> None:
    model = _denoiser()
    x, t = torch.randn(2, 3, 4, 8, 8), torch.tensor([0.3, 0.6])
    text, mask = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    assert torch.equal(model(x, t, text, mask), torch.zeros_like(x))
    _perturb(model)
    y = model(x, t, text, mask)
    assert y.shape == x.shape
    for other in (
        model(x + 1, t, text, mask),
        model(x, t + 0.1, text, mask),
        model(x, t, text + torch.randn(16), mask),
    ):
        assert (other - y).abs().max() > 1e-4


def test_masked_text_has_no_influence() -> None:
    model = _denoiser()
    _perturb(model)
    x, t, text = torch.randn(1, 3, 4, 8, 8), torch.tensor([0.5]), torch.randn(1, 5, 16)
    mask = torch.tensor([[True, True, False, True, False]])
    other = torch.where(mask[..., None], text, torch.randn(1, 5, 16))
    torch.testing.assert_close(model(x, t, text, mask), model(x, t, other, mask))


def test_patches_keep_their_place() -> None:
    """A change in one pixel changes, before any mixing, exactly its own patch."""
    model = _denoiser(patch=(2, 2, 2))
    model.blocks = torch.nn.ModuleList()
    _perturb(model)
    x, t = torch.randn(1, 3, 4, 8, 8), torch.tensor([0.5])
    text, mask = torch.randn(1, 1, 16), torch.ones(1, 1, dtype=torch.bool)
    before = model(x, t, text, mask)
    x[0, 1, 3, 5, 2] += 1
    changed = (model(x, t, text, mask) - before).abs().amax((0, 1)) > 1e-7
    expected = torch.zeros(4, 8, 8, dtype=torch.bool)
    expected[2:4, 4:6, 2:4] = True
    assert torch.equal(changed, expected)


def test_smaller_videos_fit_and_larger_ones_are_refused() -> None:
    model = _denoiser(mixer=MATE)
    text, mask = torch.randn(1, 1, 16), torch.ones(1, 1, dtype=torch.bool)
    assert model(torch.randn(1, 3, 1, 4, 6), torch.tensor([0.5]), text, mask).shape == (1, 3, 1, 4, 6)
    with pytest.raises(ValueError, match=r"\(4, 4, 5\).*positional tables of \(4, 4, 4\)"):
        model(torch.randn(1, 3, 4, 8, 10), torch.tensor([0.5]), text, mask)
    with pytest.raises(ValueError, match=r"height 7.*patch size 2"):
        model(torch.randn(1, 3, 4, 7, 8), torch.tensor([0.5]), text, mask)


def test_factorized_position_is_the_sum_of_its_axes() -> None:
    position = FactorizedPosition((2, 3, 4), 5)
    t, h, w = position.tables
    torch.testing.assert_close(position(torch.zeros(1, 2, 3, 4, 5))[0, 1, 2, 3], t[1] + h[2] + w[3])


def test_prompts_are_told_apart_and_padding_is_not_seen() -> None:
    encoder = WordEncoder(16)
    _perturb(encoder)
    tokens, mask = encoder(["a red circle", "", "a blue circle moves left"])
    assert mask.sum(1).tolist() == [4, 1, 6]
    alone, _ = encoder(["a red circle"])
    torch.testing.assert_close(tokens[0, :4], alone[0])
    assert (encoder(["left of"])[0] - encoder(["of left"])[0]).abs().max() > 1e-3
    assert (encoder(["red"])[0] - encoder(["blue"])[0]).abs().max() > 1e-3
    torch.testing.assert_close(encoder(["Red"])[0], encoder(["red"])[0])


def test_hashes_do_not_depend_on_the_process() -> None:
    from lingen_kit.models.text_encoder import _hash

    assert _hash("circle", 2048) == (1401, 1200)


def test_a_block_without_modulation_is_a_plain_transformer_block() -> None:
    """Shift and scale 0 and gates 1: what adaLN adds is nothing, and nothing is scaled away."""
    block = _denoiser().blocks[0]
    _perturb(block)
    with torch.no_grad():
        block.modulation.copy_(torch.tensor([0.0, 0, 1, 0, 0, 1])[:, None].expand(6, 32))
    x, text, mask = torch.randn(1, 2, 2, 2, 32), torch.randn(1, 3, 16), torch.ones(1, 3, dtype=torch.bool)
    expected = x + block.mixer(F.rms_norm(x, (32,)))
    expected = expected + block.cross_attention(expected, text, mask)
    expected = expected + block.mlp(F.rms_norm(expected, (32,)))
    torch.testing.assert_close(block(x, torch.zeros(1, 6, 32), text, mask), expected)


def test_an_empty_prompt_reaches_every_parameter() -> None:
    """Ranks whose captions are all dropped must produce the same gradients as the others."""
    encoder = WordEncoder(16)
    encoder(["", ""])[0].sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


@pytest.mark.parametrize(
    "options", [{"depth": 0}, {"dim": 0}, {"patch": (0, 2, 2)}, {"mlp_ratio": -1.0}, {"mixer": []}], ids=str
)
def test_impossible_denoisers_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        _denoiser(**options)


def test_a_mixer_that_changes_the_shape_is_named() -> None:
    class Flat(SelfAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1]  # would broadcast

    model = Denoiser(3, 8, (2, 4, 4), dim=32, depth=1, mixer=Flat, patch=(1, 2, 2))
    with pytest.raises(ValueError, match=r"Flat returned \(1, 1, 2, 2, 32\) for tokens \(1, 2, 2, 2, 32\)"):
        model(torch.randn(1, 3, 2, 4, 4), torch.rand(1), torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool))
