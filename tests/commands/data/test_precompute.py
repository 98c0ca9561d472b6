"""Latents and texts computed once: what training sees is what it would have computed, and nothing stale is used."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lingen_kit.checkpoint import read_checkpoint
from lingen_kit.data import CachedLatents, VideoFolder
from lingen_kit.data.latent_store import TensorReader, finished, places, read_clips
from lingen_kit.data.sample import Sample
from lingen_kit.models import Autoencoder, TextEncoder
from tests.commands.conftest import TINY
from tests.data.conftest import encode  # noqa: F401 - a fixture

SIZES = {"frames": 4, "height": 16, "width": 16, "fps": 8.0}


class Pooled(Autoencoder):
    """An autoencoder with weights: half the sides, four channels."""

    channels = 4

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, (1, 2, 2), stride=(1, 2, 2))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))

    def encode(self, video: Tensor) -> Tensor:
        return self.conv(video)

    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        return latents[:, :3].repeat_interleave(2, 3).repeat_interleave(2, 4).clamp(-1, 1)

    def latent_size(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        return size[0], size[1] // 2, size[2] // 2


class Letters(TextEncoder):
    """A pretrained text encoder, as far as the kit can tell: one token a word, nothing that trains."""

    dim = 8

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        words = [["", *prompt.split()] for prompt in prompts]
        longest = max(map(len, words))
        tokens = torch.zeros(len(prompts), longest, self.dim)
        mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
        for row, line in enumerate(words):
            for column, word in enumerate(line):
                tokens[row, column] = torch.tensor([float(word.count(letter)) for letter in "aeiourst"])
                mask[row, column] = True
        return tokens, mask


@torch.no_grad()
def encoded(sample: Sample) -> Tensor:
    return Pooled().encode(sample["video"][None])[0]


@pytest.fixture
def config(run_dir: Path, encode: Callable[..., Path]) -> Path:  # noqa: F811 - the fixture
    """A config with encoders of its own, and eight videos of just a clip's length: the middle is all that there is."""
    clips = run_dir / "clips"
    clips.mkdir()
    for number in range(8):
        length = encode(name=f"source{number}", count=4, fps=8, height=16 + 2 * number, width=24)
        shutil.move(length, clips / f"{number}.mp4")
        (clips / f"{number}.txt").write_text(f"clip number {'i' * number} of several" + " words" * (number % 3))
    here = "tests.commands.data.test_precompute"
    text = TINY.replace(
        "class_path: lingen_kit.models.WordEncoder\n      init_args: {dim: 16}", f"class_path: {here}.Letters"
    )
    text = text.replace("patch: [1, 4, 4]", "patch: [1, 2, 2]")
    text = text.replace("    warmup_steps", f"    autoencoder:\n      class_path: {here}.Pooled\n    warmup_steps")
    data = text[text.index("data:") : text.index("model:")]
    sizes = ", ".join(f"{key}: {value}" for key, value in SIZES.items())
    files = f"data:\n  class_path: lingen_kit.data.VideoFolder\n  init_args: {{root: clips, batch_size: 2, {sizes}}}\n"
    path = run_dir / "latent.yaml"
    path.write_text(text.replace(data, files))
    return path


def test_the_cache_holds_what_the_encoders_give_and_trains_alike(lingen: Callable[..., None], config: Path) -> None:
    precompute = ["data", "precompute", "--config", config, "--out", "cache", "--workers", 0, "--text"]
    lingen(*precompute)
    data = VideoFolder("clips", **SIZES)
    whole = data.dataset_of(data.clips(), vary=False)
    found, reader = places(Path("cache")), TensorReader()
    clips = read_clips(Path("cache"))
    assert [clip.name for clip in clips] == [f"{number}.mp4" for number in range(8)]
    for index, clip in enumerate(clips):
        torch.testing.assert_close(reader.read(found[clip.latents]), encoded(whole[index]))
        assert torch.equal(reader.read(found[str(clip.text)]), Letters()([clip.caption])[0][0])

    common = ["fit", "--config", config, "--trainer.limit_val_batches", 0, "--model.caption_dropout", 0.5]
    lingen(*common, "--name", "videos")
    lingen(*common, "--name", "cached", "--data", "lingen_kit.data.CachedLatents", "--data.root", "cache")
    weights = [
        read_checkpoint(f"runs/{name}/version_0/checkpoints/last.ckpt")["state_dict"] for name in ("videos", "cached")
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-5, atol=1e-6, msg=name)

    # A shard is lost: its tensors are computed again, under another name.
    (shard,) = Path("cache/parts").glob("*.safetensors")
    shard.unlink()
    with pytest.raises(SystemExit):
        lingen(*common, "--name", "torn", "--data", "lingen_kit.data.CachedLatents", "--data.root", "cache")
    lingen(*precompute)
    assert {clip.latents for clip in read_clips(Path("cache"))} <= places(Path("cache")).keys()

    # Nothing has changed: nothing is computed again. A clip more: only that one is.
    shards = {path.name: path.stat().st_mtime_ns for path in Path("cache/parts").iterdir()}
    lingen(*precompute)
    assert {
        path.name: path.stat().st_mtime_ns for path in Path("cache/parts").glob("*.safetensors")
    }.items() <= shards.items()
    shutil.copy("clips/3.mp4", "clips/copy.mp4")
    Path("clips/copy.txt").write_text("a copy")
    lingen(*precompute)
    clips = read_clips(Path("cache"))
    assert len(clips) == 9
    assert clips[8].latents == clips[3].latents  # the same bytes are stored once
    assert len({(clip.name, clip.view) for clip in finished(Path("cache"))}) == 9


