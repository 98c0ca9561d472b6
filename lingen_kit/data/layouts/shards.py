"""WebDataset shards: tar archives, local or from URLs, whose files with one key are one clip.

https://github.com/webdataset/webdataset: the key of a file is its name up to the first dot of the last part. Of
each key the media file is the clip, its `.txt` or `.json` the caption. Clips are read where they lie in the archive.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lingen_kit.data.layouts.collect import CAPTION_COLUMNS, NO_CAPTION, TOO_LONG, Collector, flaw_of_caption
from lingen_kit.data.layouts.listing import Listing
from lingen_kit.data.layouts.shard_index import INDEX_SUFFIX, read_shard
from lingen_kit.data.layouts.tables import plain
from lingen_kit.data.layouts.tar import Contents, Member
from lingen_kit.data.media import FilePart, kind_of

PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Shards:
    """A folder of shards."""

    why = "archives hold more than the loose files beside them"

    def evidence(self, listing: Listing, clips: Collector) -> str | None:
        """How many there are, in words."""
        count = sum(name.lower().endswith((".tar", *PACKED_SUFFIXES)) for name in listing.files)
        return f"{count:,} shard{'s' * (count != 1)} (.tar)" if count else None

    def read(self, listing: Listing, clips: Collector) -> str:
        """Add the clips of all shards."""
        shards = [name for name in listing.files if name.lower().endswith((".tar", *PACKED_SUFFIXES))]
        for name in shards:
            read_local(clips, name, Path(listing.path(name)))
        for name in listing.media():
            clips.ignore(listing.path(name), "a loose file beside the shards")
        return f"{len(shards):,} WebDataset shard{'s' * (len(shards) != 1)}"


def read_local(clips: Collector, name: str, path: Path) -> None:
    """Add the clips of a shard on this machine.

    Args:
        clips: Where to.
        name: What its clips are named after.
        path: The shard.
    """
    if path.name.lower().endswith(PACKED_SUFFIXES):
        return clips.refuse(str(path), "it is compressed, so nothing in it can be found; unpack it to .tar (gunzip)")
    try:
        contents = read_shard(path)
    except OSError as error:
        return clips.refuse(str(path), error.strerror or str(error))
    return add_contents(clips, name, contents, path)


def add_contents(clips: Collector, name: str, contents: Contents, path: Path, url: str | None = None) -> None:
    """Add the clips of a shard whose contents are known.

    Args:
        clips: Where to.
        name: What its clips are named after.
        contents: Its members.
        path: The shard, or its place in the cache.
        url: Where to fetch it from when the first clip is read.
    """
    origin = url.partition("?")[0] if url else str(path)
    for member, reason in contents.flaws:
        if member == INDEX_SUFFIX:
            clips.ignore(origin + member, reason)
        elif not member or kind_of(member) or member.lower().endswith((".txt", ".json")):
            clips.refuse(f"{origin}/{member}" if member else origin, reason)
    if not contents.members and not contents.flaws:
        clips.refuse(origin, "it holds no file")
    for members in _by_key(clips, origin, contents.members).values():
        _add_sample(clips, name, origin, members, path, url)


def _by_key(clips: Collector, origin: str, members: Iterable[Member]) -> dict[str, dict[str, Member]]:
    """Members by key and by suffix; what has neither is left out, as webdataset does."""
    samples: dict[str, dict[str, Member]] = {}
    for member in members:
        folder, slash, last = member.name.removeprefix("./").rpartition("/")
        key, dot, suffix = last.partition(".")
        if not key or not dot:
            continue
        if member.name.startswith("/") or ".." in folder.split("/"):
            clips.refuse(f"{origin}/{member.name}", "its name leads out of the shard; pack it without / and ..")
            continue
        sample = samples.setdefault(folder + slash + key, {})
        if suffix.lower() in sample:
            clips.refuse(f"{origin}/{member.name}", "its name is in the shard twice; the first one counts")
        else:
            sample[suffix.lower()] = member
    return samples


def _add_sample(
    clips: Collector, shard: str, origin: str, members: dict[str, Member], path: Path, url: str | None
) -> None:
    media = sorted((suffix for suffix in members if kind_of("x." + suffix)), key=lambda each: _rank(clips, each))
    if not media:
        for suffix in members.keys() & {"txt", "json"}:
            clips.ignore(f"{origin}/{members[suffix].name}", "a caption without a clip of its key")
        return
    chosen, *others = (members[suffix] for suffix in media)
    for other in others:
        clips.ignore(f"{origin}/{other.name}", f"another file of the same key, beside {chosen.name}")
    where = f"{origin}/{chosen.name}"
    if not clips.takes(chosen.name, where):
        return
    caption, attributes, flaw = _caption(members)
    if flaw:
        return clips.refuse(where, flaw)
    name = chosen.name.removeprefix("./")
    part = FilePart(path, chosen.name, chosen.offset, chosen.size, url)
    return clips.add(f"{shard}/{name}", part, caption, attributes=attributes)


def _rank(clips: Collector, suffix: str) -> tuple[bool, bool, bool]:
    """Lowest for the file of a key that is its clip: of a kind asked for, with a plain suffix, a video."""
    kind = kind_of("x." + suffix)
    return kind not in clips.kinds, "." in suffix, kind != "video"


def _caption(members: dict[str, Member]) -> tuple[str, dict[str, Any], str | None]:
    """The caption of a sample, what else its JSON says, and why there is no caption."""
    attributes: dict[str, Any] = {}
    caption: Any = None
    source = ""
    if (member := members.get("json")) is not None:
        source = "its .json"
        if member.text is None:
            return "", {}, f"{NO_CAPTION}: {source} is too long to be one"
        try:
            said = json.loads(member.text.removeprefix("\ufeff"), parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return "", {}, f"{NO_CAPTION}: {source} is not valid JSON"
        if not isinstance(said, dict):
            return "", {}, f"{NO_CAPTION}: {source} is not a JSON object"
        column = next((column for column in CAPTION_COLUMNS if said.get(column) is not None), None)
        caption = said.pop(column) if column else None
        try:
            attributes = {key: plain(value) for key, value in said.items() if value is not None}
        except RecursionError:
            return "", {}, f"{NO_CAPTION}: {source} is nested too deeply to be read"
    if (member := members.get("txt")) is not None:
        source = "its .txt"
        if member.text is None:
            return "", {}, f"{NO_CAPTION}: {source} {TOO_LONG}"
        caption = " ".join(member.text.removeprefix("\ufeff").split())
        if any("\udc80" <= letter <= "\udcff" for letter in caption):
            return "", {}, f"{NO_CAPTION}: {source} is not UTF-8 text; save it as UTF-8"
    if not source:
        return "", {}, f"{NO_CAPTION}: no .txt and no .json in the shard has its key"
    if not isinstance(caption, str):
        missing = f"has no {', '.join(CAPTION_COLUMNS[:-1])} or {CAPTION_COLUMNS[-1]} that is text"
        return "", {}, f"{NO_CAPTION}: {source} {missing}"
    flaw = flaw_of_caption(caption := caption.strip())
    return caption, attributes, f"{NO_CAPTION}: {source} {flaw}" if flaw else None
