"""Training with pretrained text encoders: what is saved, averaged and loaded again, and captions encoded beforehand."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from callbacks.ema import EMA
from lingen_kit.checkpoint import load_pipeline, read_checkpoint
from lingen_kit.cli import main
from lingen_kit.data import MovingShapes
from lingen_kit.mixers import SelfAttention
from lingen_kit.models import Denoiser, JointEncoder, TextEncoder, TransformersEncoder
from lingen_kit.models.frozen import frozen_networks
from lingen_kit.tasks import TextToVideo
from tests.commands.conftest import TINY
from tests.models.text_models import KINDS, write_model

pytest.importorskip("transformers", reason='transformers is not installed: pip install "lingen_kit[test]"')


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("text")
    return {kind: str(write_model(kind, root / kind)) for kind in KINDS}


def _encoder(kind: str, folders: dict[str, str]) -> TextEncoder:
    if kind == "joint":
        return JointEncoder([TransformersEncoder(folders["bert"]), TransformersEncoder(folders["clip"])], dim=12)
    return TransformersEncoder(folders[kind], cache=100)


def _task(encoder: TextEncoder) -> TextToVideo:
    denoiser = partial(Denoiser, dim=16, depth=1, mixer=SelfAttention, patch=(1, 4, 4))
    optimizer = partial(torch.optim.AdamW, lr=0.01)
    return TextToVideo(
        denoiser, encoder, frames=2, height=16, width=16, optimizer=optimizer, warmup_steps=1, caption_dropout=0.5
    )


@pytest.mark.parametrize("kind", [*KINDS, "joint"])
def test_a_checkpoint_holds_what_was_trained_and_no_more(kind: str, folders: dict[str, str], tmp_path: Path) -> None:
    task = _task(_encoder(kind, folders))
    frozen = {name: network.state_dict() for name, network in frozen_networks(task)}
    before = {name: {key: value.clone() for key, value in state.items()} for name, state in frozen.items()}
    start = {name: value.clone() for name, value in task.state_dict().items()}
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, use_distributed_sampler=False, callbacks=[EMA(0.9)], max_steps=3,
                      limit_val_batches=1, val_check_interval=2, check_val_every_n_epoch=None)  # fmt: skip
    trainer.fit(task, MovingShapes(frames=2, height=16, width=16, batch_size=3, validation_size=3))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]

    trained = "pipeline.text_encoder.projections."
    of_encoder = [name for name in saved if name.startswith("pipeline.text_encoder.")]
    assert all(name.startswith(trained) for name in of_encoder) and bool(of_encoder) == (kind == "joint")
    assert all(not torch.equal(saved[name], start[name]) for name in of_encoder if name.endswith("weight"))
    for name, state in frozen.items():
        assert all(torch.equal(value, before[name][key]) for key, value in state.items())

    other = _task(_encoder(kind, folders))
    other.load_state_dict(saved, strict=True)
    prompts = ["a red circle moves left", ""]
    for ours, theirs in zip(task.pipeline.text_encoder(prompts), other.pipeline.text_encoder(prompts), strict=True):
        assert torch.equal(ours, theirs)


def _config(path: Path, encoder: str) -> Path:
    """The tiny config with another text encoder, on the images of a folder."""
    text = TINY.replace("class_path: lingen_kit.models.WordEncoder\n      init_args: {dim: 16}", encoder)
    data = text[text.index("data:") : text.index("model:")]
    images = (
        "data:\n  class_path: lingen_kit.data.ImageFolder\n"
        "  init_args: {root: images, height: 16, width: 16, batch_size: 2, validation_share: 0.3}\n"
    )
    path.write_text(text.replace(data, images))
    return path


def _run(*words: object) -> None:
    main([str(word) for word in words])


def test_captions_encoded_beforehand_train_alike(
    folders: dict[str, str], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / "images").mkdir()
    for number in range(6):
        pixels = np.full((16, 16, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(run_dir / "images" / f"{number}.png")
        (run_dir / "images" / f"{number}.txt").write_text("a red circle and the blue square moves up"[: 9 + 6 * number])
    encoder = "class_path: lingen_kit.models.TransformersEncoder\n      init_args: {model: %s, cache: 9}"
    config = _config(run_dir / "bert.yaml", encoder % folders["bert"])
    _run("data", "precompute", "--config", config, "--out", "cache", "--workers", 0, "--text")
    fit = ["fit", "--config", config, "--trainer.limit_val_batches", 0, "--model.caption_dropout", 0.5]
    _run(*fit, "--name", "images")
    cached = ["--data", "lingen_kit.data.CachedLatents", "--data.root", "cache", "--data.frames", 1]
    _run(*fit, "--name", "cached", *cached)
    images, encoded = (
        read_checkpoint(f"runs/{name}/version_0/checkpoints/last.ckpt")["state_dict"] for name in ("images", "cached")
    )
    for (
        name,
        value,
    ) in images.items():  # to the last bit: with a cache each caption is encoded by itself, here and there
        assert torch.equal(encoded[name], value), name
    pipeline = load_pipeline("runs/cached/version_0/checkpoints/last.ckpt")
    assert pipeline(["a red circle"], steps=2).shape == (1, 3, 1, 16, 16)

    joint = """class_path: lingen_kit.models.JointEncoder
      init_args:
        dim: 12
        encoders:
          - {class_path: lingen_kit.models.TransformersEncoder, init_args: {model: %s}}
          - {class_path: lingen_kit.models.TransformersEncoder, init_args: {model: %s}}"""
    config = _config(run_dir / "joint.yaml", joint % (folders["bert"], folders["clip"]))
    with pytest.raises(SystemExit):
        _run("data", "precompute", "--config", config, "--out", "other", "--workers", 0, "--text")
    assert "the text encoder JointEncoder is trained with the model" in capsys.readouterr().err
    _run("fit", "--config", config, "--name", "joint")
    load_pipeline("runs/joint/version_0/checkpoints/last.ckpt")
