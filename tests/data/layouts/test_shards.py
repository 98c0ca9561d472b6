"""WebDataset shards: what `webdataset` wrote and Python's `tarfile` says, damage, names that lead out, patterns."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from lingen_kit.data.decode import read_clip
from lingen_kit.data.layouts import list_clips, read_index, write_shard_index
from lingen_kit.data.layouts.shard_index import read_shard_index
from lingen_kit.data.layouts.shard_lists import expand
from lingen_kit.data.layouts.tar import read_contents
from lingen_kit.data.media import open_bytes
from tests.data.conftest import Encode

BOTH = ("video", "image")

Pack = Callable[..., Path]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Write a tar archive of (name, content) with `tarfile` and give its path."""

    def write(*members: tuple[str, bytes | str], name: str = "shard.tar", form: int = tarfile.PAX_FORMAT) -> Path:
        with tarfile.open(tmp_path / name, "w", format=form) as archive:
            for member, content in members:
                data = content.encode() if isinstance(content, str) else content
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return tmp_path / name

    return write


def bytes_of(path: Path, kinds: tuple[str, ...] = BOTH) -> dict[str, bytes]:
    contents = {}
    for clip in read_index(path, kinds).clips:
        with open_bytes(clip.path) as file:
            contents[clip.name] = file.read()
    return contents


def test_shards_written_by_webdataset_hold_the_same_clips(tmp_path: Path) -> None:
    random = [os.urandom(size) for size in (1, 511, 512, 513, 100_000)]
    with webdataset.TarWriter(str(tmp_path / "shard.tar")) as writer:
        for number, data in enumerate(random):
            facts = {"caption": f"text {number}", "fps": 24.5, "none": None}
            writer.write({"__key__": f"deep/{number:04}", "mp4": data, "json": facts})
        writer.write({"__key__": "plain", "jpg": b"photo", "txt": "a photo\nof it"})
    index = read_index(tmp_path / "shard.tar", BOTH)
    with (tmp_path / "shard.tar").open("rb") as file:
        truth = list(group_by_keys(tar_file_expander([{"url": "shard.tar", "stream": file}])))
    assert bytes_of(tmp_path / "shard.tar") == {
        f"shard.tar/{sample['__key__']}.{'mp4' if 'mp4' in sample else 'jpg'}": sample.get("mp4", sample.get("jpg"))
        for sample in truth
    }
    assert [clip.caption for clip in index.clips] == [f"text {number}" for number in range(5)] + ["a photo of it"]
    assert [clip.attributes for clip in index.clips] == [{"fps": 24.5}] * 5 + [{}]
    assert (index.unusable, index.ignored) == ([], [])
    assert index.layout == "1 WebDataset shard: 5 videos, 1 image"


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"]
)
def test_headers_say_what_tarfile_says(pack: Pack, form: int) -> None:
    names = ["a.mp4", "d" * 90 + "/" + "n" * 90 + ".mp4", "./b.mp4", "x" * 96 + ".m"]
    names += [] if form == tarfile.USTAR_FORMAT else ["é" * 200 + ".mp4", "/".join(["猫"] * 90) + ".txt"]
    path = pack(*((name, name) for name in names), form=form)
    with tarfile.open(path, "a", format=form) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    with tarfile.open(path) as archive:
        truth = [(entry.name, entry.offset_data, entry.size) for entry in archive if entry.isfile()]
    contents = read_contents(str(path), lambda name, size: True)
    assert [(member.name, member.offset, member.size) for member in contents.members] == truth
    assert [member.text for member in contents.members] == names
    assert contents.flaws == []


def test_sizes_in_binary_and_in_pax_records(pack: Pack) -> None:
    data = bytearray(pack(("a.mp4", b"x" * 600), ("a.txt", "one")).read_bytes())
    header = bytearray(data[:512])
    header[124:136] = b"\x80" + (600).to_bytes(11)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (path := pack(name="binary.tar")).write_bytes(header + data[512:])
    assert bytes_of(path) == {"binary.tar/a.mp4": b"x" * 600}


