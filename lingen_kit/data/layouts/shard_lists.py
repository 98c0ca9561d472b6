"""Shards named by a pattern, a list, or URLs; those of URLs are fetched, or their indices where there are some."""

import glob
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from lingen_kit.data.layouts.collect import Collector
from lingen_kit.data.layouts.shard_index import INDEX_SUFFIX, read_shard, read_shard_index, write_shard_index
from lingen_kit.data.layouts.shards import PACKED_SUFFIXES, add_contents, read_local
from lingen_kit.data.layouts.tar import Contents
from lingen_kit.data.remote import CannotFetch, cached_path, fetch, is_url, remote_size, shown

MOST_SHARDS = 1_000_000

_THREADS = 8  # that fetch
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def names_shards(root: str) -> bool:
    """Whether a root is a shard, a pattern of shards or a URL, rather than a folder or a table."""
    return is_url(root) or root.startswith("pipe:") or root.lower().endswith((".tar", *PACKED_SUFFIXES))


def expand(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for: `shard-{000..012}.tar`, `{a,b}.tar`.

    Raises:
        ValueError: If a range counts down, or there are more than `MOST_SHARDS`.
    """
    match = _BRACES.search(pattern)
    if not match:
        return [pattern]
    words = match[1].split(",")
    if span := _RANGE.fullmatch(match[1]):
        first, last = (int(number) for number in span.groups())
        if not 0 <= last - first < MOST_SHARDS:
            raise ValueError(f"{pattern}: {match[0]} is no range from a number up to one at most {MOST_SHARDS:,} above")
        width = len(span[1]) if span[1].startswith("0") else 0
        words = [f"{number:0{width}}" for number in range(first, last + 1)]
    rest = expand(pattern[match.end() :])
    if len(words) * len(rest) > MOST_SHARDS:
        raise ValueError(f"{pattern} stands for more than {MOST_SHARDS:,} shards")
    return [pattern[: match.start()] + word + tail for word in words for tail in rest]


def read_shards(clips: Collector, patterns: Iterable[str]) -> str:
    """Add the clips of shards.

    Args:
        clips: Where to.
        patterns: Paths and URLs, with braces or, for paths, `*` and `?`.

    Returns:
        What the shards are, in words.

    Raises:
        ValueError: If a pattern stands for nothing that can be read.
        OSError: If the disk of the cache is full.
    """
    places = list(dict.fromkeys(place for pattern in patterns for place in _places(pattern)))
    lasts = [PurePosixPath(urlsplit(place).path if is_url(place) else place).name for place in places]
    often = Counter(lasts)
    names = [last if often[last] == 1 else shown(place) for place, last in zip(places, lasts, strict=True)]
    urls = [place for place in places if is_url(place)]
    with ThreadPoolExecutor(_THREADS) as pool:
        fetched = dict(zip(urls, pool.map(_fetched, urls, repeat(len(urls))), strict=True))
    for name, place in zip(names, places, strict=True):
        if place not in fetched:
            read_local(clips, name, Path(place))
        elif isinstance(result := fetched[place], str):
            clips.refuse(shown(place), result)
        else:
            add_contents(clips, name, result, cached_path(place), place)
    remote = f", {len(urls):,} of them from URLs" if len(urls) < len(places) else " from URLs"
    return f"{len(places):,} WebDataset shard{'s' * (len(places) != 1)}{remote if urls else ''}"


def _places(pattern: str) -> list[str]:
    if pattern.startswith("pipe:"):
        raise ValueError(f"{pattern} is a command, and commands in paths are not run; give the URL of the shards")
    if is_url(pattern):
        for place in (places := expand(pattern)):
            if not urlsplit(place).path.lower().endswith(".tar"):
                raise ValueError(
                    f"{shown(place)} is no shard: from URLs only .tar files are read, such as"
                    " https://host/shard-{000000..000012}.tar; download anything else first"
                )
        return places
    path = str(Path(pattern).expanduser())
    if Path(path).exists():
        return [path]
    found = [
        each for place in expand(path) for each in (sorted(glob.glob(place)) if re.search("[*?]", place) else [place])
    ]
    if not found:
        raise ValueError(f"no file fits {pattern}; set data.root to shards, such as shard-{{000000..000012}}.tar")
    return found


def _fetched(url: str, count: int) -> Contents | str:
    """What a shard holds, or why that is not known: from its index, or else from the whole shard."""
    try:
        path = cached_path(url)
        if not path.is_file():
            try:
                contents = read_shard_index(fetch(_index_of(url)))
                if remote_size(url) in (None, contents.size):
                    return contents
            except (CannotFetch, ValueError):
                pass  # the shard itself will say
            path = fetch(url)
            write_shard_index(path)
        return read_shard(path)
    except CannotFetch as error:
        return error.reason


def _index_of(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + INDEX_SUFFIX))
