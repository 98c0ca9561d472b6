"""Shards: the same bytes out as in, whole or absent, readable by the webdataset package, inside their folder."""

import errno
import gc
import io
import json
import shutil
import tarfile
import warnings
from pathlib import Path

import pytest
import torch

from lingen_kit.data.clip import Clip, split
from lingen_kit.data.cut import cut
from lingen_kit.data.decode import probe, read_clip
from lingen_kit.data.export import Shard, plan_shards, readable, write_shard, write_shards
from lingen_kit.data.layouts import read_index
from lingen_kit.data.media import UnreadableVideo
from tests.data.conftest import Encode, read_numbers


@pytest.fixture
def clips(tmp_path: Path, encode: Encode) -> list[Clip]:
    """Eight videos of different lengths, in folders, one with a name that leaves its folder."""
    folder = tmp_path / "clips"
    folder.mkdir()
    made = []
    for number in range(8):
        path = shutil.move(encode(name=f"source{number}", count=10 + number), folder / f"{number}.mp4")
        name = f"../../{number}.mp4" if number == 3 else f"deep.er/{number}.mp4"
        made.append(Clip(Path(path), name, f"caption {number}, naïve", attributes={"score": number}))
    return made


def written(tmp_path: Path, clips: list[Clip], shard_bytes: int = 20_000) -> list[Shard]:
    shards = plan_shards(clips, tmp_path / "out", shard_bytes)
    write_shards(shards, tmp_path / "out", 0, "clips")
    return shards


def test_every_clip_is_in_one_shard_as_it_was(tmp_path: Path, clips: list[Clip]) -> None:
    shards = written(tmp_path, clips)
    assert len(shards) > 2
    index = read_index(str(tmp_path / "out"), ("video",))
    assert index.unusable == []
    by_caption = {clip.caption: clip for clip in index.clips}
    assert by_caption.keys() == {clip.caption for clip in clips}
    for clip in clips:
        member = by_caption[clip.caption]
        options = {"frames": 5, "fps": 30.0, "height": 48, "width": 64}
        assert torch.equal(read_clip(member.path, **options), read_clip(clip.path, **options))
        assert member.attributes["score"] == clip.attributes["score"]
        assert member.attributes["name"] == clip.name
    everything = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert everything == {"out", "clips"}
    assert not list((tmp_path / "out").glob(".*"))


def test_the_webdataset_package_reads_them(tmp_path: Path, clips: list[Clip]) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = written(tmp_path, clips)
    urls = [str(shard.path) for shard in shards]
    with warnings.catch_warnings():  # the package leaves it to the garbage collector to close what it opened
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
        gc.collect()
    assert {sample["txt"].decode() for sample in samples} == {clip.caption for clip in clips}
    by_caption = {clip.caption: clip for clip in clips}
    for sample in samples:
        clip = by_caption[sample["txt"].decode()]
        assert isinstance(clip.path, Path)
        assert sample["mp4"] == clip.path.read_bytes()
        assert json.loads(sample["json"])["score"] == clip.attributes["score"]


def test_only_what_changed_is_written_again(tmp_path: Path, clips: list[Clip]) -> None:
    shards = written(tmp_path, clips)

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}

    before = times()
    assert write_shards(shards, tmp_path / "out", 0, "clips") == (0, [], [])
    assert times() == before
    victim = shards[1]
    victim.path.with_name(f"{victim.path.name}.index.jsonl").unlink()  # killed just before it
    assert write_shards(shards, tmp_path / "out", 0, "clips") == (1, [], [])
    assert {name for name, time in times().items() if time != before[name]} == {victim.path.name}
    fewer = plan_shards(clips[:2], tmp_path / "out", 20_000)
    _, _, removed = write_shards(fewer, tmp_path / "out", 0, "clips")
    assert removed == sorted(clip.name for clip in clips[2:])
    assert {path.name for path in (tmp_path / "out").glob("*.tar*")} == {
        name for shard in fewer for name in (shard.path.name, f"{shard.path.name}.index.jsonl")
    }


def test_what_cannot_be_read_is_named_and_the_rest_is_there(tmp_path: Path, clips: list[Clip]) -> None:
    gone = clips[5].path
    assert isinstance(gone, Path)
    shards = plan_shards(clips, tmp_path / "out", 20_000)
    gone.unlink()
    count, skipped, _ = write_shards(shards, tmp_path / "out", 0, "clips")
    assert count == len(shards)
    assert [source for source, _ in skipped] == [str(gone)]
    assert len(read_index(str(tmp_path / "out"), ("video",)).clips) == 7
    assert write_shards(shards, tmp_path / "out", 0, "clips") == (0, skipped, [])  # known, and said again