def test_clips_decode_in_place(encode: Encode, pack: Pack) -> None:
    clip = encode(count=20)
    path = pack(("a.mp4", clip.read_bytes()), ("a.txt", "one"))
    [packed] = read_index(path).clips
    options = {"frames": 4, "fps": 30.0, "height": 48, "width": 64, "start": 0.2}
    assert torch.equal(read_clip(packed.path, **options), read_clip(clip, **options))


def test_a_truncated_shard_gives_what_lies_before(pack: Pack) -> None:
    whole = pack(*((f"{key}.{end}", f"{key}" * 700) for key in "abc" for end in ("txt", "mp4")))
    data = whole.read_bytes()
    with tarfile.open(whole) as archive:
        last = archive.getmember("c.mp4")
    whole.write_bytes(data[: last.offset_data + 100])
    index = read_index(whole)
    assert [clip.name for clip in index.clips] == ["shard.tar/a.mp4", "shard.tar/b.mp4"]
    assert index.unusable == [
        (f"{whole}/c.mp4", "the archive ends before it does"),
        (str(whole), "its end mark is missing; it may have been cut off"),
    ]
    whole.write_bytes(data[: last.offset + 100])
    assert dict(read_index(whole).unusable) == {
        str(whole): f"it is damaged at byte {last.offset}; the 5 files before it are used"
    }
    whole.write_bytes(data[: last.offset] + b"x" + data[last.offset + 1 :])
    assert dict(read_index(whole).unusable) == {
        str(whole): f"it is damaged at byte {last.offset}; the 5 files before it are used"
    }
    whole.write_bytes(data + data)
    assert "more follows its end mark" in dict(read_index(whole).unusable)[str(whole)]


def test_bad_members_cost_their_clip_only(pack: Pack) -> None:
    path = pack(
        ("ok.mp4", "v"), ("ok.txt", "\ufeffone  two"), ("ok.jpg", "poster"), ("ok.npy", "other"),
        ("twice.mp4", "v"), ("twice.txt", "three"), ("twice.mp4", "w"),
        ("bare.mp4", "v"),
        ("lonely.txt", "no clip"),
        ("latin.mp4", "v"), ("latin.txt", "caf\xe9".encode("latin-1")),
        ("long.mp4", "v"), ("long.txt", "x" * 100_000),
        ("json.mp4", "v"), ("json.json", "{"),
        ("list.mp4", "v"), ("list.json", "[1]"),
        ("nocap.mp4", "v"), ("nocap.json", '{"fps": NaN}'),
        ("../out.mp4", "v"), ("../out.txt", "x"), ("/abs.mp4", "v"), ("in/../../x.mp4", "v"),
        ("flow.flow.mp4", "v"), ("flow.txt", "four"), ("flow.mp4", "w"),
        (".hidden.mp4", "v"), ("nodot", "v"),
        ("caf\udce9.mp4", "v"), ("caf\udce9.txt", "five"),
        form=tarfile.GNU_FORMAT,
    )  # fmt: skip
    with tarfile.open(path, "a", format=tarfile.GNU_FORMAT) as archive:
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    index = read_index(path)
    assert [(clip.name, clip.caption) for clip in index.clips] == [
        ("shard.tar/flow.mp4", "four"), ("shard.tar/ok.mp4", "one two"), ("shard.tar/twice.mp4", "three"),
    ]  # fmt: skip
    out = "its name leads out of the shard; pack it without / and .."
    assert {name.removeprefix(f"{path}/"): reason for name, reason in index.unusable} == {
        "twice.mp4": "its name is in the shard twice; the first one counts",
        "bare.mp4": "no caption: no .txt and no .json in the shard has its key",
        "latin.mp4": "no caption: its .txt is not UTF-8 text; save it as UTF-8",
        "long.mp4": "no caption: its .txt is longer than 20,000 characters",
        "json.mp4": "no caption: its .json is not valid JSON",
        "list.mp4": "no caption: its .json is not a JSON object",
        "nocap.mp4": "no caption: its .json has no text, caption or prompt that is text",
        "../out.mp4": out,
        "../out.txt": out,
        "/abs.mp4": out,
        "in/../../x.mp4": out,
        r"caf\udce9.mp4": "its name is not UTF-8; rename it",
        "link.mp4": "it is no file in the archive, but a link or the like",
    }
    assert {name.removeprefix(f"{path}/"): reason for name, reason in index.ignored} == {
        "ok.jpg": "another file of the same key, beside ok.mp4",
        "flow.flow.mp4": "another file of the same key, beside flow.mp4",
        "lonely.txt": "a caption without a clip of its key",
    }
    assert "shard.tar/ok.jpg" in bytes_of(path, ("image",))
    assert {entry.name for entry in path.parent.iterdir()} == {"shard.tar"}  # nothing was unpacked


