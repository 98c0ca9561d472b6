"""The training task of the autoencoder: it learns, repeats itself, counts steps once, and measures reconstructions."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer

from callbacks import EMA, Checkpoint, LogReconstructions
from lingen_kit.data import MovingShapes
from lingen_kit.models import TAE
from lingen_kit.tasks import LPIPS, Autoencoding, PatchDiscriminator, VideoFeatures
from lingen_kit.tasks.frechet import frechet_distance
from lingen_kit.tasks.latent_losses import kl_divergence, outlier_penalty


def _task(**options: object) -> Autoencoding:
    torch.manual_seed(0)
    tae = TAE(4, (8, 8, 8), 1, fold=4, temporal_factor=4, temporal_upsampling="shuffle")
    return Autoencoding(tae, **{"frames": 4, "height": 16, "width": 16, "warmup_steps": 1} | options)


def _adversarial(**options: object) -> Autoencoding:
    torch.manual_seed(1)
    return _task(discriminator=PatchDiscriminator(4, 2), adversarial_start=2, **options)


def _data() -> MovingShapes:
    return MovingShapes(frames=4, height=16, width=16, batch_size=4, validation_size=3, backgrounds=["navy"])


def _trainer(**options: object) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", use_distributed_sampler=False, **quiet | {"limit_val_batches": 0} | options)


def test_it_learns_and_validation_is_the_same_every_time() -> None:
    task, data, trainer = _task(optimizer=partial(torch.optim.AdamW, lr=3e-3)), _data(), _trainer(limit_val_batches=1.0)
    first, second = (trainer.validate(task, data, verbose=False)[0] for _ in range(2))
    assert first == second
    _trainer(max_steps=25, gradient_clip_val=1.0).fit(task, data)
    after = trainer.validate(task, data, verbose=False)[0]
    assert set(after) == {f"validation/{name}" for name in ("loss", "psnr", "ssim", "l1", "kl", "outliers")}
    assert after["validation/psnr"] > first["validation/psnr"] + 1
    assert after["validation/l1"] < 0.8 * first["validation/l1"]
    assert task.autoencoder.latents.batches == 25
    videos = torch.stack([data.train_dataset()[i]["video"] for i in range(32)])
    latents = task.autoencoder.encode(videos)
    assert 0.3 < latents.std() < 3 and latents.mean().abs() < 1  # it lags behind weights that still change


@pytest.mark.parametrize("make", [_task, _adversarial], ids=["plain", "adversarial"])
def test_a_resumed_run_is_the_same_bit_for_bit(make: object, tmp_path: Path) -> None:
    def run(folder: str, steps: int, resume: bool, noise: int) -> tuple[dict, int]:
        task = make()
        torch.manual_seed(noise)  # what else draws numbers makes no difference
        place = {"enable_checkpointing": True, "default_root_dir": tmp_path / folder}
        trainer = _trainer(max_steps=steps, callbacks=[EMA(0.9), Checkpoint()], **place)
        last = tmp_path / folder / "checkpoints" / "last.ckpt"
        trainer.fit(task, _data(), ckpt_path=last if resume else None, weights_only=True)
        return torch.load(last, weights_only=True), trainer.global_step

    whole, steps = run("whole", 7, False, 1)
    run("parts", 4, False, 2)
    resumed, resumed_steps = run("parts", 7, True, 3)
    assert steps == resumed_steps == 7  # batches, with two optimizers as well
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(resumed[part][name], value) for name, value in whole[part].items())
    if make is _adversarial:
        states = [content["discriminator_optimizer"]["state"] for content in (whole, resumed)]
        assert states[0][0]["step"] == 5
        assert all(torch.equal(states[0][i]["exp_avg"], states[1][i]["exp_avg"]) for i in states[0])


def test_the_discriminator_starts_late_and_moves_the_autoencoder() -> None:
    def weights(steps: int, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
        task = _adversarial(**options)
        _trainer(max_steps=steps).fit(task, _data())
        critic = next(task.discriminator.parameters())
        assert not critic.requires_grad
        return critic.detach().clone(), task.autoencoder.last_layer.detach().clone()

    start = next(_adversarial().discriminator.parameters())
    before, after = weights(2), weights(4)
    assert torch.equal(before[0], start) and not torch.equal(after[0], start)
    assert not torch.equal(after[1], weights(4, adversarial_weight=0.0)[1])
    assert not torch.equal(after[1], weights(4, adversarial_adaptive=False)[1])


def test_the_adaptive_weight_evens_out_gradients() -> None:
    task = _adversarial()
    video = torch.rand(1, 3, 4, 16, 16)
    mean, _ = task.autoencoder.posterior(video)
    rebuilt = task.autoencoder.reconstruct(mean)
    parts = {"l1": (rebuilt - video).abs().mean(), "adversarial": 7 * rebuilt.square().mean()}
    weight = task._adversarial_weight(parts)
    norms = [
        torch.autograd.grad(part, task.autoencoder.last_layer, retain_graph=True)[0].norm() for part in parts.values()
    ]
    torch.testing.assert_close(weight * norms[1], 0.1 * norms[0], rtol=1e-3, atol=0)


def test_losses_of_latents() -> None:
    x = torch.randn(2, 3, 2, 8, 8, dtype=torch.float64)
    normal = torch.distributions.Normal(x, (0.5 * (y := torch.randn_like(x))).exp())
    reference = torch.distributions.kl_divergence(normal, torch.distributions.Normal(torch.zeros_like(x), 1)).mean()
    torch.testing.assert_close(kl_divergence(x, y), reference)
    flat = torch.zeros(1, 1, 1, 8, 8, requires_grad=True)
    outlier_penalty(flat).backward()
    assert flat.grad.isfinite().all()
    spot = torch.randn(1, 1, 1, 8, 8).clamp(-1, 1)
    assert outlier_penalty(spot) == 0
    spot[..., 3, 3] = 20
    std, distance = spot.std(correction=0), 20 - spot.mean()
    torch.testing.assert_close(outlier_penalty(spot), (distance - 3 * std) / 64, rtol=1e-3, atol=0)


def test_frechet_distance_of_normals() -> None:
    x, y = torch.randn(4000, 3, dtype=torch.float64), 2 * torch.randn(4000, 3, dtype=torch.float64) + 1
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y) == pytest.approx(3 * 1 + 3 * (2 - 1) ** 2, rel=0.1)
    cx, cy = torch.cov(x.T), torch.cov(y.T)
    root = torch.linalg.eigvals(cx @ cy).sqrt().real.sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + cx.trace() + cy.trace() - 2 * root
    torch.testing.assert_close(frechet_distance(x, y), expected)
    assert math.isnan(frechet_distance(x[:1], y))


def test_networks_with_weights_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS and the video features: read from files, differentiable where needed, in no checkpoint."""
    from torchvision.models import vgg
    from torchvision.models import video as video_models

    # Both networks a few channels wide: the real ones have tens of millions of weights.
    monkeypatch.setitem(vgg.cfgs, "D", [8 if isinstance(width, int) else width for width in vgg.cfgs["D"]])
    torch.manual_seed(0)
    features = vgg.make_layers(vgg.cfgs["D"])
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, tmp_path / "vgg.pth")
    real_load = torch.load

    def narrow(path: object, **options: object) -> dict:
        content = real_load(path, **options)
        return {k: v[:, :8] if k.startswith("lin") else v for k, v in content.items()}

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", narrow)
        tiny = SimpleNamespace(features=vgg.make_layers(vgg.cfgs["D"]).to("meta"))
        patch.setattr("torchvision.models.vgg16", lambda: tiny)
        lpips = LPIPS(str(tmp_path / "vgg.pth"))
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    y = torch.rand(2, 3, 32, 32)
    assert lpips(x, x) == 0
    lpips(x, y).backward()
    assert x.grad.abs().sum() > 0

    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())
    network.fc = torch.nn.Linear(3, 3)
    monkeypatch.setattr(video_models, "r3d_18", lambda: network)
    torch.save(network.state_dict(), tmp_path / "r3d.pth")
    seen = VideoFeatures(str(tmp_path / "r3d.pth"))
    task = _task(perceptual=lpips, video_features=seen)
    assert {name.split(".")[0] for name in task.state_dict()} == {"autoencoder"}
    figures = _trainer(limit_val_batches=1.0).validate(task, _data(), verbose=False)[0]
    assert figures["validation/perceptual"] > 0 and figures["validation/frechet_r3d18"] >= 0
    with pytest.raises(FileNotFoundError, match=r"gone.pth do not exist; https"):
        VideoFeatures("gone.pth")
    with pytest.raises(ValueError, match="of another network"):
        VideoFeatures(str(tmp_path / "vgg.pth"))


