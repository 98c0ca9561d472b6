"""Data modules over files: several sizes in one set, images among videos, flips, shards; the same samples always."""

import json
import logging
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lingen_kit.data import AutoData, Buckets, Hybrid, ImageFolder, TorchvisionImages, VideoFolder, WebDataset
from lingen_kit.data.base import TooManyUnusable
from lingen_kit.data.clip import Clip
from lingen_kit.data.clip_dataset import ClipDataset, NothingReadable, names_a_side
from lingen_kit.data.loader import TrainingLoader
from lingen_kit.data.order import Draw
from lingen_kit.data.sampler import Schedule
from tests.data.conftest import Encode, read_numbers

BUCKETS = Buckets(sizes=[(4, 32, 32), (4, 24, 40), (8, 32, 32), (1, 32, 32)])
SIZE: dict[str, Any] = {"frames": 8, "height": 32, "width": 40, "fps": 10.0}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGEN_KIT_CACHE", str(tmp_path / "cache"))


Fill = Callable[..., Path]


@pytest.fixture
def mixed(tmp_path: Path, encode: Encode) -> Path:
    """Videos of two shapes and two lengths, and six pictures, all captioned."""
    root = tmp_path / "clips"
    root.mkdir()
    for shape, (height, width) in {"square": (48, 48), "wide": (36, 64)}.items():
        for length, count in {"short": 6, "long": 20}.items():
            original = encode(name=f"{shape}_{length}", count=count, fps=10, height=height, width=width)
            for number in range(3):
                shutil.copy(original, root / f"{shape}_{length}_{number}.mp4")
    for number in range(6):
        Image.new("RGB", (64, 64), (200, 50, 50)).save(root / f"picture_{number}.png")
    for path in list(root.iterdir()):
        path.with_suffix(".txt").write_text(f"caption of {path.stem}")
    return root


def batches(loader: TrainingLoader, count: int) -> list[Any]:
    taken: list[Any] = []
    while len(taken) < count:
        for batch in loader:
            taken.append(batch)
            if len(taken) == count:
                break
    return taken


def shapes(data: AutoData) -> dict[str, tuple[int, ...]]:
    """The size of each file's clip, over enough batches to see every file."""
    seen: dict[str, tuple[int, ...]] = {}
    for batch in batches(data.train_dataloader(), 40) + list(data.val_dataloader()):
        for source in batch["source"]:
            seen[Path(source).stem] = tuple(batch["video"].shape[2:])
    return seen


def test_each_file_is_cut_to_the_size_that_fits_it(mixed: Path) -> None:
    data = AutoData(str(mixed), buckets=BUCKETS, batch_size=2, **SIZE)
    data.setup("fit")
    expected = {f"square_long_{i}": (8, 32, 32) for i in range(3)} | {
        f"square_short_{i}": (4, 32, 32) for i in range(3)
    }
    expected |= {f"wide_long_{i}": (8, 32, 32) for i in range(3)} | {f"wide_short_{i}": (4, 24, 40) for i in range(3)}
    expected |= {f"picture_{i}": (1, 32, 32) for i in range(6)}
    assert shapes(data) == expected
    assert data.skipped_report() == []


def test_a_batch_holds_as_many_tokens_as_allowed(mixed: Path) -> None:
    data = AutoData(str(mixed), buckets=BUCKETS, batch_tokens=300, token_size=(1, 4, 4), **SIZE)
    sizes = {batch["video"].shape[2:]: len(batch["video"]) for batch in batches(data.train_dataloader(), 120)}
    assert sizes == {(4, 32, 32): 1, (4, 24, 40): 1, (8, 32, 32): 1, (1, 32, 32): 4}


def test_what_no_size_fits_is_named_with_the_reason(mixed: Path) -> None:
    buckets = Buckets(sizes=[(8, 32, 32)])
    data = AutoData(str(mixed), buckets=buckets, max_bad_share=1.0, **SIZE)
    assert data.sizes == [(8, 32, 32)]  # one size: files are looked into when they are read
    two = Buckets(sizes=[(8, 32, 32), (8, 24, 40)])
    data = VideoFolder(str(mixed), buckets=two, max_bad_share=1.0, **SIZE)
    data.setup("fit")
    dropped = {Path(path).stem: reason for path, reason in data.skipped_report() if "too short" in reason}
    assert set(dropped) == {f"{shape}_short_{i}" for shape in ("square", "wide") for i in range(3)}
    with pytest.raises(
        TooManyUnusable, match=r"too short: 0\.60 s, and 8 frames at 10 per second need more than 0\.70 s"
    ):
        VideoFolder(str(mixed), buckets=two, **SIZE).setup("fit")