def test_what_does_not_open_is_found_before(tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGEN_KIT_CACHE", str(tmp_path / "cache"))
    for number, content in {1: b"", 6: b"no video"}.items():
        Path(str(clips[number].path)).write_bytes(content)
    good, bad = readable(clips, 0)
    assert good == [clip for number, clip in enumerate(clips) if number not in (1, 6)]
    assert [source for source, _ in bad] == [str(clips[1].path), str(clips[6].path)]
    assert bad[0][1] == "the file is empty (0 bytes)"


def test_an_export_of_other_data_is_left_alone(tmp_path: Path, clips: list[Clip]) -> None:
    written(tmp_path, clips[:6])
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    others = plan_shards(clips[4:], tmp_path / "out", 20_000)
    with pytest.raises(ValueError, match="holds the export of clips, and the data is others: 4 clips would be lost"):
        write_shards(others, tmp_path / "out", 0, "others")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    whole = plan_shards(clips, tmp_path / "out", 20_000)  # what is there, and more, is not another data set
    assert write_shards(whole, tmp_path / "out", 0, "a longer list").removed == []
    assert len(read_index(str(tmp_path / "out")).clips) == 8


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_the_shards_are_split_as_the_files_were(tmp_path: Path, clips: list[Clip], share: float) -> None:
    stretches = [
        Clip(clip.path, f"{clip.name}#{start:g}-{start + 0.2:g}", f"{clip.caption} from {start}", start, start + 0.2)
        for clip in clips[:3]
        for start in (0.0, 0.1)
    ]
    clips = clips[3:] + stretches
    written(tmp_path, clips)
    packed = read_index(str(tmp_path / "out")).clips
    assert len(packed) == len(clips) == len({clip.name for clip in packed})
    again = plan_shards(packed, tmp_path / "again", 20_000)  # an export of an export
    write_shards(again, tmp_path / "again", 0, "out")
    for copies in (packed, read_index(str(tmp_path / "again")).clips):
        for side, before in zip(split(copies, share), split(clips, share), strict=True):
            assert {clip.caption for clip in side} == {clip.caption for clip in before}


def test_shards_of_others_are_left_alone(tmp_path: Path, clips: list[Clip]) -> None:
    (tmp_path / "out").mkdir()
    foreign = tmp_path / "out" / "shard-000099.tar"
    with tarfile.open(foreign, "w") as archive:
        archive.add(clips[0].path, "a.mp4")
    before = foreign.read_bytes()
    with pytest.raises(ValueError, match=r"shard-000099.tar was not written by an export"):
        written(tmp_path, clips)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["shard-000099.tar"]
    assert foreign.read_bytes() == before


def test_a_full_disk_leaves_no_half_written_shard(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = plan_shards(clips, tmp_path / "out", 20_000)
    original = tarfile.TarFile.addfile
    count = 0

    def addfile(archive: tarfile.TarFile, header: tarfile.TarInfo, content: io.BytesIO) -> None:
        nonlocal count
        count += 1
        if count > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(archive, header, content)

    monkeypatch.setattr(tarfile.TarFile, "addfile", addfile)
    with pytest.raises(OSError, match="No space left"):
        write_shards(shards, tmp_path / "out", 0, "clips")
    monkeypatch.undo()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not [name for name in names if name.startswith(".")]
    for path in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(path) as archive:
            assert archive.getmembers()
    write_shards(shards, tmp_path / "out", 0, "clips")
    assert len(read_index(str(tmp_path / "out"), ("video",)).clips) == 8


def test_a_stretch_is_cut_to_its_frames(tmp_path: Path, encode: Encode) -> None:
    path = encode(count=90)
    (tmp_path / "cut.mp4").write_bytes(cut(path, 1.0, 1.5))
    info = probe(tmp_path / "cut.mp4")
    assert (info.frames, info.fps, info.width, info.height) == (15, 30.0, 64, 48)
    assert read_numbers(read_clip(tmp_path / "cut.mp4", frames=15, fps=30.0, height=48, width=64)) == list(
        range(30, 45)
    )
    (shard,) = plan_shards([Clip(path, "a.mp4#1.0-1.5", "x", 1.0, 1.5)], tmp_path, 1)
    assert write_shard(shard) == []
    with tarfile.open(shard.path) as archive:
        assert archive.getnames() == ["000000000.mp4", "000000000.txt", "000000000.json"]
    with pytest.raises(UnreadableVideo, match="no frame from 5"):
        cut(path, 5.0, None)
