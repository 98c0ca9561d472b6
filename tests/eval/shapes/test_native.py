from pathlib import Path

import numpy as np
import pytest
import torch

from eval.shapes.native import pixel_side, reduce_frames
from lingen_kit.data.decode import stream
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.video import to_uint8, write_mp4


@pytest.mark.parametrize(("size", "side"), [((32, 32), 8), ((64, 64), 4), ((48, 80), 6)], ids=["32", "64", "48x80"])
def test_an_enlarged_file_gives_back_the_pixels_of_the_model(tmp_path: Path, size: tuple[int, int], side: int) -> None:
    for index in range(5):
        video = MovingShapesDataset(
            height=size[0], width=size[1], colors=["white", "yellow", "black"], backgrounds=["teal"]
        )[index]["video"]
        write_mp4(tmp_path / "clip.mp4", video, 8)  # short side at least 256, H.264 with halved colors
        frames = np.stack([picture for _, picture in stream(tmp_path / "clip.mp4")])
        assert pixel_side(frames) == side
        small = reduce_frames(frames, side)
        assert small.shape == (8, *size, 3)
        assert np.abs(small.astype(int) - to_uint8(video).astype(int)).mean() < 3


def test_pixels_that_are_pixels_stay() -> None:
    for index in range(5):
        frames = to_uint8(MovingShapesDataset()[index]["video"])
        assert pixel_side(frames) == 1
        assert reduce_frames(frames, 1) is frames


def test_large_frames_are_averaged_down_and_flat_ones_have_no_squares() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 130, 200, 3), np.uint8)
    assert pixel_side(noise) == 1
    small = reduce_frames(noise, 1)
    assert small.shape == (2, 43, 66, 3)
    assert small[0, 0, 0, 0] == round(noise[0, :3, :3, 0].mean())
    assert pixel_side(np.full((2, 64, 64, 3), 7, np.uint8)) == 1


def test_a_blurred_clip_at_full_size_is_not_taken_for_an_enlarged_one() -> None:
    video = MovingShapesDataset(height=64, width=64)[3]["video"]
    blurred = torch.nn.functional.avg_pool2d(video.transpose(0, 1), 5, 1, 2, count_include_pad=False).transpose(0, 1)
    assert pixel_side(to_uint8(blurred)) == 1