def test_files_are_looked_into_once(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> list[str]:
        names: list[str] = []
        original = lingen_kit_probe
        monkeypatch.setattr(probing, "probe", lambda source: names.append(Path(source).name) or original(source))
        AutoData(str(mixed), buckets=BUCKETS, **SIZE).setup("fit")
        return names

    from lingen_kit.data import probing
    from lingen_kit.data.decode import probe as lingen_kit_probe

    assert len(asked()) == 18
    assert asked() == []
    shutil.copy(mixed / "square_long_0.mp4", mixed / "square_short_0.mp4")
    assert asked() == ["square_short_0.mp4"]


def ledger(data: AutoData, count: int = 30) -> list[tuple[str, Tensor]]:
    taken = batches(data.train_dataloader(), count)
    return [(source, video) for batch in taken for source, video in zip(batch["source"], batch["video"], strict=True)]


def same(one: list[tuple[str, Tensor]], other: list[tuple[str, Tensor]]) -> bool:
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_read_the_same_samples(mixed: Path, num_workers: int) -> None:
    options = {"buckets": BUCKETS, "batch_size": 2, "crop": "random", "flip": 0.5, **SIZE}
    alone = ledger(AutoData(str(mixed), **options), 12)
    assert same(ledger(AutoData(str(mixed), num_workers=num_workers, **options), 12), alone)


def test_images_come_at_the_ratio_asked_for(mixed: Path) -> None:
    data = Hybrid(videos=str(mixed), images=str(mixed), image_ratio=0.5, batch_size=2, **SIZE | {"frames": 4})
    taken = batches(data.train_dataloader(), 300)
    kinds = Counter(batch["video"].shape[2:] for batch in taken)
    assert set(kinds) == {(4, 32, 40), (1, 32, 40)}
    assert kinds[1, 32, 40] / kinds[4, 32, 40] == pytest.approx(0.5, abs=0.02)
    assert all(Path(s).suffix == ".png" for batch in taken if batch["video"].shape[2] == 1 for s in batch["source"])
    assert all(batch["video"].shape[2] == 4 for batch in data.val_dataloader())


def test_an_image_is_the_clip_that_it_shows(mixed: Path) -> None:
    data = ImageFolder(str(mixed), height=32, width=32, batch_size=1)
    sample = data.train_dataset()[0]
    assert sample["video"].shape == (3, 1, 32, 32)
    assert (sample["video"][:, 0, 16, 16] * 127.5 + 127.5).round().tolist() == [200, 50, 50]
    assert sample["caption"].startswith("caption of picture_")


def clip_dataset(paths: list[Path], captions: list[str], **options: Any) -> ClipDataset:
    clips = [Clip(path, path.name, caption) for path, caption in zip(paths, captions, strict=True)]
    return ClipDataset(clips, [(1, 32, 32)] * len(clips), fps=10.0, seed=0, vary=True, **options)


def test_mirroring_leaves_captions_true(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32] = 255
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
    free = clip_dataset(paths, ["a wall, half of it white"] * 40, flip=0.5)
    flipped = [bool(free.draw(index, epoch=0)["video"][0, 0, 16, 4] < 0) for index in range(40)]
    assert 8 < sum(flipped) < 32
    assert flipped == [bool(free.draw(index, epoch=0)["video"][0, 0, 16, 4] < 0) for index in range(40)]
    assert flipped != [bool(free.draw(index, epoch=1)["video"][0, 0, 16, 4] < 0) for index in range(40)]
    sided = clip_dataset(paths, ["white on the left, black on the right"] * 40, flip=1.0)
    assert all(sided.draw(index, epoch=0)["video"][0, 0, 16, 4] > 0 for index in range(40))


@pytest.mark.parametrize(
    "caption,sided",
    [
        ("a car turns Left", True),
        ("the leftmost of three", True),
        ("a right-handed batter", True),
        ("moving rightwards", True),
        ("向左走", True),
        ("turning_left at the light", True),
        ("the topleft corner", True),
        ("nach links", True),
        ("a bright room", False),
        ("copyright", False),
        ("a cleft rock", False),
    ],
)
def test_captions_that_name_a_side(caption: str, sided: bool) -> None:
    assert names_a_side(caption) is sided


def test_random_crops_stay_inside_and_differ_from_pass_to_pass(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 128).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[None, :, None], (32, 128, 3)).copy()).save(tmp_path / "ramp.png")
    data = clip_dataset([tmp_path / "ramp.png"], ["a ramp"], crop="random")
    places = [float(data.draw(0, epoch)["video"].mean()) for epoch in range(12)]
    assert len({round(place, 3) for place in places}) > 8
    assert -0.76 < min(places) < -0.3
    assert 0.3 < max(places) < 0.76
    center = clip_dataset([tmp_path / "ramp.png"], ["a ramp"])
    assert abs(float(center.draw(0, 0)["video"].mean())) < 0.02