def test_an_index_beside_a_shard_says_the_same(pack: Pack) -> None:
    members = [("a.mp4", b"\0" * 3000), ("a.txt", "one"), ("b.mp4", b"v"), ("b.txt", b"caf\xe9"), ("c.bin", b"w")]
    path = pack(*members, ("caf\udce9.mp4", "v"))
    fresh = read_index(path)
    index = write_shard_index(path)
    assert index == path.with_name("shard.tar.index.jsonl")
    assert [member.name for member in read_shard_index(index).members] == [
        "a.mp4",
        "a.txt",
        "b.mp4",
        "b.txt",
        "caf\udce9.mp4",
    ]
    lines = index.read_text().splitlines()
    lines[2] = lines[2].replace("one", "from the index")
    index.write_text("\n".join(lines) + "\n")
    again = read_index(path)
    assert [clip.caption for clip in again.clips] == ["from the index"]
    assert (again.unusable, again.clips[0].path) == (fresh.unusable, fresh.clips[0].path)
    pack(*members, ("more.mp4", "v"), ("more.txt", "more"))  # the index is of another shard now
    assert [clip.caption for clip in read_index(path).clips] == ["one", "more"]


@pytest.mark.parametrize(
    "edit,reason",
    [
        (lambda lines: [*lines[:1], '{"name": "a.mp4", "offset": 512, "size": 99999999}'], "would lie outside"),
        (lambda lines: [*lines[:1], '{"name": "a.mp4", "offset": -1, "size": 1}'], "would lie outside"),
        (lambda lines: ['{"shard_index": 2, "size": 1}'], "it is of version 2, not 1"),
        (lambda lines: [*lines[:1], '{"name": "a.m'], "Unterminated"),
        (lambda lines: ["[]"], "list indices"),
        (lambda lines: ['{"shard_index": 1, "size": 1e999}'], "infinity"),
        (lambda lines: [*lines[:1], '{"name": 5, "offset": 0, "size": 1}'], "a name or a text"),
        (lambda lines: [*lines[:1], '{"name": "a.txt", "offset": 0, "size": 1, "text": 7}'], "a name or a text"),
        (lambda lines: [*lines[:1], '{"name": "a.mp4", "offset": 0.5, "size": 1}'], "no number of bytes"),
        (lambda lines: [*lines[:1], "[" * 100_000], "recursion"),
    ],
)
def test_a_damaged_index_is_set_aside_and_named(
    pack: Pack, edit: Callable[[list[str]], list[str]], reason: str
) -> None:
    path = pack(("a.mp4", "v"), ("a.txt", "one"))
    index = write_shard_index(path)
    index.write_text("\n".join(edit(index.read_text().splitlines())))
    found = read_index(path)
    assert [clip.caption for clip in found.clips] == ["one"]
    [(place, why)] = found.ignored
    assert place == str(index)
    assert reason in why


def test_json_that_is_nested_too_deeply_is_no_caption(pack: Pack) -> None:
    facts = f'{{"text": "one", "facts": {"[" * 500 + "]" * 500}}}'
    index = list_clips(pack(("a.mp4", "v"), ("a.json", facts)))
    assert [reason for _, reason in index.unusable] == ["no caption: its .json is nested too deeply to be read"]


