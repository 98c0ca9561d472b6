"""Folders: which layout is found, captions beside the clips, links, names, and what changes meanwhile."""

import os
from pathlib import Path

import pytest

from lingen_kit.data.clip import Clip, is_unicode, printable, split
from lingen_kit.data.latent_store import ABOUT, CLIPS
from lingen_kit.data.layouts import list_clips, listing, read_index
from lingen_kit.data.layouts.collect import MAX_CAPTION
from tests.data.layouts.conftest import Fill, write_lines

BOTH = ("video", "image")


def captioned(root: Path, name: str) -> Path:
    (root / name).with_suffix(".txt").write_text("a caption")
    return root / name


def named(root: Path, kinds: tuple[str, ...] = ("video",)) -> list[str]:
    return [clip.name for clip in read_index(root, kinds).clips]


def test_sidecar_captions_and_subfolders(fill: Fill) -> None:
    index = read_index(fill("b.mp4", "deep/er/a.mp4", "C.MP4"))
    assert [(clip.name, clip.caption) for clip in index.clips] == [
        ("C.MP4", "caption of C.MP4"),
        ("b.mp4", "caption of b.mp4"),
        ("deep/er/a.mp4", "caption of deep/er/a.mp4"),
    ]
    assert index.layout == "captions in .txt files beside the clips: 3 videos"


def test_kinds_choose_and_the_rest_is_named(fill: Fill) -> None:
    root = fill("a.mp4", "photo.png")
    (root / "poster.png").write_bytes(b"")
    both = read_index(root, BOTH)
    assert [clip.name for clip in both.clips] == ["a.mp4", "photo.png"]
    assert both.layout.endswith("1 video, 1 image")
    assert dict(read_index(root, ("video",)).ignored) == {
        str(root / "poster.png"): "no caption: there is no .txt beside it",
        str(root / "photo.png"): "an image, and only videos are asked for",
    }
    images = read_index(root, ("image",))
    assert [clip.name for clip in images.clips] == ["photo.png"]
    assert images.ignored == [(str(root / "a.mp4"), "a video, and only images are asked for")]
    assert images.unusable == [(str(root / "poster.png"), "no caption: there is no .txt beside it")]
    with pytest.raises(ValueError, match=r"kinds are \('film',\); choose video, image or both"):
        read_index(root, ("film",))


def test_captions_that_are_none_cost_their_clip_only(fill: Fill) -> None:
    root = fill("bom.mp4", "long.mp4", "latin.mp4", "wide.mp4", "empty.mp4", "utf16.mp4", "just.mp4", "cut.mp4")
    (root / "bom.txt").write_bytes(b"\xef\xbb\xbfa caf\xc3\xa9\r\n at night")
    (root / "long.txt").write_text("word " * 20_000)
    (root / "latin.txt").write_bytes("a café".encode("latin-1"))
    (root / "wide.txt").write_text("一" * MAX_CAPTION)
    (root / "empty.txt").write_text(" \n")
    (root / "utf16.txt").write_bytes("a cat".encode("utf-16-le"))
    (root / "just.txt").write_text("x" * (MAX_CAPTION + 1))
    (root / "cut.txt").write_text("a" + "𝄞" * 30_000)  # the most that is read ends within a letter
    index = read_index(root)
    assert [(clip.name, clip.caption[:15]) for clip in index.clips] == [
        ("bom.mp4", "a café at night"),
        ("wide.mp4", "一" * 15),
    ]
    assert {Path(path).name: reason for path, reason in index.unusable} == {
        "cut.mp4": "no caption: the .txt beside it is longer than 20,000 characters",
        "empty.mp4": "no caption: the .txt beside it is empty",
        "just.mp4": "no caption: the .txt beside it is longer than 20,000 characters",
        "latin.mp4": "no caption: the .txt beside it is not UTF-8 text (byte 5); save it as UTF-8",
        "long.mp4": "no caption: the .txt beside it is longer than 20,000 characters",
        "utf16.mp4": "no caption: the .txt beside it holds zero bytes, so it is not UTF-8 text",
    }