def test_another_encoder_is_named(
    lingen: Callable[..., None], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("data", "precompute", "--config", config, "--out", "cache", "--workers", 0)
    other = ["--config", config, "--model.autoencoder.seed", 1]
    with pytest.raises(SystemExit):
        lingen("data", "precompute", *other, "--out", "cache")
    assert "cache was made in another way" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        lingen("fit", *other, "--data", "lingen_kit.data.CachedLatents", "--data.root", "cache")
    assert "was made by the autoencoder Pooled-" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        lingen("data", "precompute", "--config", config, "--out", "cache", "--data.fps", 4)
    assert "fps: 8.0 -> 4.0" in capsys.readouterr().err


def test_another_list_replaces_none_unasked(
    lingen: Callable[..., None], config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def built_again(options: object) -> None:
        raise AssertionError("the encoders are there already")

    monkeypatch.setattr("lingen_kit.commands.data.encoding.build_encoders", built_again)
    precompute = ["data", "precompute", "--config", config, "--out", "cache", "--workers", 0]
    lingen(*precompute, "--views", 2)
    Path("others").mkdir()
    shutil.copy("clips/6.mp4", "others/6.mp4")  # a clip that is in the cache, and one that only has a name of one
    shutil.copy("clips/0.mp4", "others/1.mp4")
    for name in ("6", "1"):
        Path(f"others/{name}.txt").write_text("another clip")
    before = Path("cache/clips.jsonl").read_bytes()
    for words, missing in ((["--data.root", "others", "--views", 2], "1.mp4"), (["--views", 1], "1.mp4, view 1")):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            lingen(*precompute, *words)
        error = capsys.readouterr().err
        assert "with --replace:\n" in error and f"\n  {missing}\n" in error and "\n  6.mp4\n" not in error
        assert Path("cache/clips.jsonl").read_bytes() == before
    lingen(*precompute, "--data.root", "others", "--replace")
    assert "no longer listed there:\n  0.mp4\n" in capsys.readouterr().out
    assert [clip.name for clip in read_clips(Path("cache"))] == ["1.mp4", "6.mp4"]
    Path("others/6.mp4").write_bytes(b"damaged since")
    lingen(*precompute, "--data.root", "others", "--data.max_bad_share", 0.5)  # named as unusable
    assert "1 of 2 files skipped, see cache/skipped.jsonl" in capsys.readouterr().out


def test_views_are_what_training_draws(lingen: Callable[..., None], config: Path, encode: Callable[..., Path]) -> None:  # noqa: F811
    shutil.move(encode(name="long", count=40, fps=8, height=16, width=40), "clips/long.mp4")
    Path("clips/long.txt").write_text("a longer clip")
    options = ["--data.crop", "random", "--data.flip", "0.5"]
    lingen("data", "precompute", "--config", config, "--out", "cache", "--workers", 0, "--views", 3, *options)
    data = VideoFolder("clips", crop="random", flip=0.5, **SIZES)
    varied = data.dataset_of(data.clips(), vary=True)
    found, reader = places(Path("cache")), TensorReader()
    views = {clip.view: clip for clip in read_clips(Path("cache")) if clip.name == "long.mp4"}
    assert views.keys() == {0, 1, 2}
    for number in (1, 2):
        expected = encoded(varied.draw(len(varied) - 1, number))
        torch.testing.assert_close(reader.read(found[views[number].latents]), expected)
    cached = CachedLatents("cache", **SIZES)
    cached.setup("fit")
    assert len(cached.train_dataset()) + 3 * len(cached.validation_dataset()) == 27


def test_a_killed_run_goes_on_and_damaged_files_are_named(
    lingen: Callable[..., None], config: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(8, 60):
        shutil.copy(f"clips/{number % 8}.mp4", f"clips/{number:02}.mp4")
        with Path(f"clips/{number:02}.mp4").open("ab") as file:
            file.write(b"\0\0\0\x08free" * number)  # other bytes, the same pictures
        Path(f"clips/{number:02}.txt").write_text("a clip")
    words = ["data", "precompute", "--config", str(config), "--out", "cache", "--workers", "1", "--batch-size", "1"]
    small = "import lingen_kit.data.latent_store as s, sys; s.StoreWriter.__init__.__defaults__ = (1,);"
    slow = "import lingen_kit.commands.data.encoding as e, time; f = e._latents;"
    slow += "e._latents = lambda *a: (time.sleep(0.05), f(*a))[1];"
    run = "from lingen_kit.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", small + slow + run, *words, "--shard-mb", "1"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(root)})
    done = Path("cache/parts")
    while process.poll() is None and len(list(done.glob("*.safetensors"))) < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(list(done.glob("*.safetensors"))) if done.is_dir() else 0
    assert before < 60
    Path("clips/59.mp4").write_bytes(b"no video")
    lingen(*words, "--data.max_bad_share", 0.5)
    assert "1 of 60 files skipped" in capsys.readouterr().out
    clips = read_clips(Path("cache"))
    assert len(clips) == 59
    assert {clip.latents for clip in clips} <= places(Path("cache")).keys()
    assert json.loads(Path("cache/about.json").read_text())["autoencoder"].startswith("Pooled-")
