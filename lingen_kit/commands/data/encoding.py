"""Encode clips and captions into a store of latents, in one process or in several, each with its share of the clips."""

import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lingen_kit.config import build_encoders
from lingen_kit.data.auto_data import AutoData
from lingen_kit.data.clip import source_of
from lingen_kit.data.clip_dataset import ClipDataset
from lingen_kit.data.jobs.progress import progress
from lingen_kit.data.latent_store import CachedClip, StoreWriter, finished, places
from lingen_kit.data.media import UnreadableVideo
from lingen_kit.data.sample import Sample
from lingen_kit.models.autoencoder import Autoencoder
from lingen_kit.models.fingerprint import fingerprint
from lingen_kit.models.text_encoder import TextEncoder


@dataclass(frozen=True)
class View:
    """One clip to encode, and what it will be called.

    Attributes:
        index: Of the clip in the data set.
        number: Of the view: 0 is the clip's middle, the others are what training draws in as many passes.
        cached: How it will stand in the index of the store.
    """

    index: int
    number: int
    cached: CachedClip


@dataclass(frozen=True)
class Job:
    """What every process of a run needs to know.

    Attributes:
        folder: The store.
        model: The pipeline's options, out of which the encoders are built.
        middle: The data set, each clip at its middle.
        varied: The data set as training draws it.
        text: Whether captions are encoded, too.
        empty_text: Name of the empty caption's tensor.
        dtype: Of the latents.
        batch_size: Clips at a time.
        workers: Processes that decode for each one that encodes.
        shard_bytes: A shard is written once it holds as much.
    """

    folder: Path
    model: Mapping[str, Any]
    middle: ClipDataset
    varied: ClipDataset
    text: bool
    empty_text: str
    dtype: torch.dtype
    batch_size: int
    workers: int
    shard_bytes: int


def both_datasets(data: AutoData) -> tuple[ClipDataset, ClipDataset]:
    """All clips of a data module, each at its middle, and as training draws them."""
    clips = data.clips()
    return data.dataset_of(clips, vary=False), data.dataset_of(clips, vary=True)


def list_views(
    middle: ClipDataset, varied: ClipDataset, contents: Sequence[str | None], views: int, made_by: Mapping[str, Any]
) -> list[View]:
    """What the store will hold, each tensor named by all that it depends on.

    Args:
        middle: The data set, each clip at its middle.
        varied: The data set as training draws it.
        contents: A hash of each file, None for one that cannot be read and is left out.
        views: How many of each clip.
        made_by: What makes the tensors: `autoencoder`, `text_encoder` (None for no texts), `dtype`, `fps`, `short`.
    """
    listed = []
    for index, (clip, content) in enumerate(zip(middle.clips, contents, strict=True)):
        if content is None:
            continue
        for number in range(views):
            choices = dict((varied if number else middle).choices(clip, number))
            size = middle.sizes[index]
            latents = _name("latents", content, clip.start, clip.end, size, choices, *made_by.values())
            cached = CachedClip(
                name=clip.name,
                caption=clip.caption,
                start=clip.start,
                end=clip.end,
                attributes=clip.attributes,
                source=source_of(clip),
                view=number,
                size=size,
                latents=latents,
                text=text_name(clip.caption, made_by["text_encoder"]),
            )
            listed.append(View(index, number, cached))
    return listed


def text_name(caption: str, text_encoder: str | None) -> str | None:
    """Name of a caption's tensor; None if captions are not encoded."""
    return _name("text", caption, text_encoder) if text_encoder else None


def encode(job: Job, views: Sequence[View], devices: Sequence[str]) -> dict[str, str]:
    """Encode what the store lacks; all of it, but for what cannot be read.

    Args:
        job: What to do with them.
        views: All that the store is to hold.
        devices: One process for each, or this one if there is one.

    Returns:
        The reason for each source that cannot be read.
    """
    stored = places(job.folder).keys()
    there = {_identity(clip) for clip in finished(job.folder) if {clip.latents, clip.text or clip.latents} <= stored}
    todo = [view for view in views if _identity(view.cached) not in there]
    # By the tensor's name, so that equal clips meet in one process, which encodes them once.
    shares = [[view for view in todo if int(view.cached.latents, 16) % len(devices) == i] for i in range(len(devices))]
    unreadable: dict[str, str] = {}
    with progress(f"encoding {len(views)} clips", len(views), len(views) - len(todo)) as advance:
        for message in _messages(job, shares, devices):
            for source, reason in message:
                if reason is not None:
                    unreadable[source] = reason
                advance(failed=reason is not None)
    return unreadable


def _identity(clip: CachedClip) -> tuple[str, int, str, str | None]:
    return clip.name, clip.view, clip.latents, clip.text


_Message = list[tuple[str, str | None]]  # (source, why it cannot be read) of each clip that is done


