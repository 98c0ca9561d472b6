"""ViCLIP against figures of the published code; consistency with the prompt against its formula, on real footage."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Lambda, Normalize, Resize

from eval.metrics import text_video, viclip
from eval.metrics.text_video import OverallConsistency, TemporalStyle, TextVideo
from eval.metrics.viclip import ViClip, tokens_of
from tests.eval.metrics.watching import CLIPS, fill, real_frames, score_of, wave

PROMPT = "A bike race, the camera pans left"


def tiny(side: int, patch: int) -> ViClip:
    sizes = {"width": 64, "layers": 2, "text_width": 64, "text_layers": 2, "head_dim": 32, "features": 24}
    network = ViClip(side=side, patch=patch, **sizes).eval().requires_grad_(False)
    fill(network)
    return network


@pytest.fixture
def random_viclip(monkeypatch: pytest.MonkeyPatch) -> Iterator[ViClip]:
    network = tiny(224, 32)
    monkeypatch.setattr(text_video, "viclip", lambda weights, device: network)
    text_video._said.cache_clear()
    yield network
    text_video._said.cache_clear()


def test_names_and_shapes_are_the_published_ones() -> None:
    # Digest over the state_dict of the module `ViCLIP` in third_party/ViCLIP of the package vbench 0.1.5, which loads
    # ViClip-InternVid-10M-FLT.pth strictly.
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in ViClip().state_dict().items()}
    listing = "\n".join(f"{name} {shapes[name]}" for name in sorted(shapes))
    assert len(shapes) == 447
    assert hashlib.sha256(listing.encode()).hexdigest() == (
        "5ca3c8b145c3e635dd08db9917df1cd2b054f2030749c3477c8df5ad8752d7ee"
    )
    assert shapes["vision_encoder.conv1.weight"] == (1024, 3, 1, 14, 14)
    assert shapes["vision_encoder.transformer.resblocks.23.attn.in_proj_weight"] == (3072, 1024)
    assert shapes["text_encoder.positional_embedding"] == (32, 768)


def test_both_towers_say_what_the_published_code_says() -> None:
    # Figures of the same published modules, with these weights, frames and texts.
    network = tiny(28, 14)
    expected = torch.tensor(
        [[0.3840590, 0.0629455, 0.2522276, -0.3894210], [0.3791354, 0.0611780, 0.2545577, -0.3923098]]
    )
    torch.testing.assert_close(network.encode_video(wave(2, 8, 3, 28, 28))[:, :4], expected, atol=1e-5, rtol=0)
    texts = ["A person is riding a bike", "a very " * 40 + "long walk &amp; café!"]
    expected = torch.tensor(
        [[-0.1118538, 0.0117076, -0.3284512, 0.2284958], [-0.0977660, -0.0018131, -0.3341879, 0.2690377]]
    )
    torch.testing.assert_close(network.encode_text(tokens_of(texts))[:, :4], expected, atol=1e-5, rtol=0)


def test_texts_are_cut_off_and_end_as_all_do() -> None:
    short, long = tokens_of(["a cat", "a very " * 40])
    assert short.tolist() == [49406, 320, 2368, 49407] + 28 * [0]
    assert long.shape == (32,) and long[0] == 49406 and long[-1] == 49407 and (long[1:-1] != 0).all()


def twin(video: np.ndarray, prompt: str, network: ViClip) -> float:
    places = np.linspace(0, len(video), min(8, len(video)) + 1).astype(int)
    places = [(low + high - 1) // 2 for low, high in pairwise(places)]
    places += [places[-1]] * (8 - len(places))
    transform = Compose(
        [
            Resize(224, InterpolationMode.BICUBIC, antialias=False),
            CenterCrop(224),
            Lambda(lambda x: x.float().div(255)),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    frames = transform(torch.from_numpy(video[places]).permute(0, 3, 1, 2))
    seen, said = network.encode_video(frames[None])[0], network.encode_text(tokens_of([prompt]))[0]
    return float(torch.cosine_similarity(seen, said, dim=0))


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("metric", [OverallConsistency(), TemporalStyle()], ids=lambda metric: metric.names[0])
def test_the_figure_is_the_cosine_on_real_footage(random_viclip: ViClip, metric: TextVideo, clip: str) -> None:
    video = real_frames(clip, 21, 72)
    score = score_of(metric, video, prompt=PROMPT)
    assert score.value == pytest.approx(twin(video, PROMPT, random_viclip), abs=1e-4)
    assert score.value != pytest.approx(score_of(metric, video, prompt="Something else").value, abs=1e-3)


@pytest.mark.parametrize("frames", [1, 5, 21])
def test_chunks_of_any_size_give_one_figure_and_short_videos_are_filled_up(random_viclip: ViClip, frames: int) -> None:
    video = real_frames("bikes.mp4", 21, 72)[:frames]
    scores = [score_of(OverallConsistency(), video, chunk, PROMPT).value for chunk in (1, 4, 32)]
    assert scores == pytest.approx([twin(video, PROMPT, random_viclip)] * 3, abs=1e-4)


def test_a_video_without_a_prompt_has_a_reason_and_needs_no_network() -> None:
    assert score_of(OverallConsistency(), np.zeros((3, 8, 8, 3), np.uint8)).why == "the prompt is not known"


def test_weights_are_found_where_the_published_file_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny(28, 14)
    torch.save({"model": network.state_dict()}, tmp_path / "ViClip-InternVid-10M-FLT.pth")
    blank = tiny(28, 14)
    for weight in blank.parameters():
        weight.zero_()
    monkeypatch.setattr(viclip, "ViClip", lambda: blank)
    loaded = viclip.viclip(tmp_path, "cpu").state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in network.state_dict().items())
    monkeypatch.setattr(viclip, "ViClip", lambda: tiny(28, 7))
    viclip.viclip.cache_clear()
    with pytest.raises(ValueError, match=r"has with another shape vision_encoder\.conv1\.weight and 1 more"):
        viclip.viclip(tmp_path, "cpu")
