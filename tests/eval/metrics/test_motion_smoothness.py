"""AMT-S against figures of the published code and a slow twin; motion smoothness against its formula."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metrics import amt as network_file
from eval.metrics import motion_smoothness
from eval.metrics.amt import AmtS, Correlation, amt
from eval.metrics.motion_smoothness import MotionSmoothness, painted
from tests.eval.metrics.watching import CLIPS, fill, real_frames, score_of, wave


@pytest.fixture(scope="module")
def random_amt() -> AmtS:
    network = AmtS().eval().requires_grad_(False)
    fill(network, gain=1.0)
    return network


@pytest.fixture
def metric(random_amt: AmtS, monkeypatch: pytest.MonkeyPatch) -> Iterator[MotionSmoothness]:
    monkeypatch.setattr(motion_smoothness, "amt", lambda weights, device: random_amt)
    yield MotionSmoothness()


def test_names_and_shapes_are_the_published_ones() -> None:
    # Digest over the state_dict of the module `Model` in third_party/amt/networks/AMT-S.py of the package vbench 0.1.5,
    # which loads amt-s.pth strictly.
    shapes = {name: tuple(value.shape) for name, value in AmtS().state_dict().items()}
    listing = "\n".join(f"{name} {shapes[name]}" for name in sorted(shapes))
    assert len(shapes) == 213
    assert hashlib.sha256(listing.encode()).hexdigest() == (
        "260e6ea545aecae63fba8a248a319da218d23728e0d6a09f386bf613282b1251"
    )
    assert shapes["feat_encoder.layer2.0.downsample.0.weight"] == (64, 32, 1, 1)
    assert shapes["decoder1.convblock.2.weight"] == (60, 24, 4, 4)
    assert shapes["update3.convc1.weight"] == (64, 392, 1, 1)
    assert sum(value.numel() for value in AmtS().parameters()) == 2_990_543  # the paper's 3.0 million


@pytest.mark.parametrize(
    ("time", "mean", "pixels"),
    [
        (
            0.5,
            0.4813559,
            [[0.231157, 0.340893, 0.083642], [0.357973, 0.996162, 0.409274], [0.543638, 0.348044, 0.641728]],
        ),
        (
            0.25,
            0.4813327,
            [[0.231203, 0.340770, 0.083674], [0.358034, 0.997534, 0.408767], [0.543775, 0.347140, 0.641833]],
        ),
    ],
)
def test_it_paints_what_the_published_code_paints(
    random_amt: AmtS, time: float, mean: float, pixels: list[list[float]]
) -> None:
    # Figures of the same published module, with these weights and frames.
    first, last = F.interpolate(wave(2, 3, 9, 11) * 0.5 + 0.5, (128, 160), mode="bilinear").split(1)
    out = random_amt(first, last, time)
    assert out.shape == (1, 3, 128, 160)
    assert float(out.mean()) == pytest.approx(mean, abs=1e-5)
    torch.testing.assert_close(out[0, :, [0, 64, 127], [0, 80, 159]], torch.tensor(pixels), atol=1e-4, rtol=0)


def all_pairs(first: Tensor, last: Tensor, flows: Tensor, time: float) -> Tensor:
    """Every correlation in memory, averaged scale by scale, and each window's point looked up by hand."""
    batch, channels, height, width = first.shape
    out = np.zeros((batch, 2, 4, 7, 7, height, width))
    volume = torch.einsum("bcij,bckl->bijkl", first, last).numpy() / channels**0.5
    ways = flows[:, 2:].numpy() / time, flows[:, :2].numpy() / (1 - time)
    for half, maps in enumerate((volume, volume.transpose(0, 3, 4, 1, 2))):
        for level in range(4):
            for b, i, j in np.ndindex(batch, height, width):
                x, y = (j + ways[half][b, 0, i, j]) / 2**level, (i + ways[half][b, 1, i, j]) / 2**level
                for a, c in np.ndindex(7, 7):  # the first index of the window moves along x
                    out[b, half, level, a, c, i, j] = at(maps[b, i, j], x + a - 3, y + c - 3)
            tall, wide = (side // 2 * 2 for side in maps.shape[3:])
            even = maps[..., :tall, :wide]
            maps = (even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]) / 4
    return torch.from_numpy(out.reshape(batch, -1, height, width)).float()


