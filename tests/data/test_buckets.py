"""Which sizes of clips there are, and which of them a file goes to."""

import math

import pytest

from lingen_kit.data.buckets import Buckets, Size, choose_size, name_of, tokens_in
from lingen_kit.data.media import VideoInfo

BOUND = (33, 128, 128)


def test_every_combination_of_lengths_resolutions_and_aspects_is_a_size() -> None:
    sizes = Buckets(frames=[17, 33], sides=[64, 96], aspects=["16/9", "1:1", "9/16"], multiple=8).list_sizes(BOUND)
    assert len(sizes) == 12
    assert all(side % 8 == 0 for _, *sides in sizes for side in sides)
    assert {size[0] for size in sizes} == {17, 33}
    for _, height, width in sizes:
        ratio = width / height
        assert min(abs(math.log(ratio / wanted)) for wanted in (16 / 9, 1, 9 / 16)) < 0.13
        assert min(abs(math.log(height * width / side**2)) for side in (64, 96)) < 0.1
    assert (17, 64, 64) in sizes
    assert (33, 96, 96) in sizes


def test_what_is_not_given_is_the_datas() -> None:
    assert Buckets().list_sizes((8, 48, 64)) == [(8, 48, 64)]
    assert Buckets(frames=[1, 8]).list_sizes((8, 48, 64)) == [(1, 48, 64), (8, 48, 64)]


@pytest.mark.parametrize(
    "side,aspect,expected",
    [
        (32, "4/3", (24, 32)),
        (32, "3/4", (32, 24)),
        (36, 1.0, (40, 40)),
        (64, "16/9", (48, 88)),
        (96, 16 / 9, (72, 128)),
    ],
)
def test_sides_are_rounded_to_the_nearest_aspect(side: int, aspect: str | float, expected: tuple[int, int]) -> None:
    assert Buckets(sides=[side], aspects=[aspect]).list_sizes(BOUND) == [(33, *expected)]


def test_listed_sizes_are_taken_as_they_are() -> None:
    assert Buckets(sizes=[(8, 32, 32), (1, 30, 50), (8, 32, 32)]).list_sizes((8, 32, 50)) == [(1, 30, 50), (8, 32, 32)]


@pytest.mark.parametrize(
    "buckets,message",
    [
        (Buckets(sizes=[(8, 32, 32)], frames=[8]), "either sizes, or"),
        (Buckets(sizes=[(8, 0, 32)]), "8x0x32 .* holds nothing"),
        (
            Buckets(sizes=[(64, 32, 32)]),
            "64x32x32 exceeds 33x128x128 .* raise those, or give smaller data.buckets.sizes",
        ),
        (Buckets(aspects=["16/9"]), r"33x96x168 exceeds 33x128x128 .* smaller .* data\.buckets\.sides"),
        (Buckets(aspects=["wide"]), "'wide' is no aspect ratio; write width/height, such as 16/9"),
        (Buckets(aspects=["1/0"]), "'1/0' is no aspect ratio"),
        (Buckets(aspects=[243.0]), "243 is no aspect ratio; YAML reads 4:3 as that number.* write 4/3"),
        (Buckets(aspects=[-1.5]), "-1.5 is no aspect ratio"),
        (Buckets(multiple=0), "multiple is 0"),
    ],
)
def test_sizes_that_cannot_be_are_named(buckets: Buckets, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        buckets.list_sizes(BOUND)


SIZES: list[Size] = [
    (frames, height, width)
    for frames in (1, 9, 17)
    for height, width in ((64, 64), (48, 80), (80, 48), (96, 96), (72, 128))
]


def choose(
    width: int, height: int, seconds: float, *, kind: str = "video", hold: bool = False, enlarge: bool = True
) -> Size | str:
    info = VideoInfo(frames=round(seconds * 30), duration=seconds, fps=30.0, width=width, height=height)
    return choose_size(SIZES, info, kind, seconds, 8.0, hold=hold, enlarge=enlarge)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "width,height,seconds,expected",
    [
        (640, 640, 10.0, (17, 96, 96)),
        (640, 640, 2.01, (17, 96, 96)),  # 17 frames at 8 per second show the moments 0 to 2 s
        (640, 640, 2.0, (9, 96, 96)),
        (1920, 1080, 1.5, (9, 72, 128)),
        (1080, 1920, 10.0, (17, 80, 48)),
        (100, 60, 10.0, (17, 48, 80)),  # 72x128 has the nearer aspect, but would be enlarged
        (64, 64, 10.0, (17, 64, 64)),
        (32, 32, 10.0, (17, 64, 64)),  # smaller than all: enlarged as little as possible
    ],
)
def test_a_file_goes_to_the_size_that_loses_least_of_it(
    width: int, height: int, seconds: float, expected: Size
) -> None:
    assert choose(width, height, seconds) == expected


def test_images_have_sizes_of_one_frame() -> None:
    assert "too short" in str(choose(640, 640, 0.5))  # a video is no image
    info = VideoInfo(15, 0.5, 30.0, 640, 640)
    assert choose_size([(1, 64, 64)], info, "video", 0.5, 8.0, hold=False, enlarge=True) == (1, 64, 64)
    assert choose(640, 640, 0.04, kind="image") == (1, 96, 96)
    info = VideoInfo(1, 0.04, 25.0, 640, 640)
    reason = choose_size([(8, 32, 32)], info, "image", 0.04, 8.0, hold=False, enlarge=True)
    assert reason == "an image, and no bucket is 1 frame long"


def test_why_a_file_is_left_out_is_said() -> None:
    info = VideoInfo(15, 0.5, 30.0, 320, 180)
    short = choose_size([(8, 32, 32), (16, 32, 32)], info, "video", 0.5, 8.0, hold=False, enlarge=True)
    assert (
        short == "too short: 0.50 s, and 8 frames at 8 per second need more than 0.88 s"
        " (short=hold would repeat the last frame)"
    )
    assert choose_size([(8, 32, 32), (16, 32, 32)], info, "video", 0.5, 8.0, hold=True, enlarge=True) == (8, 32, 32)
    assert choose(32, 24, 10.0, enlarge=False) == (
        "too small: 32x24 pixels would be enlarged 2.50 times for the bucket 17x48x80 (buckets.enlarge: true allows it)"
    )


def test_tokens_are_counted_with_the_blocks_at_the_edges() -> None:
    assert tokens_in((17, 64, 64), (1, 16, 16)) == 17 * 16
    assert tokens_in((17, 60, 64), (8, 16, 16)) == 3 * 4 * 4
    assert name_of((17, 64, 80)) == "17x64x80"