def test_what_is_named_like_a_clip_but_is_no_file_is_counted_and_named(fill: Fill) -> None:
    root = fill("a.mp4", "cut.mp4/part.mp4")
    captioned(root, "dangling.mp4").symlink_to("gone.mp4")
    captioned(root, "loop.mp4").symlink_to("loop.mp4")
    captioned(root, "folder.mp4").mkdir()
    os.mkfifo(captioned(root, "pipe.mp4"))
    index = read_index(root)
    assert [clip.name for clip in index.clips] == ["a.mp4", "cut.mp4/part.mp4"]
    assert index.unusable == [
        (str(root / "dangling.mp4"), "it is a link to gone.mp4, where nothing is"),
        (str(root / "folder.mp4"), "it is a folder, not a file"),
        (str(root / "loop.mp4"), "it is a link to loop.mp4, where nothing is"),
        (str(root / "pipe.mp4"), "it is not a regular file"),
    ]
    assert index.ignored == []


def test_a_folder_of_dangling_links_is_no_empty_folder(tmp_path: Path) -> None:
    for number in range(12):
        captioned(tmp_path, f"{number:02}.mp4").symlink_to("gone.mp4")
    with pytest.raises(ValueError, match=r"^none of the 12 clips in .* can be used") as caught:
        read_index(tmp_path)
    assert str(caught.value).count("it is a link to gone.mp4, where nothing is") == 10
    assert str(caught.value).endswith("\n  and 2 more")