def test_stretches_of_a_file_are_clips_of_their_own(tmp_path: Path, encode: Encode) -> None:
    path = encode(count=90)
    entries = [
        {"file_name": path.name, "text": "first", "start": 0.0, "end": 1.0},
        {"file_name": path.name, "text": "second", "start": 1.0, "end": 2.0},
        {"file_name": path.name, "text": "last", "start": 2.0},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    data = VideoFolder(str(manifest), frames=5, height=48, width=64, fps=30.0)
    seen: dict[str, set[int]] = {}
    dataset = data.train_dataset()
    for epoch in range(30):
        for index in range(len(dataset)):
            sample = dataset.draw(index, epoch)
            seen.setdefault(sample["caption"], set()).update(read_numbers(sample["video"]))
    for caption, first in (("first", 0), ("second", 30), ("last", 60)):
        assert seen[caption] <= set(range(first, first + 30))
        assert max(seen[caption]) - min(seen[caption]) > 20


@pytest.mark.parametrize("short", ["skip", "hold"])
def test_a_stretch_shows_nothing_of_the_next_scene(tmp_path: Path, encode: Encode, short: str) -> None:
    path = encode(count=90)
    lines = [{"file_name": path.name, "text": f"scene {i}", "start": float(i), "end": i + 1.0} for i in range(3)]
    lines.append({"file_name": path.name, "text": "rounded up", "start": 2.0, "end": 3.4})  # the file has 3 s
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    size = {"height": 48, "width": 64, "fps": 10.0}
    data = VideoFolder(str(manifest), short=short, frames=8, **size).train_dataset()
    for epoch in range(6):
        for index in range(len(data)):
            sample = data.draw(index, epoch)
            first = {"scene 0": 0, "scene 1": 30}.get(sample["caption"], 60)
            assert set(read_numbers(sample["video"])) <= set(range(first, first + 30))
            assert "skipped" not in sample
    long = VideoFolder(str(manifest), short=short, frames=20, **size).train_dataset()
    if short == "skip":
        with pytest.raises(NothingReadable, match=r"its stretch from .* s on has 1.00 s; 20 frames"):
            long.draw(0, 0)
    else:
        numbers = read_numbers(long.draw(0, 0)["video"])
        assert numbers == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27] + [27] * 10


def test_a_size_with_no_readable_file_borrows_one(mixed: Path) -> None:
    data = AutoData(str(mixed), buckets=BUCKETS, batch_size=1, **SIZE)
    dataset = data.train_dataset()
    for index, clip in enumerate(dataset.clips):
        if dataset.sizes[index] == (4, 24, 40):
            assert isinstance(clip.path, Path)
            clip.path.write_bytes(b"damaged since it was looked into")
    index = dataset.by_size[4, 24, 40][0]
    sample = dataset.draw(index, 0)
    assert sample["video"].shape == (3, 4, 24, 40)
    assert len(sample["skipped"]) == len(dataset.by_size[4, 24, 40])


def test_videos_and_images_may_lie_anywhere(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mixed.parent)
    data = Hybrid(videos="clips", images=str(mixed), **SIZE | {"frames": 4})
    data.setup("fit")
    assert len(data.clips()) == 18


def test_bad_files_are_counted_as_files(tmp_path: Path, encode: Encode) -> None:
    lines = []
    for number in range(5):
        path = encode(name=str(number), count=30)
        lines += [{"file_name": path.name, "text": f"{i}", "start": i / 10, "end": i / 10 + 0.2} for i in range(8)]
        if number > 2:
            path.write_bytes(b"no video")
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = VideoFolder(str(tmp_path / "manifest.jsonl"), frames=2, height=16, width=16, fps=10.0, batch_size=8)
    with pytest.raises(TooManyUnusable, match="of 5 files"):
        batches(data.train_dataloader(), 20)


def write_stretches(path: Path, manifest: Path, *stretches: tuple[float, float | None]) -> None:
    entries = [{"file_name": path.name, "text": f"{start}", "start": start, "end": end} for start, end in stretches]
    lines = [json.dumps({key: value for key, value in entry.items() if value is not None}) for entry in entries]
    manifest.write_text("\n".join(lines))