def test_folders_patterns_and_lists_of_shards(pack: Pack, tmp_path: Path) -> None:
    for number in range(3):
        pack(("a.mp4", f"{number}"), ("a.txt", f"text {number}"), name=f"s-{number:02}.tar")
    (tmp_path / "loose.mp4").write_bytes(b"")
    folder = read_index(tmp_path)
    assert [clip.name for clip in folder.clips] == [f"s-{number:02}.tar/a.mp4" for number in range(3)]
    assert folder.ignored == [(str(tmp_path / "loose.mp4"), "a loose file beside the shards")]
    assert folder.layout == "3 WebDataset shards: 3 videos"
    for root in (tmp_path / "s-{00..02}.tar", tmp_path / "s-0{0,1,2}.tar", tmp_path / "s-*.tar"):
        assert [clip.name for clip in read_index(root).clips] == [clip.name for clip in folder.clips]
    shards = [tmp_path / "s-00.tar", tmp_path / "s-02.tar"]
    assert [clip.caption for clip in read_index(shards).clips] == ["text 0", "text 2"]
    missing = read_index(tmp_path / "s-{01..03}.tar")
    assert missing.unusable == [(str(tmp_path / "s-03.tar"), "No such file or directory")]
    (tmp_path / "other").mkdir()
    twin = shards[0].rename(tmp_path / "other" / "s-02.tar")
    names = [clip.name for clip in read_index([twin, shards[1]]).clips]
    assert names == sorted([f"{twin}/a.mp4", f"{shards[1]}/a.mp4"])


def test_shards_of_damaged_files_are_named(pack: Pack, tmp_path: Path) -> None:
    pack(("a.mp4", "v"), ("a.txt", "one"), name="good.tar")
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "page.tar").write_text("<html>not found</html>" * 100)
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz"):
        pass
    (tmp_path / "hidden_gzip.tar").write_bytes((tmp_path / "packed.tar.gz").read_bytes())
    index = read_index(tmp_path)
    assert {Path(path).name: reason for path, reason in index.unusable} == {
        "empty.tar": "it holds no file",
        "page.tar": "it is no tar archive",
        "packed.tar.gz": "it is compressed, so nothing in it can be found; unpack it to .tar (gunzip)",
        "hidden_gzip.tar": "it is compressed with gzip, so nothing in it can be found; unpack it to .tar",
    }
    with pytest.raises(ValueError, match=r"the one clip in .*packed\.tar\.gz cannot be used[^$]*compressed"):
        read_index(tmp_path / "packed.tar.gz")


def test_patterns() -> None:
    assert expand("x") == ["x"]
    assert expand("s-{8..11}.tar") == ["s-8.tar", "s-9.tar", "s-10.tar", "s-11.tar"]
    assert expand("{a,b}/{00..01}") == ["a/00", "a/01", "b/00", "b/01"]
    for pattern in ("{3..1}", "{0..9999999}", "{0..9999}{0..9999}"):
        with pytest.raises(ValueError, match=r"1,000,000"):
            expand(pattern)
    with pytest.raises(ValueError, match="commands in paths are not run"):
        read_index("pipe:curl https://host/x.tar")
    with pytest.raises(ValueError, match=r"from URLs only \.tar files are read"):
        read_index("https://host/metadata.jsonl?key=secret")
    with pytest.raises(ValueError, match=r"no file fits nowhere/\*\.tar"):
        read_index("nowhere/*.tar")


def test_json_beside_a_text_is_what_else_is_known(pack: Pack) -> None:
    facts = json.dumps({"text": "from json", "aes": 5.5, "box": [1, 2]})
    [clip] = read_index(pack(("a.mp4", "v"), ("a.json", facts), ("a.txt", "from text"))).clips
    assert (clip.caption, clip.attributes) == ("from text", {"aes": 5.5, "box": [1, 2]})
