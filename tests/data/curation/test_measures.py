"""What filters measure of videos whose truth is known."""

import math
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from lingen_kit.data.curation import Duration, Exposure, Frozen, Motion, Resolution, Sharpness
from tests.data.curation.footage import FPS, Frames, flat, pan, resized, write

Score = Callable[..., dict[str, float]]


def blurred(frames: Frames, radius: float) -> Frames:
    for frame in frames:
        yield np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius)))


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sharp") / "sharp.mp4", pan("coffee", 2, 0.25))


@pytest.mark.parametrize("speed", [0.05, 0.25, 0.5])
def test_motion_is_the_speed_of_a_pan(speed: float, tmp_path: Path, score: Score) -> None:
    found = score(write(tmp_path / "pan.mp4", pan("coffee", 2, speed)), Motion())
    assert found["motion"] == pytest.approx(speed, rel=0.15)
    assert found["shake"] < 0.15 * speed


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_motion_does_not_depend_on_the_resolution(scale: float, sharp: Path, tmp_path: Path, score: Score) -> None:
    frames = resized(pan("coffee", 2, 0.25), round(256 * scale), round(144 * scale))
    found = score(write(tmp_path / "other.mp4", frames), Motion())
    assert found["motion"] == pytest.approx(score(sharp, Motion())["motion"], rel=0.1)


def test_a_camera_that_trembles_shakes(tmp_path: Path, score: Score) -> None:
    def trembling() -> Frames:
        frames = list(pan("coffee", 1, 0.25))
        for number in range(2 * FPS):  # back and forth three times a second
            yield frames[12 + round(3 * math.sin(2 * math.pi * 3 * number / FPS))]

    found = score(write(tmp_path / "shaky.mp4", trembling()), Motion())
    assert found["shake"] > 0.15
    assert Motion(max_shake=0.15).keep(found) == f"shake {found['shake']:.4g} is above 0.15"


def test_a_still_picture_is_frozen_and_does_not_move(tmp_path: Path, score: Score) -> None:
    still = next(pan("chelsea", 1, 0.1))
    path = write(tmp_path / "still.mp4", (still for _ in range(72)), crf=30)
    assert score(path, Frozen())["frozen"] == 1
    assert score(path, Motion())["motion"] < 0.002


def test_the_frozen_share_is_that_of_the_time(tmp_path: Path, score: Score) -> None:
    frames = list(pan("chelsea", 3, 0.15))
    path = write(tmp_path / "hung.mp4", chain(frames, (frames[-1] for _ in range(72))))
    assert score(path, Frozen())["frozen"] == pytest.approx(0.5, abs=0.05)
    assert score(path, Frozen(), end=3.0)["frozen"] == 0
    assert score(path, Frozen(), start=3.0)["frozen"] == 1


def test_a_small_thing_that_moves_is_no_still(tmp_path: Path, score: Score) -> None:
    def speck() -> Frames:
        ground = next(pan("chelsea", 1, 0.1))
        for number in range(48):
            frame = ground.copy()
            frame[60:80, number * 4 : number * 4 + 20] = 255
            yield frame

    assert score(write(tmp_path / "speck.mp4", speck()), Frozen())["frozen"] == 0


def test_black_frames_are_counted(sharp: Path, tmp_path: Path, score: Score) -> None:
    path = write(tmp_path / "fade.mp4", chain(flat(3, 1), pan("coffee", 3, 0.2)))
    found = score(path, Exposure())
    assert found["black"] == pytest.approx(0.25, abs=0.07)
    assert Exposure().keep(found) == f"black {found['black']:.4g} is above 0"
    assert score(path, Exposure(), start=1.0)["black"] == 0
    assert score(sharp, Exposure())["black"] == 0


@pytest.mark.parametrize(("value", "reason"), [(8, "black 1"), (30, None), (128, None), (254, "brightness")])
def test_exposure_of_a_plain_picture(value: int, reason: str | None, tmp_path: Path, score: Score) -> None:
    found = score(write(tmp_path / "plain.mp4", flat(value, 0.5)), Exposure())
    assert found["brightness"] == pytest.approx(value / 255, abs=0.02)
    assert found["burnt"] == (value > 250)
    dropped = Exposure().keep(found)
    assert dropped is None if reason is None else (dropped or "").startswith(reason)


def test_blur_lowers_sharpness(sharp: Path, tmp_path: Path, score: Score) -> None:
    values = [score(sharp, Sharpness())["sharpness"]]
    for radius in (1, 2, 4):
        path = write(tmp_path / f"{radius}.mp4", blurred(pan("coffee", 1, 0.25), radius))
        values.append(score(path, Sharpness())["sharpness"])
    assert all(after < before / 1.5 for before, after in pairwise(values)) and values[-1] < values[0] / 10
    assert Sharpness().keep({"sharpness": values[0]}) is None
    assert (Sharpness().keep({"sharpness": values[-1]}) or "").endswith("is below 20")


def test_sharpness_sees_through_enlargement(tmp_path: Path, score: Score) -> None:
    """A small file, and the same enlarged, are as sharp as each other, and less so than the large original."""
    large = write(tmp_path / "large.mp4", resized(pan("coffee", 1, 0.1), 512, 288), crf=12)
    small = write(tmp_path / "small.mp4", resized(pan("coffee", 1, 0.1), 128, 72), crf=12)
    enlarged = write(tmp_path / "enlarged.mp4", resized(resized(pan("coffee", 1, 0.1), 128, 72), 512, 288), crf=12)
    values = {path.stem: score(path, Sharpness())["sharpness"] for path in (large, small, enlarged)}
    assert values["small"] == pytest.approx(values["enlarged"], rel=0.6)
    assert values["large"] > 3 * max(values["small"], values["enlarged"])


def test_resolution_and_duration(sharp: Path, score: Score) -> None:
    found = score(sharp, Resolution(min_side=200))
    assert found == {"shorter_side": 144, "aspect": pytest.approx(16 / 9, abs=1e-4), "fps": FPS}
    assert Resolution(min_side=200).keep(found) == "shorter_side 144 is below 200"
    assert Resolution(max_aspect=1.5).keep(found) == "aspect 1.778 is above 1.5"
    assert Resolution(min_fps=30).keep(found) == "fps 24 is below 30"
    assert Resolution(144, 1.0, 2.0, 24).keep(found) is None
    assert score(sharp, Duration())["seconds"] == pytest.approx(2, abs=0.001)
    assert Duration(1, 1.5).keep({"seconds": 2.0}) == "seconds 2 is above 1.5"


def test_a_stretch_without_a_sample_cannot_be_measured(sharp: Path, score: Score) -> None:
    for each in (Sharpness(), Exposure(), Frozen(), Motion()):
        found = score(sharp, each, start=0.01, end=0.02)
        assert all(map(math.isnan, found.values()))
        assert "cannot be measured" in (each.keep(found) or "")


def test_real_footage_has_plausible_values(real_videos: dict[str, Path], score: Score) -> None:
    bunny = real_videos["bigbuckbunny.mp4"]  # a rendered meadow; a rabbit comes out of its burrow, the camera rests
    assert 400 < score(bunny, Sharpness())["sharpness"] < 1500
    assert 0.005 < score(bunny, Motion())["motion"] < 0.05
    assert score(bunny, Frozen())["frozen"] == 0
    assert 0.3 < score(bunny, Exposure())["brightness"] < 0.6
    bikes = real_videos["bikes.mp4"]  # a montage of a city; in its second shot a bus passes near the camera
    assert score(bikes, Motion(), start=1.3, end=2.94)["motion"] > 5 * score(bunny, Motion())["motion"]
