"""Encode clips and captions into a store of latents, in one process or in several, each with its share of the clips."""

import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lingen_kit.commands.data.views import View
from lingen_kit.config import Encoders, build_encoders
from lingen_kit.data.clip_dataset import ClipDataset
from lingen_kit.data.jobs.progress import progress
from lingen_kit.data.latent_store import CachedClip, StoreWriter, finished, places
from lingen_kit.data.media import UnreadableVideo
from lingen_kit.data.sample import Sample
from lingen_kit.models.autoencoder import Autoencoder
from lingen_kit.models.fingerprint import fingerprint
from lingen_kit.models.text_encoder import TextEncoder


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


def encode(job: Job, encoders: Encoders, views: Sequence[View], devices: Sequence[str]) -> dict[str, str]:
    """Encode what the store lacks; all of it, but for what cannot be read.

    Args:
        job: What to do with them.
        encoders: Those of `job.model`; a process of its own builds them anew.
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
        for message in _messages(job, encoders, shares, devices):
            for source, reason in message:
                if reason is not None:
                    unreadable[source] = reason
                advance(failed=reason is not None)
    return unreadable


def _identity(clip: CachedClip) -> tuple[str, int, str, str | None]:
    return clip.name, clip.view, clip.latents, clip.text


_Message = list[tuple[str, str | None]]  # (source, why it cannot be read) of each clip that is done


def _messages(job: Job, encoders: Encoders, shares: Sequence[list[View]], devices: Sequence[str]) -> Iterator[_Message]:
    if len(devices) == 1:
        yield from _encode_share(job, encoders, shares[0], 0, devices[0])
        return
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    # Ctrl-C reaches all processes, and the first one ends the others: they are born deaf to it.
    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for part, (share, device) in enumerate(zip(shares, devices, strict=True)):
        ours, theirs = context.Pipe(duplex=False)
        # Not daemons: they have workers of their own.
        processes.append(context.Process(target=_encode_in_process, args=(theirs, job, share, part, device)))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    signal.signal(signal.SIGINT, heeded)
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was encoded is written
    try:
        for message in _encode_share(job, build_encoders(job.model), views, part, device):
            pipe.send(message)
    except (ValueError, OSError) as error:
        pipe.send(error)
    except KeyboardInterrupt:
        return


def _encode_share(job: Job, encoders: Encoders, views: list[View], part: int, device: str) -> Iterator[_Message]:
    """Encode some views and store them; yields what became of each batch."""
    writer = StoreWriter(job.folder, part, job.shard_bytes)
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
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=job.workers,
        collate_fn=list,
        worker_init_fn=_leave_signals,
    )
    for batch in loader:
        yield [(views[place], sample) for place, sample in batch]


def _leave_signals(worker: int) -> None:
    """Leave Ctrl-C to the process that encodes; a worker was forked with its handlers."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


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


def encoder_names(encoders: Encoders, text: bool) -> tuple[str, str | None]:
    """Fingerprints of a pipeline's encoders; None for a text encoder that is not asked for.

    Raises:
        ValueError: If the text encoder is asked for and would be trained with the model.
    """
    if not text:
        return fingerprint(encoders.autoencoder), None
    if any(parameter.requires_grad for parameter in encoders.text_encoder.parameters()):
        raise ValueError(
            f"the text encoder {type(encoders.text_encoder).__name__} is trained with the model, so what it makes of"
            " the captions cannot be kept: leave --text out, or take a pretrained one"
        )
    return fingerprint(encoders.autoencoder), fingerprint(encoders.text_encoder)