def test_reconstructions_are_logged(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger

    task, logger = _task(), TensorBoardLogger(tmp_path, name="run", version=0)
    _trainer(max_steps=2, val_check_interval=2, check_val_every_n_epoch=None, limit_val_batches=1, logger=logger,
             callbacks=[EMA(0.5), LogReconstructions(2)], log_every_n_steps=1).fit(task, _data())  # fmt: skip
    names = [path.name for path in sorted((tmp_path / "run" / "version_0" / "samples").iterdir())]
    assert names == ["step=000002.mp4", "step=000002.png"]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="kl_weight -1"):
        _task(kl_weight=-1)
    with pytest.raises(ValueError, match="height 12 is not divisible"):
        _task(height=12)
    with pytest.raises(ValueError, match="cached latents"):
        _task().training_step({"latents": torch.zeros(1, 4, 1, 2, 2), "caption": ["a"]}, 0)


CLIPS = """
data:
  class_path: lingen_kit.data.MovingShapes
  init_args: {frames: 4, height: 16, width: 16, batch_size: 2, validation_size: 2, backgrounds: [navy]}
trainer: {max_steps: 2, val_check_interval: 2, check_val_every_n_epoch: null, log_every_n_steps: 1, accelerator: cpu}
"""
OPTIONS = "{channels: 4, dims: [8, 8, 8], blocks: 1, fold: 4, temporal_factor: 4, temporal_upsampling: shuffle"
AUTOENCODER = f"""
model:
  class_path: lingen_kit.tasks.Autoencoding
  init_args: {{autoencoder: {{class_path: lingen_kit.models.TAE, init_args: {OPTIONS}}}}}}}
"""
LATENT = f"""
model:
  class_path: lingen_kit.tasks.TextToVideo
  init_args:
    autoencoder:
      class_path: lingen_kit.models.TAE
      init_args: {OPTIONS}, weights: runs/tae/version_0/checkpoints/last.ckpt}}
    denoiser:
      class_path: lingen_kit.models.Denoiser
      init_args: {{dim: 32, depth: 1, patch: [1, 1, 1], mixer: lingen_kit.mixers.SelfAttention}}
    sampler: {{class_path: lingen_kit.diffusion.Sampler, init_args: {{steps: 2}}}}
"""


