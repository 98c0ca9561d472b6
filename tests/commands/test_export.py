"""`export` of a run through the real command line, and samples from what it wrote."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lingen_kit.checkpoint import CONFIG_KEY, load_pipeline, read_checkpoint
from lingen_kit.config import build_pipeline
from lingen_kit.models import TAE
from lingen_kit.release.loading import load_model
from lingen_kit.release.source import read_source

ROOT = Path(__file__).parents[2]
CKPT = "runs/tiny/version_0/checkpoints/last.ckpt"
PROMPT = "a red circle moves left"
CONFIG = """
data:
  class_path: lingen_kit.data.MovingShapes
  init_args: {frames: 2, height: 16, width: 16, batch_size: 2, validation_size: 2, backgrounds: [navy]}
model:
  class_path: lingen_kit.tasks.TextToVideo
  init_args:
    denoiser:
      class_path: lingen_kit.models.Denoiser
      init_args: {dim: 16, depth: 1, heads: 2, patch: [1, 4, 4], mixer: lingen_kit.mixers.SelfAttention}
    text_encoder: {class_path: lingen_kit.models.WordEncoder, init_args: {dim: 16}}
    sampler: {class_path: lingen_kit.diffusion.Sampler, init_args: {steps: 2}}
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1e-2}}
    warmup_steps: 0