def _messages(job: Job, shares: Sequence[list[View]], devices: Sequence[str]) -> Iterator[_Message]:
    if len(devices) == 1:
        yield from _encode_share(job, shares[0], 0, devices[0])
        return
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for part, (share, device) in enumerate(zip(shares, devices, strict=True)):
        ours, theirs = context.Pipe(duplex=False)
        # Not daemons: they have workers of their own.
        processes.append(context.Process(target=_encode_in_process, args=(theirs, job, share, part, device)))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    try:
        while pipes:
            for pipe in [pipe for pipe in pipes if pipe in wait(pipes)]:
                try:
                    message = pipe.recv()
                except EOFError:
                    pipes.remove(pipe)
                    continue
                if isinstance(message, BaseException):
                    raise message
                yield message
    finally:
        for process in processes:
            if pipes:  # something went wrong
                process.terminate()
            process.join()
    if failed := [process.exitcode for process in processes if process.exitcode]:
        raise ValueError(f"a process that encodes died (exit code {failed[0]}); run it again, it goes on from there")


def _encode_in_process(pipe: Any, job: Job, views: list[View], part: int, device: str) -> None:
    try:
        for message in _encode_share(job, views, part, device):
            pipe.send(message)
    except (ValueError, OSError) as error:
        pipe.send(error)


def _encode_share(job: Job, views: list[View], part: int, device: str) -> Iterator[_Message]:
    """Encode some views and store them; yields what became of each batch."""
    writer = StoreWriter(job.folder, part, job.shard_bytes)
    encoders = build_encoders(job.model)
    autoencoder = encoders.autoencoder.eval().to(device)
    text_encoder = encoders.text_encoder.eval().to(device) if job.text else None
    if text_encoder is not None and part == 0:
        writer.add([], _texts(text_encoder, {job.empty_text: ""}, writer.stored))
    try:
        for batch in _batches(job, views):
            done: _Message = [(view.cached.source, reason) for view, reason in batch if isinstance(reason, str)]
            read = [(view.cached, sample) for view, sample in batch if not isinstance(sample, str)]
            if read:
                tensors = _latents(autoencoder, read, device, job.dtype, writer.stored)
                if text_encoder is not None:
                    captions = {str(clip.text): clip.caption for clip, _ in read}
                    tensors |= _texts(text_encoder, captions, writer.stored)
                writer.add([clip for clip, _ in read], tensors)
            yield done + [(clip.source, None) for clip, _ in read]
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ValueError(
            "a process that decodes died, probably on a damaged file: `data validate` finds it. What was encoded so far"
            " is kept"
        ) from error
    finally:
        writer.flush()


@torch.no_grad()
def _latents(
    autoencoder: Autoencoder,
    read: Sequence[tuple[CachedClip, Sample]],
    device: str,
    dtype: torch.dtype,
    stored: set[str],
) -> dict[str, Tensor]:
    new = {clip.latents: sample["video"] for clip, sample in read if clip.latents not in stored}
    if not new:
        return {}
    latents = autoencoder.encode(torch.stack(list(new.values())).to(device))
    if not latents.isfinite().all():
        raise ValueError(f"the autoencoder gives values that are not finite, for one of {[c.source for c, _ in read]}")
    return dict(zip(new, latents.to(dtype).cpu().unbind(), strict=True))


@torch.no_grad()
def _texts(text_encoder: TextEncoder, captions: Mapping[str, str], stored: set[str]) -> dict[str, Tensor]:
    new = {name: caption for name, caption in captions.items() if name not in stored}
    if not new:
        return {}
    tokens, mask = text_encoder(list(new.values()))  # (B, L, E), (B, L)
    return {name: row[kept].float().cpu() for name, row, kept in zip(new, tokens, mask, strict=True)}


def _batches(job: Job, views: list[View]) -> Iterator[list[tuple[View, Sample | str]]]:
    """The views with their samples, or why there is none; a batch holds one size."""
    by_size: dict[Any, list[int]] = {}
    for place, view in enumerate(views):
        by_size.setdefault(view.cached.size, []).append(place)
    batches = [
        places[first : first + job.batch_size]
        for places in by_size.values()
        for first in range(0, len(places), job.batch_size)
    ]
    dataset = _Decoded(job.middle, job.varied, views)
    for batch in DataLoader(dataset, batch_sampler=batches, num_workers=job.workers, collate_fn=list):
        yield [(views[place], sample) for place, sample in batch]


class _Decoded(Dataset[tuple[int, Sample | str]]):
    """Samples of views by place, or the reasons why they cannot be read."""

    def __init__(self, middle: ClipDataset, varied: ClipDataset, views: list[View]) -> None:
        self.datasets = middle, varied
        self.views = [(view.index, view.number) for view in views]

    def __getitem__(self, place: int) -> tuple[int, Sample | str]:
        index, number = self.views[place]
        try:
            return place, self.datasets[number > 0].read(index, number)
        except UnreadableVideo as error:
            return place, error.reason


def encoder_names(model: Mapping[str, Any], text: bool) -> tuple[str, str | None]:
    """Fingerprints of the encoders that a pipeline's options describe; None for a text encoder that is not asked for.

    Raises:
        ValueError: If the text encoder is asked for and would be trained with the model.
    """
    encoders = build_encoders(model)
    if not text:
        return fingerprint(encoders.autoencoder), None
    if any(parameter.requires_grad for parameter in encoders.text_encoder.parameters()):
        raise ValueError(
            f"the text encoder {type(encoders.text_encoder).__name__} is trained with the model, so what it makes of"
            " the captions cannot be kept: leave --text out, or take a pretrained one"
        )
    return fingerprint(encoders.autoencoder), fingerprint(encoders.text_encoder)


def _name(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=16).hexdigest()