def test_a_latent_model_is_trained_on_it_and_needs_its_files_no_more(run_dir: Path) -> None:
    """Through the real command line; the autoencoder's average is what the latent model carries."""
    from lingen_kit.checkpoint import load_pipeline, read_checkpoint
    from lingen_kit.cli import main

    Path("tae.yaml").write_text(CLIPS + AUTOENCODER)
    Path("latent.yaml").write_text(CLIPS + LATENT)
    main(["fit", "--config", "tae.yaml"])
    trained = read_checkpoint("runs/tae/version_0/checkpoints/last.ckpt")
    assert trained["global_step"] == 2
    main(["validate", "--config", "tae.yaml", "--ckpt_path", "last"])
    main(["fit", "--config", "latent.yaml"])
    Path("runs/tae/version_0/checkpoints/last.ckpt").unlink()
    last = "runs/latent/version_0/checkpoints/last.ckpt"
    pipeline = load_pipeline(last)
    for name, value in pipeline.autoencoder.state_dict().items():
        assert torch.equal(value, trained["state_dict"][f"autoencoder.{name}"])
    assert pipeline.autoencoder.latents.batches == 2
    assert pipeline(["a red circle"]).shape == (1, 3, 4, 16, 16)
    with pytest.warns(UserWarning, match="schedule_steps: 2 -> 3"):
        main(["fit", "--config", "latent.yaml", "--trainer.max_steps", "3", "--ckpt_path", "last"])
    assert read_checkpoint(last)["global_step"] == 3


def test_a_repeated_sample_does_not_count_and_nan_stays() -> None:
    for name, metric in Autoencoding(frames=4, height=16, width=16).validated.items():
        metric.update(torch.tensor(1.0), weight=1.0)
        metric.update(torch.tensor(9.0), weight=0.0)
        assert metric.compute() == 1, name
        metric.update(torch.tensor(float("nan")), weight=1.0)
        assert metric.compute().isnan(), name
