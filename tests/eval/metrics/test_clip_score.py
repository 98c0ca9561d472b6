"""CLIPScore through a tiny random CLIP that lies in a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.metric import VideoFacts
from eval.metrics.clip_score import ClipScore

torch.set_num_threads(1)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of two layers, and what goes before it, whose words are letters."""
    from transformers import CLIPConfig, CLIPModel

    path = tmp_path_factory.mktemp("tiny_clip")
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    config = CLIPConfig(
        text_config={**small, **ends, "vocab_size": len(words), "max_position_embeddings": 12},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(path, safe_serialization=True)
    (path / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokens = {name: "<|endoftext|>" for name in ("eos_token", "unk_token", "pad_token")}
    (path / "tokenizer_config.json").write_text(
        json.dumps({**tokens, "bos_token": "<|startoftext|>", "tokenizer_class": "CLIPTokenizer"})
    )
    (path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 32},
                "crop_size": {"height": 32, "width": 32},
                "image_mean": [0.5] * 3,
                "image_std": [0.25] * 3,
                "do_resize": True,
                "do_center_crop": True,
                "do_rescale": True,
                "do_normalize": True,
                "do_convert_rgb": True,
            }
        )
    )
    return path


def video(frames: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 32, 32, 3), np.uint8)


def scored(metric: ClipScore, frames: np.ndarray, prompt: str, chunk: int) -> dict:
    observer = metric.observe(VideoFacts("a.mp4", len(frames), 8.0, *frames.shape[1:3], prompt))
    for start in range(0, len(frames), chunk):
        observer.update(frames[start : start + chunk])
    return dict(observer.scores())


def by_hand(folder: Path, frames: np.ndarray, prompt: str) -> float:
    """The cosine of projected features, from the parts of the model."""
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    vocabulary = json.loads((folder / "vocab.json").read_text())
    letters = [f"{letter}</w>" for letter in prompt.split()]
    tokens = [vocabulary[word] for word in ["<|startoftext|>", *letters[:10], "<|endoftext|>"]]
    pixels = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        hidden = model.text_model(input_ids=torch.tensor([tokens])).last_hidden_state[:, -1]
        text = model.text_projection(hidden)
    cosines = torch.nn.functional.cosine_similarity(image, text)
    return max(0.0, 100 * cosines.mean().item())


def a_prompt_with_a_score(folder: Path, frames: np.ndarray) -> str:
    return next(p for p in ("a b c", "d e", "x y z q", "k", "m n") if by_hand(folder, frames, p) > 1)


# 20 in 8: stretches begin at 0, 2, 5, 7, 10, 12, 15, 17; the middle of 2, 3, 4 is 3, that of 0, 1 is 0.
MIDDLES = [0, 3, 5, 8, 10, 13, 15, 18]


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_the_score_is_the_cosine_of_eight_frames_whatever_the_chunks(folder: Path, chunk: int) -> None:
    frames = video()
    prompt = a_prompt_with_a_score(folder, frames[MIDDLES])
    [(name, score)] = scored(ClipScore(str(folder)), frames, prompt, chunk).items()
    assert name.startswith("clip_score/tiny_clip")
    assert score.details == {"frames": 8}
    assert score.value == pytest.approx(by_hand(folder, frames[MIDDLES], prompt), rel=1e-4)


def test_a_long_prompt_keeps_the_token_of_its_end(folder: Path) -> None:
    frames = video(3)
    for prompt in (" ".join(LETTERS), " ".join(reversed(LETTERS))):
        [score] = scored(ClipScore(str(folder)), frames, prompt, 3).values()
        assert score.value == pytest.approx(by_hand(folder, frames, prompt), rel=1e-4, abs=1e-4)


def test_without_a_prompt_there_is_no_score(folder: Path) -> None:
    [score] = scored(ClipScore(str(folder)), video(3), "", 3).values()
    assert score.value is None
    assert "prompt" in score.why


def test_what_made_it_names_the_hash_of_the_weights(folder: Path) -> None:
    made_by = ClipScore(str(folder)).made_by()
    assert len(made_by["sha256"]) == 64
    assert made_by["frames"] == 8


def test_a_model_that_is_nowhere_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    metric = ClipScore(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"model\.safetensors of .*nothing.* name a folder"):
        scored(metric, video(3), "a b", 3)


def test_only_the_default_network_gives_the_plain_name() -> None:
    assert ClipScore().names == ("clip_score",)
    assert ClipScore("openai/clip-vit-base-patch32").names == ("clip_score/clip-vit-base-patch32",)
    with pytest.raises(ValueError, match="frames 0"):
        ClipScore(frames=0)
