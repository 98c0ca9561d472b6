"""A folder of real files: captions, the split, stand-ins for broken clips, plain words on what is wrong."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lingen_kit.data import VideoFolder
from lingen_kit.data.base import TooManyUnusable
from lingen_kit.data.clip import Clip, split
from lingen_kit.data.clip_dataset import ClipDataset, NothingReadable
from tests.data.conftest import Encode, read_numbers

SIZE = {"frames": 4, "height": 48, "width": 64, "fps": 30.0}

Fill = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, encode: Encode) -> Fill:
    """Fill a folder with copies of one numbered clip, captioned in sidecar files, and give its path."""

    def fill(*names: str, captions: bool = True, seconds: float = 1.0) -> Path:
        root = tmp_path / "clips"
        root.mkdir(exist_ok=True)
        original = encode(name="original", count=round(30 * seconds))
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(original, path)
            if captions:
                path.with_suffix(".txt").write_text(f"caption of {name}\n")
        return root

    return fill


def write_metadata(root: Path, *entries: dict[str, object] | str) -> None:
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    (root / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def test_batches_of_real_videos(real_videos: dict[str, Path], tmp_path: Path) -> None:
    for name, path in real_videos.items():
        shutil.copy(path, tmp_path / name)
    write_metadata(tmp_path, *({"file_name": name, "text": f"the clip {name}"} for name in real_videos))
    data = VideoFolder(str(tmp_path), batch_size=2, frames=4, height=32, width=48)
    data.setup("fit")
    train, validation = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    assert train["video"].shape == (2, 3, 4, 32, 48)
    assert validation["video"].shape == (1, 3, 4, 32, 48)
    for batch in (train, validation):
        assert batch["video"].abs().max() <= 1
        assert batch["video"].flatten(1).std(dim=1).min() > 0.1
        assert batch["fps"] == [8.0] * len(batch["source"])
        assert batch["caption"] == [f"the clip {Path(source).name}" for source in batch["source"]]
    assert set(train["source"]).isdisjoint(validation["source"])
    assert data.skipped_report() == []


def numbers(data: ClipDataset, epoch: int) -> list[list[int]]:
    return [read_numbers(data.draw(index, epoch)["video"]) for index in range(len(data))]


def test_training_starts_anywhere_and_reproducibly(folder: Fill) -> None:
    root = folder(*(f"{letter}.mp4" for letter in "abcdefgh"), seconds=2.0)

    def training(seed: int) -> ClipDataset:
        return VideoFolder(str(root), seed=seed, **SIZE).train_dataset()

    drawn = [numbers(training(seed=0), epoch) for epoch in range(3)]
    assert drawn == [numbers(training(seed=0), epoch) for epoch in range(3)]
    assert drawn[0] != drawn[1] != drawn[2]
    assert numbers(training(seed=1), epoch=0) != drawn[0]
    starts = [clip[0] for clips in drawn for clip in clips]
    assert len(set(starts)) > 10
    assert max(starts) - min(starts) > 30
    assert all(clip == list(range(clip[0], clip[0] + 4)) for clips in drawn for clip in clips)


def test_validation_always_shows_the_middle(folder: Fill) -> None:
    data = VideoFolder(str(folder("a.mp4", "b.mp4")), **SIZE).validation_dataset()
    assert read_numbers(data[0]["video"]) == read_numbers(data.draw(0, epoch=5)["video"]) == [13, 14, 15, 16]


def make_clips(count: int) -> list[Clip]:
    return [Clip(Path(f"clip{number}.mp4"), f"clip{number}.mp4", "a clip") for number in range(count)]


@pytest.mark.parametrize("count", [2, 3, 5, 20, 1000])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_split_is_complete_and_leaves_no_side_empty(count: int, share: float) -> None:
    training, validation = split(make_clips(count), share)
    assert training
    assert validation
    assert sorted(clip.name for clip in training + validation) == sorted(clip.name for clip in make_clips(count))
    if count == 1000:
        assert abs(len(validation) / count - share) < 0.04


def test_split_of_a_clip_does_not_depend_on_the_others() -> None:
    _, few = split(make_clips(300), 0.2)
    _, many = split(make_clips(1000), 0.2)
    assert {clip.name for clip in few} < {clip.name for clip in many}


def test_two_captions_of_one_clip_stay_on_one_side() -> None:
    clips = [Clip(clip.path, clip.name, text) for clip in make_clips(50) for text in ("one", "two")]
    training, validation = split(clips, 0.3)
    assert {clip.name for clip in training}.isdisjoint(clip.name for clip in validation)
    assert len(training) + len(validation) == 100


def test_single_clip_serves_as_both(folder: Fill, caplog: pytest.LogCaptureFixture) -> None:
    data = VideoFolder(str(folder("only.mp4")), batch_size=2, **SIZE)
    assert len(data.train_dataset()) == len(data.validation_dataset()) == 1
    assert "they serve for training and for validation" in caplog.text
    assert next(iter(data.train_dataloader()))["video"].shape == (2, 3, 4, 48, 64)


def test_validation_size_is_a_limit(folder: Fill) -> None:
    root = folder(*(f"{letter}.mp4" for letter in "abcdefgh"))
    data = VideoFolder(str(root), validation_share=0.5, validation_size=2, **SIZE)
    assert len(data.validation_dataset()) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_clips_get_a_stand_in_and_are_named(
    folder: Fill, caplog: pytest.LogCaptureFixture, num_workers: int
) -> None:
    root = folder(*(f"{number:02}.mp4" for number in range(12)))
    data = VideoFolder(str(root), batch_size=4, num_workers=num_workers, max_bad_share=0.2, **SIZE)
    first, second = (clip.path for clip in data.train_dataset().clips[3:5])
    first.write_bytes(b"")
    second.write_text("this is text")
    with caplog.at_level(logging.WARNING, logger="lingen_kit"):
        loader = data.train_dataloader()
        sources = [source for _ in range(3) for batch in loader for source in batch["source"]]
        assert str(first) not in sources
        assert str(second) not in sources
    report = dict(data.skipped_report())
    assert set(report) == {str(first), str(second)}
    assert "empty (0 bytes)" in report[str(first)]
    assert "Invalid data" in report[str(second)]
    assert sum(str(first) in message for message in caplog.messages) == 1
    assert sum(str(second) in message for message in caplog.messages) == 1


def test_stand_in_is_the_next_readable_clip(folder: Fill) -> None:
    data = VideoFolder(str(folder("a.mp4", "b.mp4", "c.mp4", "d.mp4")), **SIZE).train_dataset()
    last = len(data) - 1
    data.clips[last].path.write_bytes(b"")
    sample = data.draw(last, epoch=2)
    assert sample["source"] == str(data.clips[0].path)
    assert torch.equal(sample["video"], data.draw(0, epoch=2)["video"])
    assert sample["skipped"] == [(str(data.clips[last].path), "the file is empty (0 bytes)")]
    assert "skipped" not in data.draw(0, epoch=2)


def test_too_many_unreadable_clips_stop_training(folder: Fill) -> None:
    root = folder(*(f"{number:02}.mp4" for number in range(10)))
    data = VideoFolder(str(root), batch_size=4, max_bad_share=0.1, **SIZE)
    bad = [clip.path for clip in data.train_dataset().clips[:2]]
    for path in bad:
        path.write_bytes(b"")
    with pytest.raises(TooManyUnusable) as caught:
        for _ in range(3):
            list(data.train_dataloader())
    message = str(caught.value)
    assert "2 of 10 files (20%) cannot be used" in message
    assert all(str(path) in message for path in bad)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_all_clips_unreadable_is_one_plain_error(folder: Fill, num_workers: int) -> None:
    root = folder("a.mp4", "b.mp4", "c.mp4")
    data = VideoFolder(str(root), num_workers=num_workers, max_bad_share=1.0, **SIZE)
    for clip in data.train_dataset().clips:
        clip.path.write_bytes(b"")
    with pytest.raises(NothingReadable, match=r"as 2 cannot be read; repair, replace or remove") as caught:
        next(iter(data.train_dataloader()))
    assert str(caught.value).count("the file is empty (0 bytes)") == 2
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("side", ["train_dataset", "validation_dataset"])
@pytest.mark.parametrize("count", [1, 9, 15])
def test_a_folder_of_broken_files_is_named_at_once(tmp_path: Path, count: int, side: str) -> None:
    paths = [tmp_path / f"{number:02}.mp4" for number in range(count)]
    for path in paths:
        path.write_bytes(b"")
        path.with_suffix(".txt").write_text("a caption")
    with pytest.raises(NothingReadable, match=f"as {count} cannot be read") as caught:
        getattr(VideoFolder(str(tmp_path), **SIZE), side)()[0]
    named = [path for path in paths if f"{path}: the file is empty" in str(caught.value)]
    assert len(named) == min(count, 10)
    assert ("\n  and 5 more" in str(caught.value)) == (count == 15)


def test_files_of_the_other_side_are_blamed_only_if_broken(folder: Fill) -> None:
    data = VideoFolder(str(folder("a.mp4", "b.mp4", "c.mp4")), **SIZE).validation_dataset()
    data.clips[0].path.write_bytes(b"")
    with pytest.raises(NothingReadable, match="as 1 cannot be read") as caught:
        data[0]
    assert not any(str(clip.path) in str(caught.value) for clip in data.others)


def test_clips_too_short_are_skipped_or_held(folder: Fill) -> None:
    root = folder("a.mp4", "b.mp4", "c.mp4", seconds=0.2)
    options = {"frames": 12, "height": 48, "width": 64, "fps": 30.0}
    held = VideoFolder(str(root), short="hold", **options).train_dataset()[0]["video"]
    assert read_numbers(held) == [0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5]
    with pytest.raises(NothingReadable, match=r"ends after 0\.20 s; 12 frames at 30 per second.*short=hold"):
        VideoFolder(str(root), **options).train_dataset()[0]


def test_clips_without_captions_are_named_and_counted(folder: Fill) -> None:
    root = folder(*(f"{number:02}.mp4" for number in range(20)))
    (root / "03.txt").unlink()
    (root / "05.txt").write_text(" \n")
    data = VideoFolder(str(root), max_bad_share=0.1, **SIZE)
    data.setup("fit")
    assert data.skipped_report() == [
        (str(root / "03.mp4"), "no caption: there is no .txt beside it"),
        (str(root / "05.mp4"), "no caption: the .txt beside it is empty"),
    ]
    strict = VideoFolder(str(root), max_bad_share=0.05, **SIZE)
    with pytest.raises(TooManyUnusable, match=r"2 of 20 files \(10%\)[^$]*03\.mp4[^$]*05\.mp4"):
        strict.setup("fit")
    with pytest.raises(TooManyUnusable):
        strict.train_dataset()


@pytest.mark.parametrize("metadata", [False, True])
def test_file_names_that_are_not_utf8_are_named(folder: Fill, metadata: bool) -> None:
    root = folder("a.mp4", "b.mp4")
    name = os.fsdecode(b"caf\xe9.mp4")
    try:
        shutil.copy(root / "a.mp4", root / name)
        (root / name).with_suffix(".txt").write_text("a caption")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    if metadata:
        write_metadata(root, *({"file_name": each, "text": "one"} for each in ("a.mp4", "b.mp4", name)))
    data = VideoFolder(str(root), max_bad_share=0.5, **SIZE)
    data.setup("fit")
    [(path, reason)] = data.skipped_report()
    assert path == str(root / r"caf\udce9.mp4")
    assert reason.startswith("its name is not UTF-8; rename it")
    assert data.summary() == f"1 of 3 files skipped:\n  {root / 'caf'}\\udce9.mp4: {reason}"


def test_names_that_are_not_utf8_can_be_split() -> None:
    clips = [Clip(Path(name), name, "a clip") for name in ("\udce9.mp4", "\ud83d.mp4", "a.mp4")]
    training, validation = split(clips, 0.5)
    assert len(training) + len(validation) == 3


@pytest.mark.parametrize(
    "root,message", [("", r"is ''; set data\.root"), ("caf\udce9", r"caf\\udce9 is not UTF-8; rename it")]
)
def test_roots_that_cannot_be_meant_are_refused(root: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoFolder(root, **SIZE).setup("fit")


def broken_folder(folder: Fill, tmp_path: Path, kind: str) -> Path:
    match kind:
        case "missing":
            return tmp_path / "nowhere"
        case "file":
            (tmp_path / "file").write_text("")
            return tmp_path / "file"
        case "empty":
            return folder()
        case "no_captions":
            return folder("a.mp4", "b.mp4", captions=False)
        case "only_images":
            root = folder()
            (root / "a.png").write_bytes(b"")
            return root
    root = folder("a.mp4", captions=False)
    good: dict[str, object] = {"file_name": "a.mp4", "text": "one"}
    match kind:
        case "missing_file":
            write_metadata(root, good, {"file_name": "gone.mp4", "text": "two"})
        case "not_json":
            write_metadata(root, good, "", '{"file_name": "a.mp4", text: "two"}')
        case "no_text":
            write_metadata(root, good, {"file_name": "a.mp4"})
        case "not_an_object":
            write_metadata(root, good, "[1, 2]")
        case "number_as_text":
            write_metadata(root, {"file_name": "a.mp4", "text": 3})
        case "empty_text":
            write_metadata(root, {"file_name": "a.mp4", "text": " "})
        case "not_utf8":
            (root / "metadata.jsonl").write_bytes(b'{"file_name": "a.mp4", "text": "\xff"}')
    return root


@pytest.mark.parametrize(
    "kind,message",
    [
        ("missing", r"nowhere does not exist; set data\.root"),
        ("file", r"file ends in ''; set data\.root to a folder of clips, to a table"),
        ("empty", r"clips holds no clip; set data\.root .*\.mp4"),
        (
            "no_captions",
            r"none of the 2 clips in .*clips can be used.*metadata\.jsonl[^$]*no caption: there is no \.txt beside it",
        ),
        ("only_images", r"no video, and 1 image; read images with --data lingen_kit\.data\.ImageFolder[^$]*a\.png"),
        ("missing_file", r"1 of 2 files \(50%\)[^$]*gone\.mp4: there is no such file \(metadata\.jsonl, line 2\)"),
        ("not_json", r"1 of 2 files[^$]*metadata\.jsonl, line 3: it is not valid JSON .*column 24.*expected \{"),
        ("no_text", r"1 of 1 files[^$]*a\.mp4: no caption \(metadata\.jsonl, line 2\)"),
        ("not_an_object", r"1 of 2 files[^$]*metadata\.jsonl, line 2: it is not a JSON object: \[1, 2\]"),
        (
            "number_as_text",
            r"the one clip in[^$]*a\.mp4: no caption: its text is no text: 3 \(metadata\.jsonl, line 1\)",
        ),
        ("empty_text", r"the one clip in[^$]*its text is empty \(metadata\.jsonl, line 1\)"),
        ("not_utf8", r"metadata\.jsonl is not UTF-8 text: byte 32, in line 1"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_plainly(folder: Fill, tmp_path: Path, kind: str, message: str) -> None:
    data = VideoFolder(str(broken_folder(folder, tmp_path, kind)), **SIZE)
    with pytest.raises(ValueError, match=message):
        data.setup("fit")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_validation_share_must_leave_both_sides(share: float) -> None:
    with pytest.raises(ValueError, match=r"data\.validation_share is"):
        VideoFolder("clips", validation_share=share)