def test_stretches_of_one_film_are_warned_to_validate_too(
    tmp_path: Path, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    write_stretches(encode(count=90), tmp_path / "manifest.jsonl", (0.0, 1.0), (1.0, 2.0), (2.0, None))
    data = VideoFolder(str(tmp_path / "manifest.jsonl"), frames=5, height=48, width=64, fps=30.0)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert (
        "all clips are of one file" in caplog.text and "clip.mp4: they serve for training and for valid" in caplog.text
    )
    assert "data: 3 clips to train on, 3 to validate on" in caplog.messages


def test_a_stretch_ends_with_its_file(tmp_path: Path, encode: Encode) -> None:
    """With buckets, too: an `end` beyond that of the file adds no seconds, a start beyond it leaves none."""
    write_stretches(encode(count=90), tmp_path / "manifest.jsonl", (0.0, 99.0), (2.5, 99.0), (2.9, 9.0), (4.0, 9.0))
    for short, lengths in (("skip", [20, 4]), ("hold", [20, 4, 4])):
        data = VideoFolder(
            str(tmp_path / "manifest.jsonl"),
            buckets=Buckets(sizes=[(4, 48, 64), (20, 48, 64)]),
            short=short,  # type: ignore[arg-type]
            max_bad_share=1.0,
            **SIZE | {"frames": 20, "height": 48, "width": 64},
        )
        dataset = data.train_dataset()
        assert [size[0] for size in dataset.sizes] == lengths
        for index in range(len(dataset)):
            for epoch in range(4):
                assert "skipped" not in dataset.draw(index, epoch)
    assert data.skipped_report() == [
        (str(tmp_path / "clip.mp4"), "its stretch begins at 4.00 s, and the file ends at 3.00 s")
    ]


def test_files_that_come_leave_the_order_of_the_others(mixed: Path) -> None:
    options = {"buckets": BUCKETS, "batch_size": 1, "validation_share": 0.01, **SIZE}

    def order() -> list[str]:
        data = AutoData(str(mixed), **options)
        (bucket,) = (bucket for bucket in data.buckets(data.train_dataset()) if bucket.name == "8x32x32")
        schedule = Schedule([bucket], 1, data.seed)
        clips = data.train_dataset().clips
        return [clips[schedule.draws(step)[0].index].name for step in range(len(bucket.members))]

    before = order()
    for name in ("a_new", "m_new", "z_new"):
        shutil.copy(mixed / "square_long_0.mp4", mixed / f"{name}.mp4")
        (mixed / f"{name}.txt").write_text("new")
    after = order()
    assert len(after) == len(before) + 3
    assert [name for name in after if "new" not in name] == before


def test_an_unguarded_script_is_told_to_guard_itself(mixed: Path, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "from pathlib import Path\nfrom lingen_kit.data.clip import Clip\n"
        "from lingen_kit.data.probing import probe_clips\n"
        f"path = Path({str(mixed / 'square_long_0.mp4')!r})\nprint(list(probe_clips([Clip(path, 'a', 'b')], 1)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    assert 'put what the script does under `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


def test_a_shard_trains_as_its_files_do(mixed: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "shard-000.tar", "w") as archive:
        for path in sorted(mixed.glob("square_long_*")):
            archive.add(path, path.name)
    data = WebDataset(str(tmp_path / "shard-000.tar"), batch_size=1, **SIZE)
    files = VideoFolder(str(mixed), batch_size=1, max_bad_share=1.0, **SIZE)
    from_files = {clip.caption: index for index, clip in enumerate(files.dataset_of(files.clips(), vary=False).clips)}
    whole = files.dataset_of(files.clips(), vary=False)
    members = data.dataset_of(data.clips(), vary=False)
    assert len(members) == 3
    for index in range(3):
        sample = members[index]
        assert torch.equal(sample["video"], whole[from_files[sample["caption"]]]["video"])
    with pytest.raises(ValueError, match="holds no shards"):
        WebDataset(str(mixed), **SIZE).setup("fit")


def test_torchvision_data_sets_are_clips_of_one_frame() -> None:
    from torchvision.datasets import FakeData

    fake = FakeData(size=50, image_size=(3, 40, 60), num_classes=3)
    fake.classes = ["cat", "dog", "red_fox"]  # type: ignore[attr-defined]
    data = TorchvisionImages(fake, height=32, width=32, batch_size=8, validation_share=0.2)
    batch = next(iter(data.train_dataloader()))
    assert batch["video"].shape == (8, 3, 1, 32, 32)
    assert set(batch["caption"]) <= {"a photo of cat", "a photo of dog", "a photo of red fox"}
    sides = [
        {sample["source"] for sample in (side[i] for i in range(len(side)))}
        for side in (data.train_dataset(), data.validation_dataset())
    ]
    assert len(sides[0]) == 40
    assert len(sides[1]) == 10
    assert not sides[0] & sides[1]
    image, label = fake[data.train_dataset().indices[3]]
    expected = np.asarray(image)[:, 10:50].mean() / 127.5 - 1
    assert float(data.train_dataset()[3]["video"].mean()) == pytest.approx(expected, abs=0.01)
    assert data.train_dataset()[3]["caption"].endswith(["cat", "dog", "red fox"][int(label)])


def test_images_of_torchvision_that_cannot_be_read_get_a_stand_in() -> None:
    class Damaged:
        classes = ("cat",)

        def __init__(self, bad: set[int]) -> None:
            self.bad = bad

        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            if index in self.bad:
                raise OSError("image file is truncated")
            return Image.new("RGB", (8, 8)), 0

    data = TorchvisionImages(Damaged({5}), height=8, width=8, batch_size=8, validation_share=0.1)  # type: ignore[arg-type]
    taken = batches(data.train_dataloader(), 10) + list(data.val_dataloader())
    assert data.skipped_report() == [("Damaged:5", "image file is truncated")]
    assert all("Damaged:5" not in batch["source"] for batch in taken)
    data = TorchvisionImages(Damaged({5, 6, 7}), height=8, width=8, batch_size=8)  # type: ignore[arg-type]
    with pytest.raises(TooManyUnusable, match="of 40 files"):
        batches(data.train_dataloader(), 10) + list(data.val_dataloader())
    with pytest.raises(NothingReadable, match=r"none of 36 images[^$]*truncated[^$]*and 26 more"):
        TorchvisionImages(Damaged(set(range(40))), height=8, width=8).train_dataset()[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda root: AutoData(root, validation_share=0), r"validation_share is 0; it must be above 0 and below 1"),
        (lambda root: AutoData(root, flip=1.5), r"data\.flip is 1.5; it is a share"),
        (lambda root: AutoData(root, batch_tokens=0), r"data\.batch_tokens is 0"),
        (lambda root: AutoData(root, token_size=(1, 0, 4)), r"data\.token_size is 0"),
        (lambda root: AutoData(root, frames=4, buckets=BUCKETS), "8x32x32 exceeds 4x32x32"),
        (lambda root: Hybrid(root, root, frames=1), "no videos to mix images with"),
        (lambda root: Hybrid(root, root, image_ratio=0.0), r"data\.image_ratio is 0.0"),
    ],
)
def test_options_that_cannot_work_are_named(make: Callable[[str], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("clips")


def test_a_batch_is_what_its_samples_are(mixed: Path) -> None:
    data = AutoData(str(mixed), buckets=BUCKETS, crop="random", flip=0.5, batch_size=3, **SIZE)
    loader = data.train_dataloader()
    dataset = data.train_dataset()
    for step, batch in enumerate(batches(loader, 8)):
        for video, caption, draw in zip(batch["video"], batch["caption"], loader.schedule.draws(step), strict=True):
            sample = dataset.draw(draw.index, draw.epoch)
            assert caption == sample["caption"]
            assert torch.equal(video, sample["video"])


def test_levels_that_travel_to_a_gpu_become_the_same_numbers_there(mixed: Path) -> None:
    data = VideoFolder(str(mixed), batch_size=2, short="hold", **SIZE)
    dataset = data.train_dataset()
    levels = dataset.read_batch([Draw(0, 0), Draw(1, 0)])
    assert levels["video"].dtype == torch.uint8
    batch = data.on_after_batch_transfer(levels, 0)
    for index in range(2):
        assert torch.equal(batch["video"][index], dataset.draw(index, 0)["video"])


def test_what_cannot_be_used_is_written_to_the_run_folder_once(mixed: Path, tmp_path: Path) -> None:
    for number in range(2):
        (mixed / f"bad_{number}.mp4").write_bytes(b"no video")
        (mixed / f"bad_{number}.txt").write_text("bad")
    (mixed / "lonely.mp4").write_bytes(b"no caption")
    for _ in range(2):  # a run, and one that continues it
        data = VideoFolder(str(mixed), batch_size=2, short="hold", max_bad_share=0.5, **SIZE)
        data.keep_report(tmp_path / "run")
        data.setup("fit")
        batches(data.train_dataloader(), 16)
    lines = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    reasons = {Path(line["source"]).name: line["reason"] for line in lines}
    assert len(lines) == len(reasons)
    assert "no caption" in reasons["lonely.mp4"]
    bad = [reason for name, reason in reasons.items() if name.startswith("bad_")]  # one of them may validate
    assert bad and all("it is no video" in reason for reason in bad)
    assert len(reasons) >= 2
