"""The aesthetic score with a tiny CLIP built from its config, against the same computed step by step."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lingen_kit.data.curation import Aesthetic
from lingen_kit.data.curation.aesthetic import prepare
from lingen_kit.data.decode import stream
from tests.data.curation.footage import pan, write


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of width 16, a linear head, and one of two layers with the numbering of the improved predictor."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("weights")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 99, "max_position_embeddings": 8},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(out / "clip")
    torch.save(torch.nn.Linear(16, 1).state_dict(), out / "linear.pth")
    first, second = torch.nn.Linear(16, 4), torch.nn.Linear(4, 1)
    named = {f"layers.{i}.{k}": v for i, layer in ((0, first), (2, second)) for k, v in layer.state_dict().items()}
    torch.save(named, out / "mlp.pth")
    torch.save(torch.nn.Linear(24, 1).state_dict(), out / "wide.pth")
    torch.save({"weight": torch.zeros(2, 16), "bias": torch.zeros(2)}, out / "two.pth")
    return out


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_score_is_that_of_the_head_on_the_embedding(
    head: str, weights: Path, tmp_path: Path, score: Callable
) -> None:
    from transformers import CLIPModel

    path = write(tmp_path / "pan.mp4", pan("coffee", 2, 0.2))
    each = Aesthetic(str(weights / "clip"), str(weights / f"{head}.pth"), fps=2.0)
    each.check([])
    found = score(path, each)["aesthetic"]

    model = CLIPModel.from_pretrained(weights / "clip").eval()
    state = torch.load(weights / f"{head}.pth", weights_only=True)
    expected = []
    with torch.no_grad():
        for time, frame in stream(path, shorter_side=256):
            if time * 2 % 1 > 1e-6:
                continue
            pixels = prepare(frame, 32)[None]
            embedding = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
            x = embedding / embedding.norm(dim=-1, keepdim=True)
            for name in [key.removesuffix("weight") for key in state if key.endswith("weight")]:
                x = x @ state[f"{name}weight"].T + state[f"{name}bias"]
            expected.append(x.item())
    assert len(expected) == 4
    assert found == pytest.approx(float(np.median(expected)), abs=1e-5)


def test_pictures_are_prepared_as_clips_own_processor_does() -> None:
    from PIL import Image
    from transformers import CLIPImageProcessor

    frame = next(pan("coffee", 1, 0.1))
    processor = CLIPImageProcessor(size={"shortest_edge": 112}, crop_size={"height": 112, "width": 112})
    theirs = processor(Image.fromarray(frame), return_tensors="pt")["pixel_values"][0]
    ours = prepare(frame, 112)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().mean() < 0.03  # of values of about -2 to 2; the ways to resize differ a little


def test_other_weights_at_the_same_paths_are_measured_anew(weights: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(weights, tmp_path / "weights")

    def fresh() -> Aesthetic:
        return Aesthetic(str(copy / "clip"), str(copy / "linear.pth"))

    key = fresh().measure_key(256)
    assert Aesthetic(str(weights / "clip"), str(weights / "linear.pth")).measure_key(256) == key
    before = fresh().meter().layers[0].weight
    torch.save(torch.nn.Linear(16, 1).state_dict(), copy / "linear.pth")
    other = fresh().measure_key(256)
    assert other != key
    assert not torch.equal(fresh().meter().layers[0].weight, before)
    model = copy / "clip" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    assert fresh().measure_key(256) not in (key, other)


@pytest.mark.parametrize(
    ("clip", "head", "message"),
    [
        (
            "",
            "",
            r"clip is not given; get the weights.*openai/clip-vit-large-patch14.*MIT.*improved-aesthetic-predictor",
        ),
        ("nowhere", "linear.pth", "clip .*nowhere does not exist"),
        ("clip", "", "head is not given"),
        ("clip", "none.pth", r"head .*none\.pth does not exist"),
        ("clip", "wide.pth", "reads embeddings of width 24, and those of .*clip have 16"),
        ("clip", "two.pth", "no stack of linear layers that ends in one number"),
    ],
)
def test_weights_that_are_missing_or_do_not_fit_are_told(clip: str, head: str, message: str, weights: Path) -> None:
    paths = [str(weights / name) if name else "" for name in (clip, head)]
    with pytest.raises(ValueError, match=message):
        Aesthetic(*paths).check([])
