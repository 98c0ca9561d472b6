"""Autoencoders of diffusers, tiny and random, through the real way of loading them."""

from pathlib import Path

import pytest
import torch

from lingen_kit.models.diffusers_autoencoder import DiffusersAutoencoder

diffusers = pytest.importorskip("diffusers")

WIDTHS = (4, 4, 4, 4)
KINDS = {
    "AutoencoderKLWan": (
        {"base_dim": 2, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, "latents_mean": [0.1, 0.2, 0.3, 0.4],
         "latents_std": [2.0] * 4}, 4,
    ),
    "AutoencoderKLLTXVideo": (
        {"latent_channels": 4, "block_out_channels": WIDTHS, "decoder_block_out_channels": WIDTHS, "patch_size": 1,
         "layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5, "scaling_factor": 2.0,
         "timestep_conditioning": True}, 8,
    ),
    "AutoencoderKLCosmos": (
        {"latent_channels": 4, "encoder_block_out_channels": WIDTHS, "decode_block_out_channels": WIDTHS,
         "attention_resolutions": (8,), "resolution": 64, "num_layers": 1, "latents_mean": [0.1] * 8,
         "latents_std": [2.0] * 8}, 8,
    ),
    "AutoencoderKLCogVideoX": (
        {"block_out_channels": WIDTHS, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}, 4,
    ),
    "AutoencoderKLHunyuanVideo": (
        {"latent_channels": 4, "block_out_channels": WIDTHS, "layers_per_block": 1, "norm_num_groups": 2}, 4,
    ),
    "AutoencoderKL": (
        {"block_out_channels": WIDTHS, "down_block_types": ("DownEncoderBlock2D",) * 4, "latent_channels": 4,
         "up_block_types": ("UpDecoderBlock2D",) * 4, "norm_num_groups": 2, "shift_factor": 0.1}, 1,
    ),
}  # fmt: skip


def _save(name: str, folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    network = getattr(diffusers, name)(**KINDS[name][0])
    network.save_pretrained(folder / "vae")
    return network.eval()


@pytest.mark.parametrize("name", KINDS)
def test_sizes_and_scales_are_the_models(name: str, tmp_path: Path) -> None:
    network = _save(name, tmp_path)
    autoencoder = DiffusersAutoencoder(name, str(tmp_path))
    assert (autoencoder.spatial_factor, autoencoder.temporal_factor, autoencoder.channels) == (8, KINDS[name][1], 4)
    assert not autoencoder.state_dict() and not list(autoencoder.parameters())
    for frames in (1, 6, 9):
        video = torch.rand(1, 3, frames, 16, 24) * 2 - 1
        latents = autoencoder.encode(video)
        assert latents.shape[2:] == autoencoder.latent_size((frames, 16, 24))
        assert autoencoder.decode(latents, frames).shape == video.shape
    if name == "AutoencoderKLWan":
        raw = network.encode(video).latent_dist.mode()
        expected = (raw - torch.tensor([0.1, 0.2, 0.3, 0.4]).view(4, 1, 1, 1)) / 2
        torch.testing.assert_close(latents, expected)
        torch.testing.assert_close(autoencoder.decode(latents), network.decode(raw).sample.clamp(-1, 1))
    if name == "AutoencoderKL":
        raw = network.encode(video[:, :, 3]).latent_dist.mode()
        torch.testing.assert_close(latents[:, :, 3], (raw - 0.1) * network.config.scaling_factor)


def test_lengths_and_tiles(tmp_path: Path) -> None:
    _save("AutoencoderKLWan", tmp_path)
    autoencoder = DiffusersAutoencoder("AutoencoderKLWan", str(tmp_path), tiling=True)
    assert autoencoder.latent_size((272, 64, 64)) == (69, 8, 8)
    assert autoencoder.decode(torch.zeros(1, 4, 3, 2, 2)).shape[2] == 9
    with pytest.raises(ValueError, match="5 frames cannot be decoded from 3 latent frames, which stand for 6 to 9"):
        autoencoder.decode(torch.zeros(1, 4, 3, 2, 2), 5)
    with pytest.raises(ValueError, match="height 20 is not divisible by 8"):
        autoencoder.latent_size((5, 20, 16))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no autoencoder UNet2DModel"):
        DiffusersAutoencoder("UNet2DModel", str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot be loaded.*Check that it holds config.json"):
        DiffusersAutoencoder("AutoencoderKLWan", str(tmp_path))
    with pytest.raises(ValueError, match=r"AutoencoderKLWan of nobody/nothing cannot be loaded.*HF_HUB_OFFLINE"):
        DiffusersAutoencoder("AutoencoderKLWan", "nobody/nothing")
