"""UMT against figures of the published code; human action against its rule, on real footage."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from eval.metrics import human_action, umt
from eval.metrics.human_action import HumanAction, action_frames, action_of
from eval.metrics.umt import Umt, kinetics_classes, sine_table
from tests.eval.metrics.watching import CLIPS, fill, real_frames, score_of, wave

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def tiny(classes: int, patch: int = 16) -> Umt:
    network = Umt(patch=patch, width=64, layers=2, heads=2, classes=classes).eval().requires_grad_(False)
    positions = network.pos_embed.clone()
    fill(network)
    network.pos_embed.copy_(positions)
    return network


def test_names_and_shapes_are_the_published_ones() -> None:
    # Digest over the state_dict of `vit_large_patch16_224` in third_party/umt/models/modeling_finetune.py of the
    # package vbench 0.1.5, built with the options of its human_action.py.
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Umt().state_dict().items()}
    listing = "\n".join(f"{name} {shapes[name]}" for name in sorted(shapes))
    assert len(shapes) == 319
    assert hashlib.sha256(listing.encode()).hexdigest() == (
        "db4d435ccda10f838a8724fdc6b7295e7a884f99c7daa13f4148e5b265e8cadc"
    )
    assert shapes["patch_embed.proj.weight"] == (1024, 3, 1, 16, 16)
    assert shapes["blocks.23.attn.q_bias"] == (1024,) and shapes["blocks.23.attn.qkv.weight"] == (3072, 1024)
    assert shapes["pos_embed"] == (1, 3136, 1024)


def test_it_says_what_the_published_code_says() -> None:
    # Figures of the same published module, with these weights and frames.
    expected = torch.tensor([[-1.5901463, 1.2570745, 3.1061022, -0.3495918, -0.2985164, -1.9367474, 0.5297366]])
    torch.testing.assert_close(tiny(7)(wave(1, 16, 3, 224, 224)), expected, atol=1e-4, rtol=0)


def test_positions_are_the_published_ones() -> None:
    expected = torch.tensor(
        [
            [0.0, 1.0, 0.0],
            [0.2194547, 0.9756227, 0.5151870],
            [0.2348825, 0.8356166, 0.1259281],
            [-0.8635433, -0.0878517, -0.3930066],
            [0.6089484, -0.7932099, 0.8888677],
        ]
    )
    table = sine_table(14, 16, 64)[0, [0, 195, 196, 1568, 3135]]
    torch.testing.assert_close(table[:, [0, 1, 30]], expected, atol=1e-5, rtol=0)


def test_classes_have_the_published_names_in_the_published_order() -> None:
    # Digest of third_party/umt/kinetics_400_categories.txt of the package vbench 0.1.5, in lower case.
    names = kinetics_classes()
    listing = "".join(f"{name}\t{number}\n" for number, name in enumerate(names))
    assert hashlib.sha256(listing.encode()).hexdigest() == (
        "460ec93f215d03d452cba7d221d195b3e325e399389c3e016f006ab6085491b0"
    )
    assert names[:3] == ("riding a bike", "marching", "dodgeball") and names[399] == "playing badminton"


def test_the_action_of_a_prompt() -> None:
    assert action_of("A person is riding a bike") == "riding a bike"
    assert action_of("A person is petting animal (not cat)") == "petting animal (not cat)"
    assert action_of("A person is inventing a bike") == "" and action_of("") == ""


def pictures(video: np.ndarray) -> np.ndarray:
    """Published: OpenCV brings the short side to 256, the middle is cut out. `(N, 3, 224, 224)`."""
    out = []
    for frame in video:
        height, width = frame.shape[:2]
        size = (256, int(256 * height / width)) if width < height else (int(256 * width / height), 256)
        small = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
        left, top = (round((side - 224) / 2) for side in size)
        out.append(((small[top : top + 224, left : left + 224] / 255 - MEAN) / DEVIATION).transpose(2, 0, 1))
    return np.stack(out)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("upright", [False, True], ids=["wide", "upright"])
def test_frames_are_resized_as_published_to_a_gray_level(clip: str, upright: bool) -> None:
    video = real_frames(clip, 2, 140)
    video = video.transpose(0, 2, 1, 3) if upright else video
    levels = (action_frames(video).numpy() - pictures(video)) * DEVIATION[:, None, None] * 255
    assert np.abs(levels).max() < 1.01 and np.abs(levels).mean() < 0.3


@pytest.fixture
def random_umt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Umt]:
    network = tiny(400, patch=56)
    network.head.weight.mul_(2)
    monkeypatch.setattr(human_action, "umt", lambda weights, device: network)
    yield network


@pytest.mark.parametrize("clip", CLIPS)
def test_the_likeliest_actions_are_those_of_the_formula_on_real_footage(random_umt: Umt, clip: str) -> None:
    video = real_frames(clip, 21, 140)
    places = [(place * 21 // 16 + (place + 1) * 21 // 16 - 1) // 2 for place in range(16)]
    logits = random_umt(torch.tensor(pictures(video[places])[None], dtype=torch.float32))[0]
    expected = 1 / (1 + np.exp(-logits.double().numpy()))
    likeliest = np.argsort(-expected)[:5]
    for chunk in (1, 7, 32):
        score = score_of(HumanAction(), video, chunk, "A person is yoga")
        json.dumps(score.details)
        assert list(score.details["likeliest"]) == [kinetics_classes()[place] for place in likeliest]
        assert list(score.details["likeliest"].values()) == pytest.approx(expected[likeliest], abs=1e-3)
    for rank, place in enumerate(likeliest):
        score = score_of(HumanAction(), video, 32, f"A person is {kinetics_classes()[place]}")
        assert score.value == float(expected[likeliest[rank]] >= 0.85)


def test_an_action_counts_if_it_is_among_five_and_sure_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    sure = torch.full((400,), 0.1)
    sure[[0, 1, 2, 3, 4, 5]] = torch.tensor([0.99, 0.98, 0.849951, 0.84994, 0.86, 0.5])

    def said(video: Tensor) -> Tensor:
        assert video.shape == (1, 16, 3, 224, 224)
        return sure.logit()[None]

    monkeypatch.setattr(human_action, "umt", lambda weights, device: said)
    video = real_frames("bikes.mp4", 3, 72)

    def shown(place: int) -> float | None:
        return score_of(HumanAction(), video, prompt=f"A person is {kinetics_classes()[place]}").value

    # 0.849951 is 0.85 in four digits, 0.84994 is not.
    assert [shown(place) for place in range(7)] == [1, 1, 1, 0, 1, 0, 0]
    sure[[10, 11, 12, 13, 14]] = 0.995
    assert shown(0) == 0  # the sixth


def test_positions_that_a_file_lacks_are_those_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny(400, patch=56)
    weights = {name: weight for name, weight in network.state_dict().items() if name != "pos_embed"}
    torch.save(weights, tmp_path / "l16_ptk710_ftk710_ftk400_f16_res224.pth")
    sizes = {"patch": 56, "width": 64, "layers": 2, "heads": 2}
    monkeypatch.setattr(umt, "Umt", lambda: Umt(**sizes))
    loaded = umt.umt(tmp_path, "cpu").state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in network.state_dict().items())


def test_a_prompt_without_an_action_has_a_reason_and_needs_no_network() -> None:
    score = score_of(HumanAction(), np.zeros((3, 8, 8, 3), np.uint8), prompt="A dog runs")
    assert score.why == "the prompt names no action of Kinetics-400"