def test_linked_folders_are_followed_once(fill: Fill, tmp_path: Path) -> None:
    root = fill("a.mp4", "real/b.mp4")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    captioned(elsewhere, "c.mp4").write_bytes(b"")
    (root / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (root / "another").symlink_to("real")  # sorts before the real folder, which still gives the names
    (root / "gone").symlink_to("nowhere")
    (root / "itself").symlink_to("itself")
    index = read_index(root)
    assert [clip.name for clip in index.clips] == ["a.mp4", "linked/c.mp4", "real/b.mp4"]
    assert dict(index.ignored) == {
        str(root / "another"): "a link leads to this folder, which is listed already",
        str(root / "linked" / "back"): "a link leads to this folder, which is listed already",
        str(root / "gone"): "it is a link to nowhere, where nothing is",
        str(root / "itself"): "it is a link to itself, where nothing is",
    }


def test_captions_without_a_clip_are_named(fill: Fill) -> None:
    root = fill("a.mp4", "b.flv")
    captioned(root, "moved.mp4")
    index = read_index(root)
    assert [path for path, _ in index.ignored] == [str(root / "b.txt"), str(root / "moved.txt")]
    assert all("a caption without a clip" in reason and ".mp4" in reason for _, reason in index.ignored)


def test_hidden_files_are_left_out(fill: Fill) -> None:
    assert named(fill("a.mp4", "._a.mp4", ".cache/c.mp4", ".mp4")) == ["a.mp4"]


def test_long_and_unicode_names(fill: Fill) -> None:
    longest, too_long, letters = "x" * 251 + ".mp4", "y" * 252 + ".ts", "猫 é\u2028🎬.mp4"
    root = fill(longest, letters)
    (root / too_long).write_bytes(b"")
    index = read_index(root)
    assert sorted(clip.name for clip in index.clips) == sorted([longest, letters])
    assert index.unusable == [
        (str(root / too_long), "no caption: the name of its .txt file would be longer than 255 bytes; rename it")
    ]


def test_folders_that_cannot_be_listed_are_named(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill("a.mp4", "secret/b.mp4")
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).rstrip("/").endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    index = read_index(root)
    assert [clip.name for clip in index.clips] == ["a.mp4"]
    assert index.ignored == [(str(root / "secret"), "a folder that cannot be listed: Permission denied")]


def test_captions_that_cannot_be_opened_are_named(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill("a.mp4", "gone.mp4", "secret.mp4")
    read = open

    def refuse(path: str, *arguments: object, **options: object) -> object:
        if path.endswith("secret.txt"):
            raise PermissionError(13, "Permission denied", path)
        if path.endswith("gone.txt"):  # removed since the folder was listed
            os.unlink(path)
        return read(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    index = read_index(root)
    assert [clip.name for clip in index.clips] == ["a.mp4"]
    assert index.unusable == [
        (str(root / "gone.mp4"), "no caption: the .txt beside it cannot be opened: No such file or directory"),
        (str(root / "secret.mp4"), "no caption: the .txt beside it cannot be opened: Permission denied"),
    ]


def test_files_that_vanish_while_the_folder_is_listed_are_no_crash(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill("a.mp4", "sub/b.mp4")
    (tmp_path / "elsewhere.mp4").write_bytes(b"")
    captioned(root, "link.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    why = listing.why_no_file

    def vanish(path: str) -> str | None:
        os.unlink(path)
        return why(path)

    def vanishing(path: str) -> str:
        if path.rstrip("/").endswith("sub") and os.path.exists(path):
            os.rename(path, tmp_path / "moved")
        return os.path.abspath(path)

    monkeypatch.setattr(listing, "why_no_file", vanish)
    monkeypatch.setattr(listing.os.path, "realpath", vanishing)
    index = read_index(root)
    assert [clip.name for clip in index.clips] == ["a.mp4"]
    assert index.unusable == [(str(root / "link.mp4"), "there is no such file")]
    assert (str(root / "sub"), "a folder that cannot be listed: No such file or directory") in index.ignored


def test_class_folders_caption_images_only(fill: Fill) -> None:
    root = fill("red_panda/1.jpg", "red_panda/2.jpg", "cat/1.png", "cat/a.mp4", captions=False)
    index = read_index(root, BOTH)
    assert {clip.name: clip.caption for clip in index.clips} == {
        "cat/1.png": "cat",
        "red_panda/1.jpg": "red panda",
        "red_panda/2.jpg": "red panda",
    }
    assert index.layout == (
        "images in 2 folders, whose names are the captions, as in a Hugging Face ImageFolder: 3 images, 1 not usable"
    )
    assert [Path(path).name for path, _ in index.unusable] == ["a.mp4"]
    with pytest.raises(ValueError, match="the one clip in"):
        read_index(root)


@pytest.mark.parametrize("names", [["images/1.jpg", "images/2.jpg"], ["cat/1.jpg", "dog/deep/2.jpg"], ["1.jpg"]])
def test_other_folders_are_no_classes(fill: Fill, names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"[12]\.jpg: no caption: there is no \.txt beside it"):
        read_index(fill(*names, captions=False), ("image",))


def test_split_folders_decide_who_validates(fill: Fill) -> None:
    root = fill("train/a.mp4", "train/b.mp4", "val/c.mp4", "test/d.mp4")
    index = read_index(root)
    assert index.layout == "captions in .txt files beside the clips, parts by folder: test, train, val: 4 videos"
    training, validation = split(index.clips, 0.5)
    assert [clip.name for clip in training] == ["train/a.mp4", "train/b.mp4"]
    assert [clip.name for clip in validation] == ["val/c.mp4"]
    fill("more/e.mp4")
    assert not any(clip.attributes for clip in read_index(root).clips)
    classes = fill("../photos/train/cat/1.jpg", "../photos/test/dog/2.jpg", captions=False).parent / "photos"
    training, validation = split(read_index(classes, ("image",)).clips, 0.5)
    assert [clip.caption for clip in training + validation] == ["cat", "dog"]


def test_a_column_decides_who_validates(fill: Fill) -> None:
    root = fill(*(f"{letter}.mp4" for letter in "abcd"), captions=False)
    rows = zip("abcd", ["train", "test", "train", "train"], strict=True)
    entries = [{"file_name": f"{letter}.mp4", "text": "one", "split": part} for letter, part in rows]
    write_lines(root / "metadata.jsonl", *entries)
    training, validation = split(read_index(root).clips, 0.5)
    assert [clip.name for clip in training] == ["a.mp4", "c.mp4", "d.mp4"]
    assert [clip.name for clip in validation] == ["b.mp4"]


def test_of_two_layouts_the_line_says_which_and_why(fill: Fill) -> None:
    root = fill("a.mp4", "b.mp4")
    (root / "x.tar").write_bytes(b"")
    write_lines(root / "metadata.jsonl", {"file_name": "a.mp4", "text": "one"})
    assert read_index(root).layout == (
        "metadata.jsonl of a Hugging Face VideoFolder (not read: 1 shard (.tar); 2 .txt files beside the clips,"
        " as a metadata file is meant for the whole folder): 1 video"
    )


@pytest.mark.parametrize(
    "name,message",
    [
        ("nowhere", r"data\.root: .*nowhere does not exist; set data\.root to a folder of clips, to a table"),
        ("notes.txt", r"notes\.txt ends in '\.txt'; set data\.root to a folder"),
        ("nowhere.jsonl", r"nowhere\.jsonl does not exist"),
    ],
)
def test_roots_that_are_nothing_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("no clips")
    with pytest.raises(ValueError, match=message):
        read_index(tmp_path / name)


@pytest.mark.parametrize("captions", [True, False])
def test_files_of_the_other_kind_are_pointed_at(fill: Fill, captions: bool) -> None:
    root = fill("a.png", "b.jpg", captions=captions)
    with pytest.raises(
        ValueError, match=r"no video, and 2 images; .*--data lingen_kit\.data\.ImageFolder.*--kinds image"
    ):
        read_index(root)
    (root / "b.jpg").unlink()
    (root / "a.png").rename(root / "a.mp4")
    with pytest.raises(
        ValueError, match=r"no image, and 1 video; .*--data lingen_kit\.data\.VideoFolder.*--kinds video"
    ):
        read_index(root, ("image",))


def test_a_cache_of_latents_is_pointed_at(fill: Fill) -> None:
    cache = fill("parts/latents-0-00000.safetensors", captions=False)
    (cache / ABOUT).write_text("{}")
    write_lines(cache / CLIPS, {"name": "a.mp4", "caption": "one"})
    with pytest.raises(
        ValueError, match=r"is a cache that data precompute wrote.*--data lingen_kit\.data\.CachedLatents"
    ):
        list_clips(cache)


def test_a_table_in_a_folder_without_captions_is_pointed_out(fill: Fill) -> None:
    root = fill("a.mp4", captions=False)
    write_lines(root / "curated.jsonl", {"file_name": "a.mp4", "text": "one"})
    with pytest.raises(ValueError, match=r"to use the table curated\.jsonl in it, set data\.root to that file"):
        read_index(root)


def test_a_stretch_ends_with_its_file() -> None:
    path = Path("a.mp4")
    assert Clip(path, "a.mp4", "x").seconds(8.0) == 8.0
    assert Clip(path, "a.mp4#2-5", "x", 2.0, 5.0).seconds(8.0) == 3.0
    assert Clip(path, "a.mp4#6-9", "x", 6.0, 9.0).seconds(8.0) == 2.0
    assert Clip(path, "a.mp4#9-", "x", 9.0).seconds(8.0) == -1.0


def test_clips_are_listed_where_none_is_usable(fill: Fill) -> None:
    root = fill("a.mp4", "b.mp4", captions=False)
    index = list_clips(root)
    assert index.clips == [] and index.layout.endswith("nothing usable")
    assert {reason for _, reason in index.unusable} == {"no caption: there is no .txt beside it"}
    with pytest.raises(ValueError, match="none of the 2 clips"):
        read_index(root)
    with pytest.raises(ValueError, match="does not exist"):
        list_clips(root / "nowhere")


def test_what_is_printed_does_nothing_to_a_terminal(fill: Fill) -> None:
    """Names and captions stay as they are: only what people read is escaped."""
    name = "red\x1b[31m \N{NO-BREAK SPACE}line\nfeed \u200d.mp4"
    root = fill(name)
    (root / "none\x07.mp4").touch()
    index = read_index(root)
    assert [clip.name for clip in index.clips] == [name]
    assert index.unusable[0][0] == str(root / "none") + r"\x07.mp4"
    assert printable(name) == "red\\x1b[31m \N{NO-BREAK SPACE}line\\nfeed \\u200d.mp4"
    assert printable("caf\u00e9 \udcff \u202e") == "caf\u00e9 \\udcff \\u202e"
    assert is_unicode(name) and not is_unicode("\udcff")
