"""Sizes and durations of many files, kept between runs: looking into twenty thousand files takes minutes only once."""

import hashlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lingen_kit.data.clip import Clip
from lingen_kit.data.decode import probe
from lingen_kit.data.jobs import Outcome, key_of_file, run_jobs
from lingen_kit.data.media import Source, VideoInfo
from lingen_kit.data.remote import cache_folder

_UNGUARDED = (
    "processes that look into files import the script that starts them; put what the script does under"
    ' `if __name__ == "__main__":`, or set data.num_workers to 0'
)


def probe_clips(clips: Sequence[Clip], num_workers: int) -> Iterator[tuple[Clip, VideoInfo | str]]:
    """Each clip with what its file says about itself, or the reason why it cannot be read.

    Args:
        clips: The clips; what was found out earlier about an unchanged file is taken from the cache.
        num_workers: Processes to look into the others with; 0 does it in this one.
    """
    keys = [key_of_file(clip) for clip in clips]
    outcomes = _probe(clips, keys, num_workers)
    for clip, key in zip(clips, keys, strict=True):
        found = outcomes[key]
        yield clip, VideoInfo(**found.value) if found.value is not None else str(found.error)


def _probe(clips: Sequence[Clip], keys: Sequence[str], num_workers: int) -> dict[str, Outcome]:
    items: dict[str, Any] = {key: clip.path for key, clip in zip(keys, clips, strict=True)}
    # A worker that is just starting imports the script that started it, and gets here if the script is not guarded.
    if num_workers and getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(_UNGUARDED)
    try:
        return run_jobs(
            _ask,
            items,
            _journal(clips),
            workers=num_workers,
            settings={"probe": 1},
            label=f"looking into {len(items)} files",
            wait_for_others=True,
        )
    except RuntimeError as error:
        if "could not start" not in str(error):
            raise
        raise RuntimeError(f"{error}: {_UNGUARDED}") from None


def _journal(clips: Sequence[Clip]) -> Path:
    """One file of the cache for each data set, told apart by the folder that holds it."""
    paths = {os.path.abspath(str(clip.path)) for clip in clips}
    place = os.path.commonpath(paths) if paths else ""
    name = hashlib.blake2b(os.fsencode(place), digest_size=8).hexdigest()
    return cache_folder() / "probed" / f"{Path(place).name or 'root'}-{name}.jsonl"


def _ask(source: Source) -> dict[str, Any]:
    return asdict(probe(source))
