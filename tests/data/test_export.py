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

from lingen_kit.data import export
from lingen_kit.data.clip import Clip
from lingen_kit.data.decode import probe, read_clip
from lingen_kit.data.export import Shard, cut, plan_shards, write_shard, write_shards
from lingen_kit.data.layouts import read_index
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
    write_shards(shards, tmp_path / "out", workers=0)
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
    assert write_shards(shards, tmp_path / "out", workers=0) == (0, [])
    assert times() == before
    victim = shards[1]
    victim.path.with_name(f"{victim.path.name}.index.jsonl").unlink()  # killed just before it
    assert write_shards(shards, tmp_path / "out", workers=0) == (1, [])
    assert {name for name, time in times().items() if time != before[name]} == {victim.path.name}
    fewer = written(tmp_path, clips[:2])
    assert {path.name for path in (tmp_path / "out").glob("*.tar*")} == {
        name for shard in fewer for name in (shard.path.name, f"{shard.path.name}.index.jsonl")
    }


def test_what_cannot_be_read_is_named_and_the_rest_is_there(tmp_path: Path, clips: list[Clip]) -> None:
    gone = clips[5].path
    assert isinstance(gone, Path)
    shards = plan_shards(clips, tmp_path / "out", 20_000)
    gone.unlink()
    count, skipped = write_shards(shards, tmp_path / "out", workers=0)
    assert count == len(shards)
    assert [source for source, _ in skipped] == [str(gone)]
    assert len(read_index(str(tmp_path / "out"), ("video",)).clips) == 7
    assert write_shards(shards, tmp_path / "out", workers=0) == (0, skipped)  # known, and said again


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
        write_shards(shards, tmp_path / "out", workers=0)
    monkeypatch.undo()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not [name for name in names if name.startswith(".")]
    for path in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(path) as archive:
            assert archive.getmembers()
    write_shards(shards, tmp_path / "out", workers=0)
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
    with pytest.raises(export.UnreadableVideo, match="no frame from 5"):
        cut(path, 5.0, None)
