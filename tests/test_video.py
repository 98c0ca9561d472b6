"""Files and pictures of videos: read back what was written, and look at the right pixels."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lingen_kit.video import contact_sheet, enlarged_by, gif_bytes, grid, to_uint8, write_gif, write_mp4, write_png


def moving_square(frames: int = 6, height: int = 32, width: int = 32) -> Tensor:
    """A red square moving right over dark blue."""
    video = torch.tensor([-1.0, -1.0, -0.2])[:, None, None, None].repeat(1, frames, height, width)
    for t in range(frames):
        video[:, t, 8:20, 2 + 2 * t : 14 + 2 * t] = torch.tensor([1.0, -0.8, -0.8])[:, None, None]
    return video


def decode(path: Path) -> tuple[np.ndarray, float, str, str]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, codec, layout = float(stream.average_rate), stream.codec_context.name, stream.pix_fmt
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    return frames, rate, codec, layout


class TestToUint8:
    def test_ends_and_middle_of_the_range(self) -> None:
        video = torch.tensor([-1.0, 0.0, 1.0, -3.0, 3.0]).reshape(1, 5, 1, 1)
        assert to_uint8(video)[:, 0, 0].tolist() == [[0] * 3, [128] * 3, [255] * 3, [0] * 3, [255] * 3]

    def test_axes(self) -> None:
        video = torch.zeros(3, 2, 4, 5)
        video[2, 1, 3, 0] = 1
        pixels = to_uint8(video)
        assert pixels.shape == (2, 4, 5, 3)
        assert np.argwhere(pixels == 255).tolist() == [[1, 3, 0, 2]]

    def test_half_precision_gives_the_same(self) -> None:
        video = torch.linspace(-1, 1, 3 * 8).reshape(3, 2, 2, 2).bfloat16()
        assert (to_uint8(video) == to_uint8(video.float())).all()

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_a_diverged_video_is_refused(self, bad: float) -> None:
        video = torch.zeros(3, 2, 4, 4)
        video[1, 1, 2, 2] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            to_uint8(video)

    @pytest.mark.parametrize("shape", [(2, 4, 4, 4), (3, 4, 4), (3, 0, 4, 4), (1, 3, 2, 4, 4)])
    def test_a_bad_shape_is_named(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"\(C, T, H, W\).*got \("):
            to_uint8(torch.zeros(shape))

    def test_integers_are_refused(self) -> None:
        with pytest.raises(TypeError, match=r"torch\.uint8"):
            to_uint8(torch.zeros(3, 2, 4, 4, dtype=torch.uint8))


class TestMp4:
    @pytest.mark.parametrize("fps", [8.0, 24000 / 1001], ids=["8 fps", "23.976 fps"])
    def test_reads_back_enlarged(self, tmp_path: Path, fps: float) -> None:
        video = moving_square()
        path = write_mp4(tmp_path / "new" / "folder" / "a.mp4", video, fps, min_side=100)
        frames, rate, codec, layout = decode(path)
        assert (codec, layout) == ("h264", "yuv420p")
        assert frames.shape == (6, 128, 128, 3)
        assert rate == pytest.approx(fps, rel=1e-6)
        # Away from edges the colors survive 4:2:0 and the round trip of color spaces.
        expected = to_uint8(video)[:, 2::8, 2::8]
        found = frames[:, 2 * 4 + 2 :: 8 * 4, 2 * 4 + 2 :: 8 * 4]
        assert np.abs(found.astype(int) - expected).max() < 16

    @pytest.mark.parametrize(("min_side", "factor"), [(256, 8), (40, 2), (1, 1)])
    def test_the_file_says_by_how_much_it_was_enlarged(self, tmp_path: Path, min_side: int, factor: int) -> None:
        path = write_mp4(tmp_path / "clip.mp4", torch.zeros(3, 2, 32, 32), 8, min_side=min_side)
        with av.open(str(path)) as container:
            assert enlarged_by(container.metadata.get("comment", "")) == factor

    def test_other_comments_say_nothing_of_enlarging(self) -> None:
        for comment in ("", "a holiday", "each pixel is a square of side x", "each pixel is a square of side 2 or so"):
            assert enlarged_by(comment) == 1

    @pytest.mark.parametrize(("height", "width"), [(31, 29), (32, 33), (1, 1)])
    def test_odd_sizes_are_padded_by_at_most_one(self, tmp_path: Path, height: int, width: int) -> None:
        video = torch.zeros(3, 2, height, width)
        frames, *_ = decode(write_mp4(tmp_path / "odd.mp4", video, 8, min_side=1))
        assert frames.shape[1:3] == (height + height % 2, width + width % 2)

    def test_one_frame_is_a_video(self, tmp_path: Path) -> None:
        frames, *_ = decode(write_mp4(tmp_path / "one.mp4", moving_square(1), 8))
        assert len(frames) == 1

    def test_the_index_comes_first_so_that_browsers_start_at_once(self, tmp_path: Path) -> None:
        data = write_mp4(tmp_path / "a.mp4", moving_square(), 8).read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")

    @pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf")])
    def test_a_bad_rate_is_named(self, tmp_path: Path, fps: float) -> None:
        with pytest.raises(ValueError, match="fps"):
            write_mp4(tmp_path / "a.mp4", moving_square(), fps)

    def test_a_failed_write_leaves_the_old_file_and_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.mp4"
        path.write_bytes(b"old")

        def no_space(source: object, target: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", no_space)
        with pytest.raises(OSError, match="No space left"):
            write_mp4(path, moving_square(), 8)
        assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
        assert path.read_bytes() == b"old"


class TestGif:
    def test_reads_back_with_the_clip_s_length(self, tmp_path: Path) -> None:
        video = moving_square(8)
        with Image.open(write_gif(tmp_path / "a.gif", video, 24, min_side=64)) as image:
            assert image.n_frames == 8
            assert image.size == (64, 64)
            assert image.info["loop"] == 0
            durations = []
            for number in range(8):
                image.seek(number)
                durations.append(image.info["duration"])
                pixel = np.asarray(image.convert("RGB"))[2 * 10, 2 * (4 + 2 * number)]
                assert np.abs(pixel.astype(int) - to_uint8(video)[number, 10, 4 + 2 * number]).max() <= 8
        assert sum(durations) == 330  # 8 frames at 24 fps, to the nearest hundredth

    def test_too_fast_for_a_gif(self) -> None:
        with pytest.raises(ValueError, match="at most 100"):
            gif_bytes(moving_square(), 120)


class TestContactSheet:
    def test_frames_stand_left_to_right_under_their_caption(self) -> None:
        videos = torch.stack([moving_square(4), -moving_square(4)])
        sheet = contact_sheet(videos, ["a red square moves right", "its negative"], scale=1)
        bare = contact_sheet(videos, scale=1)
        assert sheet.dtype == np.uint8
        assert bare.shape == (4 + 2 * (32 + 4), 4 + 4 * (32 + 4), 3)
        for row, video in enumerate(videos):
            for column, frame in enumerate(to_uint8(video)):
                top, left = 4 + row * 36, 4 + column * 36
                assert (bare[top : top + 32, left : left + 32] == frame).all()
        assert sheet.shape[0] > bare.shape[0]
        assert sheet.shape[1] == bare.shape[1]
        assert (sheet[4:18] < 100).any()  # dark letters above the first row

    def test_long_videos_show_first_and_last_frame(self) -> None:
        videos = torch.linspace(-1, 1, 17)[None, None, :, None, None].repeat(1, 3, 1, 8, 8)
        sheet = contact_sheet(videos, columns=3, scale=1)
        assert [int(sheet[8, 8 + column * 12, 0]) for column in range(3)] == [0, 128, 255]

    def test_a_long_caption_is_wrapped_not_cut(self) -> None:
        videos = moving_square(2)[None]
        short, long = (contact_sheet(videos, [text]) for text in ("word", "word " * 100 + "w" * 200))
        assert long.shape[0] > short.shape[0] + 10 * 18
        assert long.shape[1] == short.shape[1]

    @pytest.mark.parametrize(
        ("shape", "captions", "message"),
        [((3, 2, 8, 8), None, r"\(N, C, T, H, W\)"), ((2, 3, 2, 8, 8), ["one"], "2 videos but 1 captions")],
    )
    def test_bad_input_is_named(self, shape: tuple[int, ...], captions: list[str] | None, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            contact_sheet(torch.zeros(shape), captions)


class TestGrid:
    def test_places(self) -> None:
        videos = torch.arange(5.0).reshape(5, 1, 1, 1, 1).expand(5, 3, 2, 4, 6) / 10
        tiled = grid(videos, gap=1)
        assert tiled.shape == (3, 2, 2 * 4 + 1, 3 * 6 + 2)
        assert torch.allclose(tiled[0, 0, ::5, ::7], torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.4, 1.0]]))
        assert (tiled[:, :, 4] == 1).all()

    def test_one_video_is_itself(self) -> None:
        video = moving_square()
        assert torch.equal(grid(video[None]), video)


def test_png_round_trip(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    with Image.open(write_png(tmp_path / "a.png", picture)) as image:
        assert (np.asarray(image) == picture).all()


def test_png_of_floats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float64"):
        write_png(tmp_path / "a.png", np.zeros((4, 4, 3)))
