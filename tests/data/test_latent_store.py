"""Latents on disk: read back as written, whole shards or none, and plain words where something is missing."""

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lingen_kit.data import latent_store
from lingen_kit.data.latent_store import (
    CachedClip,
    StoreWriter,
    TensorReader,
    complete,
    finished,
    places,
    read_about,
    read_clips,
    sole_writer,
    write_about,
    write_whole,
)


def cached(number: int, view: int = 0, latents: str | None = None) -> CachedClip:
    return CachedClip(
        name=f"{number}.mp4",
        caption=f"clip {number}",
        start=0.0,
        end=None,
        attributes={"score": number},
        source=f"/data/{number}.mp4",
        view=view,
        size=(4, 16, 16),
        latents=latents or f"{number:02x}{view:02x}",
        text=None,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_are_read_as_they_were_written(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {f"{number:02x}00": torch.randn(3, 4, 5).to(dtype) for number in range(7)}
    writer = StoreWriter(tmp_path, 0, shard_bytes=300)
    for number, (name, tensor) in enumerate(tensors.items()):
        writer.add([cached(number)], {name: tensor})
    writer.flush()
    shards = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(shards) > 2
    found, reader = places(tmp_path), TensorReader()
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(reader.read(found[name]), tensor)
        assert torch.equal(load_file(found[name].path)[name], tensor)
    chosen = ["0500", "0000", "0500", "0300"]
    stacked = reader.stack([found[name] for name in chosen])
    assert torch.equal(stacked, torch.stack([tensors[name] for name in chosen]))
    assert list(finished(tmp_path)) == [cached(number) for number in range(7)]


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, 0)
    writer.add([cached(0, latents="aa")], {"aa": torch.zeros(4)})
    writer.add([cached(1, latents="aa")], {"aa": torch.zeros(4)})
    writer.flush()
    later = StoreWriter(tmp_path, 0)
    later.add([cached(2, latents="aa")], {"aa": torch.zeros(4)})
    later.flush()
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) == 1
    assert [clip.name for clip in finished(tmp_path)] == ["0.mp4", "1.mp4", "2.mp4"]


def test_what_was_flushed_survives_a_kill_and_what_was_torn_is_left_out(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, 0)
    writer.add([cached(0)], {"0000": torch.ones(4)})
    writer.flush()
    writer.add([cached(1)], {"0100": torch.ones(4)})  # killed before the next flush
    with (tmp_path / "parts" / "done-0.jsonl").open("a") as file:
        file.write('\n{"name": "2.mp4", "cap')
    assert [clip.name for clip in finished(tmp_path)] == ["0.mp4"]
    assert list(places(tmp_path)) == ["0000"]
    again = StoreWriter(tmp_path, 0)
    again.add([cached(1)], {"0100": torch.ones(4)})
    again.flush()
    assert [clip.name for clip in finished(tmp_path)] == ["0.mp4", "1.mp4"]


def test_a_truncated_shard_counts_as_absent(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, 0)
    writer.add([cached(0)], {"0000": torch.ones(400)})
    writer.flush()
    (shard,) = (tmp_path / "parts").glob("*.safetensors")
    for size in (shard.stat().st_size - 1, 40, 8, 3, 0):
        os.truncate(shard, size)
        assert places(tmp_path) == {}


def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "file", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(latent_store.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "file", b"new")
    assert caught.value.filename == str(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_reader_opens_few_files_and_travels(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, 0, shard_bytes=1)
    for number in range(100):
        writer.add([cached(number)], {f"{number:02x}00": torch.full((2,), float(number))})
    found, reader = places(tmp_path), TensorReader()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        assert reader.read(found[f"{number:02x}00"]).tolist() == [number, number]
    assert len(os.listdir("/proc/self/fd")) - before <= 64
    copy = pickle.loads(pickle.dumps(reader))
    del reader
    assert len(os.listdir("/proc/self/fd")) <= before
    assert copy.read(found["0500"]).tolist() == [5, 5]


def test_a_shard_cut_off_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, 0)
    writer.add([cached(0)], {"0000": torch.ones(400)})
    writer.flush()
    place = places(tmp_path)["0000"]
    os.truncate(place.path, 200)
    with pytest.raises(ValueError, match="ends too early"):
        TensorReader().read(place)


def test_two_runs_do_not_write_one_store(tmp_path: Path) -> None:
    with sole_writer(tmp_path), pytest.raises(ValueError, match="another run is writing"), sole_writer(tmp_path):
        pass
    with sole_writer(tmp_path):
        pass


def test_the_index_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no cache"):
        read_clips(tmp_path)
    StoreWriter(tmp_path, 0).flush()
    with pytest.raises(ValueError, match="is not finished"):
        read_clips(tmp_path)
    complete(tmp_path, [cached(0), cached(0, view=1)])
    assert read_clips(tmp_path) == [cached(0), cached(0, view=1)]
    (tmp_path / "clips.jsonl").write_text('{"name": 3}\n')
    with pytest.raises(ValueError, match="line 1, is damaged"):
        read_clips(tmp_path)
    assert read_about(tmp_path) is None
    write_about(tmp_path, {"fps": 8.0})
    assert read_about(tmp_path) == {"fps": 8.0}
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_about(tmp_path)
