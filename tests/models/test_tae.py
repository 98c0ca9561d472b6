"""The temporal autoencoder: pieces and tiles equal the whole, sizes follow the factors, weights travel."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lingen_kit.models import TAE
from lingen_kit.models.latent_scale import LatentScale, channel_moments
from lingen_kit.models.tae_layers import TemporalConv
from lingen_kit.models.tiles import tiles
from lingen_kit.models.weights import load_weights, weights_follow

SMALL = {"channels": 4, "dims": (8, 8, 8, 8), "blocks": 1}
KINDS = {
    "default": {},
    "causal": {"causal": True},
    "shuffle": {"temporal_upsampling": "shuffle"},
    "causal shuffle": {"causal": True, "temporal_upsampling": "shuffle"},
    "fold 2, 4 frames": {"fold": 2, "dims": (8, 8, 8), "temporal_factor": 4},
    "2 frames": {"temporal_factor": 2},
    "no time": {"temporal_factor": 1},
}


def _tae(**options: object) -> TAE:
    """With weights that matter everywhere: those of the start ignore neighboring frames."""
    torch.manual_seed(0)
    tae = TAE(**{**SMALL, **options})
    with torch.no_grad():
        for parameter in tae.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return tae.requires_grad_(False)


def _like(tae: TAE, **options: object) -> TAE:
    twin = _tae(**options)
    twin.load_state_dict(tae.state_dict())
    return twin


def _video(frames: int, height: int = 8, width: int = 16) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width) * 2 - 1


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_pieces_of_a_video_give_what_the_whole_gives(kind: dict) -> None:
    whole = _tae(**kind, tile_frames=None)
    for at_once, frames in ((1, 5), (3, 17), (8, 1)):
        pieces, video = _like(whole, **kind, tile_frames=at_once), _video(frames)
        latents = whole.encode(video)
        assert latents.shape[2:] == whole.latent_size((frames, 8, 16))
        torch.testing.assert_close(pieces.encode(video), latents, rtol=0, atol=1e-5)
        rebuilt = whole.decode(latents, frames)
        assert rebuilt.shape == video.shape
        torch.testing.assert_close(pieces.decode(latents, frames), rebuilt, rtol=0, atol=1e-5)


def test_tiles_that_see_all_that_matters_equal_the_whole() -> None:
    options = {"dims": (8, 8, 8), "fold": 2, "temporal_factor": 4}
    whole, video = _tae(**options), _video(5, 16, 320)
    latents = whole.encode(video)
    rebuilt = whole.decode(latents)
    tiled = _like(whole, **options, tile_size=256, tile_frames=2)
    assert len(tiled._tiles(tiled.latent_size((5, 16, 320)))) > 1
    torch.testing.assert_close(tiled.encode(video), latents, rtol=0, atol=1e-5)
    torch.testing.assert_close(tiled.decode(latents), rebuilt, rtol=0, atol=1e-5)
    seams = [
        (_like(whole, **options, tile_size=96, tile_overlap=o).decode(latents) - rebuilt).abs().max() for o in (0, 16)
    ]
    assert seams[0] > seams[1]  # and without any overlap there is a seam to see
    assert seams[0] > 1e-3


@pytest.mark.parametrize(("length", "size", "margin"), [(40, 12, 3), (7, 12, 3), (13, 12, 3), (41, 9, 4), (20, 5, 0)])
def test_tiles_cover_a_line_once(length: int, size: int, margin: int) -> None:
    found = tiles(length, size, margin)
    assert [place for tile in found for place in range(length)[tile.core]] == list(range(length))
    for tile in found:
        assert tile.seen.stop - tile.seen.start <= size
        assert tile.seen.start == max(0, tile.core.start - margin)
        assert tile.seen.stop == min(length, tile.core.stop + margin)
        assert list(range(length)[tile.seen][tile.core_of_seen()]) == list(range(length)[tile.core])


def test_gradients_do_not_depend_on_pieces() -> None:
    conv = TemporalConv(3, 6)
    torch.nn.init.normal_(conv.weight)
    x = torch.randn(1, 3, 7, 2, 2)
    expected = torch.nn.functional.conv3d(
        torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2), conv.weight[..., None, None], conv.bias
    )
    pieces = iter([(x[:, :, :2], False), (x[:, :, 2:3], False), (x[:, :, 3:], True)])
    streamed = torch.cat([out for out, _ in conv.stream(pieces)], 2)
    torch.testing.assert_close(streamed, expected)
    torch.testing.assert_close(conv(x), expected)
    for out in (streamed, expected):
        conv.weight.grad = None
        out.square().sum().backward()
        gradient = conv.weight.grad if out is streamed else gradient  # noqa: F821
    torch.testing.assert_close(gradient, conv.weight.grad)


def test_a_causal_latent_sees_no_later_frame_and_a_frame_no_later_latent() -> None:
    for causal in (True, False):
        tae, video = _tae(causal=causal, tile_frames=None), _video(24)
        latents, changed = tae.encode(video), video.clone()
        changed[:, :, 16:] *= -1
        same = [torch.equal(a, b) for a, b in zip(latents.unbind(2), tae.encode(changed).unbind(2), strict=True)]
        assert same == ([True, True, False] if causal else [False] * 3)
        other = latents.clone()
        other[:, :, 2:] *= -1
        before, after = tae.decode(latents), tae.decode(other)
        assert torch.equal(before[:, :, :16], after[:, :, :16]) is causal


def test_an_image_is_a_video_of_one_frame_repeated() -> None:
    for kind in KINDS.values():
        tae, image = _tae(**kind), _video(1)
        still = image.expand(-1, -1, 8, -1, -1)
        latents = tae.encode(image)
        torch.testing.assert_close(latents, tae.encode(still)[:, :, :1], rtol=0, atol=1e-5)
        assert tae.decode(latents, 1).shape == image.shape


def test_the_default_compresses_as_the_paper_says() -> None:
    with torch.device("meta"):
        tae = TAE()
    for frames, latent_frames in ((272, 34), (544, 68), (1088, 136), (1, 1), (9, 2)):
        assert tae.latent_size((frames, 256, 448)) == (latent_frames, 32, 56)
    assert tae.channels == 16
    assert sum(p.numel() for p in tae.parameters()) == 109_836_641
    with pytest.raises(ValueError, match=r"17 frames cannot be decoded from 2 latent frames, which stand for 9 to 16"):
        tae._frames(torch.empty(1, 16, 2, 1, 1), 17)


def test_what_cannot_be_is_refused() -> None:
    for options, message in (
        ({"dims": (8, 8)}, "dims gives 2 levels.*need 4"),
        ({"temporal_factor": 6}, "temporal_factor 6 must be a power of 2"),
        ({"fold": 3}, "fold 3 must divide"),
        ({"tile_frames": 0}, "tile_frames 0"),
        ({"tile_size": 100}, "tile_size 100 must be a multiple of spatial_factor 8"),
        ({"tile_size": 128}, "tile_size 128 leaves nothing between its overlaps.*choose at least"),
        ({"latent_std": 1.0}, "go together"),
        ({"latent_std": [1.0], "latent_mean": 0.0}, "latent_std has 1 values for 4 channels"),
        ({"latent_std": 0.0, "latent_mean": 0.0}, "above 0"),
        ({"weights": "none.ckpt"}, "none.ckpt do not exist"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            TAE(**{**SMALL, **options})
    with pytest.raises(ValueError, match="width 20 is not divisible by the autoencoder's spatial_factor 8"):
        _tae().encode(torch.zeros(1, 3, 1, 16, 20))


def test_latents_are_scaled_by_what_was_measured() -> None:
    scale = LatentScale(2)
    data = torch.randn(64, 2, 3, 4, 4) * torch.tensor([3.0, 0.1]).view(2, 1, 1, 1) + 5
    for batch in data.split(16):
        scale.update(channel_moments(batch))
    scaled = scale.scale(data)
    torch.testing.assert_close(channel_moments(scaled), torch.tensor([[0.0, 0.0], [1.0, 1.0]]), rtol=0, atol=1e-3)
    torch.testing.assert_close(scale.unscale(scaled), data)
    fixed = _tae(latent_mean=1.0, latent_std=[1.0, 2.0, 3.0, 4.0])
    fixed.latents.update(torch.zeros(2, 4))
    assert fixed.latents.unscale(torch.ones(1, 4)).tolist() == [[2.0, 3.0, 4.0, 5.0]]


def test_weights_come_from_checkpoints_and_safetensors(tmp_path: Path) -> None:
    tae = _tae()
    tae.latents.update(torch.stack([torch.ones(4), torch.full((4,), 5.0)]))
    state = tae.state_dict()
    files = {name: tmp_path / name for name in ("task.ckpt", "video.ckpt", "a.safetensors", "model.safetensors")}
    torch.save(
        {"state_dict": {f"autoencoder.{k}": v for k, v in state.items()} | {"other": torch.ones(1)}}, files["task.ckpt"]
    )
    torch.save({"state_dict": {f"pipeline.autoencoder.{k}": v for k, v in state.items()}}, files["video.ckpt"])
    for name in ("a.safetensors", "model.safetensors"):
        save_file(state, files[name])
    for path in (*files.values(), tmp_path):
        loaded = TAE(**SMALL, weights=str(path))
        assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    with pytest.raises(
        ValueError, match=r"a.safetensors do not fit TAE: \d+ of \d+ tensors differ, the first is .*in the"
    ):
        TAE(**{**SMALL, "channels": 5}, weights=str(files["a.safetensors"]))
    with weights_follow():
        TAE(**SMALL, weights="gone.ckpt")
    with torch.device("meta"):
        TAE(**SMALL, weights="gone.ckpt")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    (tmp_path / "bad.ckpt").write_bytes(b"no")
    (tmp_path / "empty").mkdir()
    for name, message in (("bad.safetensors", "cannot be read"), ("bad.ckpt", "cannot be read"), ("empty", "holds no")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_weights(tae, tmp_path / name)


def test_pixels_do_not_reach_farther_than_the_overlap() -> None:
    """The reach that tiles rely on, against gradients."""
    tae = _tae(fold=2, dims=(8, 8, 8), temporal_factor=4).requires_grad_(True)
    reach = tae.tiling.overlap
    latents = torch.zeros(1, 4, 1, 1, 41, requires_grad=True)
    tae.reconstruct(latents, 1)[..., 160:168].sum().backward()
    touched = latents.grad.abs().sum((0, 1, 2, 3)).nonzero().flatten() * 8
    assert 160 - reach <= touched.min() and touched.max() <= 160 + reach
    assert reach - (160 - touched.min()) <= 24 and math.isfinite(reach)
