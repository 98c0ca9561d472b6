"""Batches of cached latents: what was stored, in few tensors, however many texts there are."""

from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from lingen_kit.data.cached_latents import LatentDataset
from lingen_kit.data.latent_store import CachedClip, StoreWriter, places
from lingen_kit.data.loader import TrainingLoader
from lingen_kit.data.order import Draw
from lingen_kit.data.sampler import Bucket, Schedule

MANY = 40


@pytest.fixture
def dataset(tmp_path: Path) -> LatentDataset:
    writer = StoreWriter(tmp_path, 0)
    clips = []
    for number in range(MANY):
        latents, text = f"{number:04x}aa", f"{number:04x}bb"
        clips.append(
            CachedClip(f"{number}.mp4", str(number), 0.0, None, {}, f"/{number}.mp4", 0, (2, 8, 8), latents, text)
        )
        writer.add([clips[-1]], {latents: torch.randn(3, 2, 4, 4), text: torch.randn(number % 5 + 1, 6)})
    writer.add([], {"ee": torch.randn(1, 6)})
    writer.flush()
    return LatentDataset(clips, places(tmp_path), 8.0, "ee")


def test_a_batch_holds_what_its_samples_do(dataset: LatentDataset) -> None:
    chosen = [7, 3, 0, 39, 3]
    batch = dataset.read_batch([Draw(index, 0) for index in chosen])
    assert torch.equal(batch["latents"], torch.stack([dataset[index]["latents"] for index in chosen]))
    *texts, empty = batch["text"]
    assert len(texts) == 5
    for text, index in zip(texts, chosen, strict=True):
        assert torch.equal(text, dataset[index]["text"])
    assert empty.shape == (1, 6)


def test_texts_of_a_batch_come_from_workers_in_one_open_file(
    dataset: LatentDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = Schedule([Bucket("all", range(MANY), MANY)], world_size=1, seed=0)
    batches = iter(TrainingLoader(dataset, schedule, num_workers=1))
    batch = next(batches)
    del batches
    for caption, text in zip(batch["caption"], list(batch["text"])[:-1], strict=True):
        assert torch.equal(text, dataset[int(caption)]["text"])
    opened: list[int] = []
    monkeypatch.setattr("multiprocessing.reduction.DupFd", opened.append)
    ForkingPickler.dumps(batch)
    assert len(opened) == 2  # one for the latents