def at(plane: np.ndarray, x: float, y: float) -> float:
    """Bilinear, 0 outside."""
    value = 0.0
    for column in (math.floor(x), math.floor(x) + 1):
        for row in (math.floor(y), math.floor(y) + 1):
            if 0 <= column < plane.shape[1] and 0 <= row < plane.shape[0]:
                value += plane[row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return value


def test_correlations_are_those_of_all_pairs_in_any_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    first, last, flows = wave(2, 5, 8, 9), wave(2, 5, 8, 9, start=1), 3 * wave(2, 4, 8, 9, start=2)
    expected = all_pairs(first, last, flows, 0.25)
    torch.testing.assert_close(Correlation(first, last)(flows, 0.25), expected, atol=1e-5, rtol=0)
    monkeypatch.setattr(network_file, "_AT_ONCE", 1000)
    torch.testing.assert_close(Correlation(first, last)(flows, 0.25), expected, atol=1e-5, rtol=0)


def twin(video: np.ndarray, network: AmtS) -> float:
    """The whole video in memory, frames compared in whole numbers."""
    height, width = video.shape[1:3]
    up, left = (-height % 16) // 2, (-width % 16) // 2
    around = ((up, -height % 16 - up), (left, -width % 16 - left), (0, 0))
    differences = []
    for place in range(1, len(video) - 1, 2):
        pair = [np.pad(video[side], around, mode="edge").transpose(2, 0, 1)[None] for side in (place - 1, place + 1)]
        out = network(*(torch.tensor(image / 255, dtype=torch.float32) for image in pair))[0].numpy().transpose(1, 2, 0)
        levels = np.floor(np.clip(out[up : up + height, left : left + width] * np.float32(255), 0, 255)).astype(int)
        differences.append(np.abs(levels - video[place].astype(int)).mean())
    return (255 - float(np.mean(differences))) / 255


@pytest.mark.parametrize("clip", CLIPS)
def test_the_figure_is_that_of_the_formula_on_real_footage(
    metric: MotionSmoothness, random_amt: AmtS, clip: str
) -> None:
    video = real_frames(clip, 6, 64)
    assert score_of(metric, video).value == pytest.approx(twin(video, random_amt), abs=1e-4)


def test_chunks_of_any_size_give_one_figure_and_a_lone_last_frame_is_left_out(metric: MotionSmoothness) -> None:
    video = real_frames("bikes.mp4", 6, 64)[:, :, :80]
    scores = {score_of(metric, video, chunk).value for chunk in (1, 2, 3, 6)} | {score_of(metric, video[:5]).value}
    assert len(scores) == 1
    assert score_of(metric, video).details == {"painted": 2}


def test_painted_frames_are_cut_off_to_whole_gray_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_smoothness, "amt", lambda weights, device: lambda a, b: torch.full_like(a, 100.9 / 255))
    video = np.full((3, 70, 90, 3), 103, np.uint8)
    assert painted(video[0], video[2]).shape == (70, 90, 3) and set(painted(video[0], video[2]).flat) == {100}
    assert score_of(MotionSmoothness(), video).value == pytest.approx((255 - 3) / 255, rel=1e-12)


def test_what_cannot_be_measured_has_a_reason(metric: MotionSmoothness) -> None:
    video = real_frames("bikes.mp4", 6, 64)
    assert score_of(metric, video[:2]).why == "fewer than three frames have none between two others"
    assert score_of(metric, video[:, :48]).why.startswith("AMT needs frames of 49 pixels at least, and these have 48x")
    assert score_of(metric, video[:3, :49, :49]).value is not None


def test_a_file_of_weights_is_loaded_whole_or_refused(random_amt: AmtS, tmp_path: Path) -> None:
    state = random_amt.state_dict()
    for name, content in {"good": {"state_dict": state, "epoch": 3}, "bare": state}.items():
        (tmp_path / name).mkdir()
        torch.save(content, tmp_path / name / "amt-s.pth")
        loaded = amt(tmp_path / name, "cpu")
        assert not loaded.training and all(torch.equal(loaded.state_dict()[key], state[key]) for key in state)
    bad = {
        "lacks": (
            {key: value for key, value in state.items() if key != "comb_block.2.bias"},
            "lacks comb_block.2.bias",
        ),
        "more": (state | {"more.weight": torch.zeros(1)}, "has besides more.weight"),
        "shape": (state | {"comb_block.2.bias": torch.zeros(5)}, "has with another shape comb_block.2.bias"),
        "list": ([torch.zeros(1000)], "holds a list"),
        "code": ({"state_dict": state, "path": Path("x")}, "is no file of weights alone"),
    }
    for name, (content, message) in bad.items():
        (tmp_path / name).mkdir()
        torch.save(content, tmp_path / name / "amt-s.pth")
        with pytest.raises(ValueError, match=message):
            amt(tmp_path / name, "cpu")