trainer: {max_steps: 4, val_check_interval: 4, check_val_every_n_epoch: null, log_every_n_steps: 1, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run was started in, with the scores and samples that callbacks of a longer one write."""
    from lingen_kit.cli import main

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", "tiny.yaml"])
    run = folder / "runs/tiny/version_0"
    report = {"step": 4, "prompts": 7, "seed": 0, "steps": None, "guidance": 3.0, "scores": {"all": 0.25}}
    (run / "obedience.json").write_text(json.dumps(report))
    with (run / "metrics.csv").open("a") as file:
        file.write("4,quality/motion,0.5\n9,validation/loss,0.125\n")
    (run / "samples").mkdir()
    for step in (2, 4, 9):
        (run / f"samples/step={step:06d}.png").write_bytes(b"sheet %d" % step)
    return folder


@pytest.fixture(autouse=True)
def in_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)


@pytest.mark.parametrize(("words", "key"), [((), "state_dict"), (("--weights", "raw"), "current_model_state")])
def test_average_and_trained_weights(lingen: Callable, tmp_path: Path, words: tuple[str, ...], key: str) -> None:
    lingen("export", "--ckpt", CKPT, "--out", tmp_path / "tiny", *words)
    content = read_checkpoint(CKPT)
    stored = load_file(tmp_path / "tiny/model.safetensors")
    assert {f"pipeline.{name}" for name in stored} == set(content[key])
    assert all(torch.equal(value, content[key][f"pipeline.{name}"]) for name, value in stored.items())
    assert any((content["state_dict"][name] != value).any() for name, value in content["current_model_state"].items())
    config = json.loads((tmp_path / "tiny/config.json").read_text())
    assert (config["weights"], config["step"]) == ("raw" if words else "ema", 4)


def test_samples_of_the_folder_are_those_of_the_checkpoint(
    lingen: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("export", "--ckpt", CKPT, "--out", tmp_path / "tiny")
    assert f"sample --ckpt {tmp_path / 'tiny'}" in capsys.readouterr().out
    options = ("--prompt", PROMPT, "--prompt", "a ring", "--num", 2, "--seed", 3, "--format", "gif")
    for source, out in ((CKPT, "one"), (tmp_path / "tiny", "other")):
        lingen("sample", "--ckpt", source, *options, "--out", tmp_path / out)
    files = sorted(path.name for path in (tmp_path / "one").glob("*.gif"))
    assert len(files) == 4
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in files)

    code = f"""
import sys, numpy
from lingen_kit import Pipeline
pipe = Pipeline.from_pretrained("tiny", device="cpu")
numpy.save("samples.npy", pipe({PROMPT!r}, num=2, seed=3).samples.numpy())
print("lightning" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
    expected = load_pipeline(CKPT)([PROMPT, PROMPT], seed=[3, 4])
    np.testing.assert_array_equal(np.load(tmp_path / "samples.npy"), expected.numpy())


def test_the_card_says_what_it_is_and_not_where_it_was_made(lingen: Callable, trained: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        lingen("export", "--ckpt", trained / CKPT, "--out", tmp_path / name / "tiny", "--license", "mit")
    files = {path.name: path.read_bytes() for path in (tmp_path / "a/tiny").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b/tiny").iterdir()}
    assert files["samples.png"] == b"sheet 4"
    card = files["README.md"].decode()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "mit",
        "library_name": "lingen_kit",
        "pipeline_tag": "text-to-video",
        "tags": ["text-to-video", "lingen_kit"],
    }
    for words in (
        "# tiny\n",
        "2 frames of 16x16 pixels at 8 frames a second, decoded from latents of 2x16x16",
        'Pipeline.from_pretrained("tiny")',
        "![samples](samples.png)",
        "| denoiser | Denoiser | ",
        "class_path: lingen_kit.data.MovingShapes",
        "| steps | 4 of 4 |",
        "| optimizer | torch.optim.AdamW: lr 0.01",
        "| EMA decay | 0.999 |",
        "| quality/motion | 0.5 | 4 |",
        "| obedience/all | 0.25 | 4 |",
        "7 held-out prompts that samples obey (steps as configured, guidance 3.0, seed 0)",
        "mixer:",
    ):
        assert words in text
    assert re.search(r"\| validation/loss \| [\d.]+ \| 3 \|", text)  # that of step 9 is another checkpoint's
    assert str(trained) not in card and "needs besides" not in card


def test_a_checkpoint_that_was_moved_has_no_scores(lingen: Callable, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(Path(CKPT).read_bytes())
    lingen("export", "--ckpt", tmp_path / "last.ckpt", "--out", tmp_path / "tiny", "--dtype", "bf16")
    card = (tmp_path / "tiny/README.md").read_text()
    assert "## Scores" not in card and "## Samples" not in card and "matrices in bf16" in card
    assert load_file(tmp_path / "tiny/model.safetensors")["denoiser.head.weight"].dtype == torch.bfloat16


def _checkpoint(path: Path, state: dict, model: dict, data: dict | None = None) -> Path:
    config = yaml.safe_dump({"model": model, "data": data, "name": "made"})
    torch.save({"state_dict": state, CONFIG_KEY: config, "global_step": 7}, path)
    return path


def test_an_autoencoder_alone(lingen: Callable, tmp_path: Path) -> None:
    options = {"channels": 4, "dims": [8, 8], "blocks": 1, "spatial_factor": 2, "temporal_factor": 1}
    tae = TAE(**options | {"dims": (8, 8)})  # type: ignore[arg-type]
    state = {f"autoencoder.{name}": value for name, value in tae.state_dict().items()}
    entry = {"class_path": "lingen_kit.models.TAE", "init_args": options | {"weights": "gone/last.ckpt"}}
    model = {"class_path": "lingen_kit.tasks.Autoencoding", "init_args": {"autoencoder": entry}}
    data = {"class_path": "lingen_kit.data.VideoFolder", "init_args": {"path": f"{tmp_path}/secret/clips"}}
    ckpt = _checkpoint(tmp_path / "tae.ckpt", state | {"discriminator.weight": torch.ones(2)}, model, data)
    lingen("export", "--ckpt", ckpt, "--out", tmp_path / "tae")
    card, config = ((tmp_path / "tae" / name).read_text() for name in ("README.md", "config.json"))
    assert "video-autoencoder" in card and "path: clips" in card and "secret" not in card + config
    assert json.loads(config)["init_args"]["weights"] is None
    again = TAE(**options | {"dims": (8, 8)}, weights=str(tmp_path / "tae"))  # type: ignore[arg-type]
    assert all(torch.equal(value, tae.state_dict()[name]) for name, value in again.state_dict().items())


OWN_PARTS = """
import torch
from lingen_kit.models import TextEncoder
from lingen_kit.models.frozen import Frozen

class Letters(TextEncoder):
    def __init__(self, dim: int = 8, model: str = "") -> None:
        super().__init__()
        torch.manual_seed(2)
        self.dim, self.frozen = dim, Frozen(torch.nn.Embedding(256, dim))

    def forward(self, prompts):
        with self.frozen.running() as network:
            tokens = torch.stack([network(torch.tensor([*text.encode().ljust(32)])) for text in prompts])
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)
"""


def test_parts_of_ones_own_and_frozen_networks(
    lingen: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    weights = tmp_path / "pretrained"
    weights.mkdir()
    options = yaml.safe_load(CONFIG)["model"]["init_args"]
    known = {name: options[name] for name in ("denoiser", "sampler")}
    known |= {"text_encoder": {"class_path": "own_parts.Letters", "init_args": {"model": str(weights)}}}
    known |= {"frames": 2, "height": 16, "width": 16, "fps": 8.0}
    pipeline = build_pipeline(known).eval()
    for parameter in pipeline.parameters():  # the head starts at zero: every sample would be its noise
        torch.nn.init.normal_(parameter, std=0.3)
    state = {f"pipeline.{name}": value for name, value in pipeline.state_dict().items()}
    ckpt = _checkpoint(tmp_path / "own.ckpt", state, {"class_path": "my.Task", "init_args": known | {"seed": 0}})
    lingen("export", "--ckpt", ckpt, "--out", tmp_path / "own")
    assert f"text_encoder.model is {weights}" in capsys.readouterr().err
    card = (tmp_path / "own/README.md").read_text()
    for words in (
        "the Python module `own_parts`",
        "`text_encoder.model`: pretrained,",
        "the pretrained network of `text_encoder`",
        "| text_encoder | Embedding | 2,048 | no, frozen |",
    ):
        assert words in card
    assert str(tmp_path) not in card
    videos = [model([text], steps=1) for model in (pipeline, load_model(tmp_path / "own")) for text in (PROMPT, "b")]
    assert torch.equal(videos[0], videos[2]) and not torch.equal(videos[0], videos[1])


@pytest.mark.parametrize(
    ("state", "model", "expected"),
    [
        ({"weight": torch.ones(1)}, {"class_path": "my.Task", "init_args": {}}, "neither a text-to-video"),
        ({"pipeline.x": torch.ones(1)}, {}, "neither a text-to-video"),
        ({"pipeline.x": torch.ones(1)}, {"init_args": {"denoiser": {"class_path": "my.Net"}}}, "no module my here"),
        ({"pipeline.x": torch.ones(1)}, {"init_args": {"frames": "many"}}, "cannot be built"),
        ({"autoencoder.x": torch.ones(1)}, {"init_args": {}}, "not as its configuration says"),
    ],
    ids=["other task", "no options", "own module", "wrong option", "other weights"],
)
def test_checkpoints_of_something_else(tmp_path: Path, state: dict, model: dict, expected: str) -> None:
    path = _checkpoint(tmp_path / "other.ckpt", state, model)
    with pytest.raises(ValueError, match=f"other.ckpt.*{expected}"):
        read_source(path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--ckpt", "nope", "--out", "new"), "nope does not exist"),
        (("--ckpt", CKPT, "--out", "runs"), "--overwrite"),
        (("--ckpt", CKPT, "--out", "tiny.yaml"), "is a file"),
        (("--ckpt", CKPT, "--out", "new", "--license", "my own"), "apache-2.0"),
        (("--ckpt", CKPT, "--out", "new", "--dtype", "int8"), "bf16"),
    ],
    ids=["no checkpoint", "not empty", "a file", "license", "dtype"],
)
def test_wrong_options_are_explained(
    lingen: Callable, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        lingen("export", *words)
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err
    assert not Path("new").exists()
