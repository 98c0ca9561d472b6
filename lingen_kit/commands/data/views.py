"""What a cache of latents is to hold: views of clips, their tensors named by all that they depend on."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingen_kit.data.auto_data import AutoData
from lingen_kit.data.clip import Clip, source_of
from lingen_kit.data.clip_dataset import ClipDataset
from lingen_kit.data.latent_store import CachedClip


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


def left_out(
    before: Iterable[CachedClip], clips: Sequence[Clip], views: Sequence[View], count: int
) -> list[CachedClip]:
    """What a cache lists so far, and would no longer.

    A clip that has changed is still listed, and so is one that cannot be read any more, which is told as such.

    Args:
        before: What the cache lists.
        clips: The data set.
        views: What the cache is to list, out of `list_views`.
        count: Views of each clip.
    """
    tensors = {(view.cached.name, view.number, view.cached.latents) for view in views}
    files = {(clip.name, number, os.path.realpath(source_of(clip))) for clip in clips for number in range(count)}
    return [
        clip
        for clip in before
        if (clip.name, clip.view, clip.latents) not in tensors
        and (clip.name, clip.view, os.path.realpath(clip.source)) not in files
    ]


def _name(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=16).hexdigest()
