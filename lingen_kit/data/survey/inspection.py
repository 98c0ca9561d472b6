"""What a data set holds: counts, lengths, sizes, rates, captions, duplicates, and what a config makes of each clip."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from lingen_kit.data.clip import Clip, Index, printable
from lingen_kit.data.content import content_hash
from lingen_kit.data.jobs import key_of_file, run_jobs
from lingen_kit.data.layouts.collect import NO_CAPTION
from lingen_kit.data.media import VideoInfo
from lingen_kit.data.survey.judging import beyond_end
from lingen_kit.data.survey.looking import Moment, look, picture
from lingen_kit.data.survey.naming import file_of, relative_name

Assign = Callable[[Clip, VideoInfo], "str | tuple[int, int, int]"]

_VERSION = 1  # of what is measured of a file; another one has all files looked into anew
_PICTURES = 60
_PICTURE_SIDE = 320
_SECONDS = (0, 0.5, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600, math.inf)
_WORDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, math.inf)
_RATES = (0, 5, 10, 15, 20, 24, 25, 30, 50, 60, 120, math.inf)
_ASPECTS = {
    "1:1": 1.0, "5:4": 5 / 4, "4:3": 4 / 3, "3:2": 3 / 2, "16:10": 16 / 10, "16:9": 16 / 9, "2:1": 2.0, "21:9": 21 / 9,
    "4:5": 4 / 5, "3:4": 3 / 4, "2:3": 2 / 3, "10:16": 10 / 16, "9:16": 9 / 16, "1:2": 1 / 2, "9:21": 9 / 21,
}  # fmt: skip
_SAME_ASPECT = 0.02
# Words that say nothing about what a data set shows.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a about after against all also an and are around as at away be been before behind being between both"
        " but by can each for from front has have he her his if in into is it its just near no not of off on"
        " one onto or other out over several she so some that the their them then there they this through to"
        " too toward towards very was we were what when where which while who with you",
    )
)


@dataclass
class Inspection:
    """All that was found out about a data set.

    Attributes:
        clips: A record for each clip, in order: `name`, `file`, `caption`, `words`; `seconds` and what `look` found
            about its file, or an `error` if it cannot be used; `size` or `dropped` if a config was given.
        summary: Counts and distributions of the clips that can be used, and the others by name; plain JSON data.
        pictures: JPEG in base64 of some clips' middle frames, by the clips' places in `clips`.
    """

    clips: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    pictures: dict[int, str] = field(default_factory=dict)


def inspect(
    index: Index,
    out: Path,
    *,
    workers: int,
    timeout: float,
    assign: Assign | None = None,
) -> Inspection:
    """Look into every file of a data set.

    Args:
        index: The data set.
        out: Folder for the journal, from which an interrupted run goes on.
        workers: Processes.
        timeout: Seconds that a file may take.
        assign: What a config makes of a clip: the size that it is cut to, or why it is dropped.
    """
    import av

    settings = {"verb": "inspect", "version": _VERSION, "ffmpeg": av.ffmpeg_version_info}
    keys = [key_of_file(clip) for clip in index.clips]
    sources = {key: clip.path for key, clip in zip(keys, index.clips, strict=True)}

    def run(function: Callable[[Any], Any], items: dict[str, Any], label: str) -> dict[str, Any]:
        return run_jobs(
            function,
            items,
            out / "inspect.journal.jsonl",
            workers=workers,
            settings=settings,
            label=label,
            timeout=timeout,
        )

    looks = run(look, sources, "looking into files")
    suspects = _repeated((outcome.value["digest"], key) for key, outcome in looks.items() if outcome.value)
    whole = {f"{key} bytes": sources[key] for group in suspects.values() for key in group}
    digests = run(content_hash, whole, "comparing files")

    inspection = Inspection()
    for clip, key in zip(index.clips, keys, strict=True):
        record: dict[str, Any] = {
            "name": printable(clip.name),
            "caption": clip.caption,
            "words": len(_words(clip.caption)),
            "file": file_of(clip),
        }
        if looks[key].error is not None:
            record["error"] = looks[key].error
        elif clip.kind != "image" and 0 < clip.start >= looks[key].value["info"]["duration"]:
            record["error"] = beyond_end(clip.start, looks[key].value["info"]["duration"])
        else:
            record |= looks[key].value
            duration = record["info"]["duration"]
            record["seconds"] = duration if clip.kind == "image" else clip.seconds(duration)
            if f"{key} bytes" in digests:
                record["digest"] = digests[f"{key} bytes"].value or record["digest"]
            if assign is not None:
                record |= _assigned(assign(clip, VideoInfo(**record["info"])))
        inspection.clips.append(record)

    readable = [place for place, record in enumerate(inspection.clips) if "error" not in record]
    shown = [readable[i * len(readable) // _PICTURES] for i in range(_PICTURES)] if readable else []
    moments = {
        place: Moment(index.clips[place].path, _middle(index.clips[place], inspection.clips[place]), _PICTURE_SIDE)
        for place in dict.fromkeys(shown)
    }
    names = {place: f"{keys[place]} picture at {moment.seconds:.3f}" for place, moment in moments.items()}
    pictures = run(picture, {names[place]: moment for place, moment in moments.items()}, "taking pictures")
    inspection.pictures = {place: pictures[name].value for place, name in names.items() if pictures[name].value}
    inspection.summary = _summarize(inspection.clips, index)
    return inspection


def _middle(clip: Clip, record: dict[str, Any]) -> float:
    return 0.0 if clip.kind == "image" else clip.start + float(record["seconds"]) / 2


def _assigned(size: "str | tuple[int, int, int]") -> dict[str, Any]:
    return {"dropped": size} if isinstance(size, str) else {"size": "x".join(map(str, size))}


def _summarize(clips: Sequence[dict[str, Any]], index: Index) -> dict[str, Any]:
    good = [clip for clip in clips if "error" not in clip]
    files = {clip["file"]: clip for clip in good}
    bad = [clip for clip in clips if "error" in clip]
    captions = Counter(clip["caption"] for clip in good)
    words = Counter(word for clip in good for word in _words(clip["caption"]) if word not in _COMMON)
    for number in [word for word in words if word.isdecimal()]:
        del words[number]
    unusable = [(relative_name(path, index.root), reason) for path, reason in index.unusable]
    bad_files = {name for name, _ in unusable}.union(clip["file"] for clip in bad)
    unusable += [(clip["name"], clip["error"]) for clip in bad]
    same = _repeated((clip["digest"], name) for name, clip in files.items())
    summary: dict[str, Any] = {
        "data": printable(index.root),
        "layout": index.layout,
        "clips": len(good),
        "files": len(files),
        "bytes": sum(clip["bytes"] for clip in files.values()),
        "seconds": sum(clip["seconds"] for clip in good),
        "with_sound": sum(clip["sound"] for clip in files.values()),
        "unusable": [{"clip": name, "reason": reason} for name, reason in sorted(unusable)],
        "unusable_files": len(bad_files),
        "without_caption": sum(reason.startswith(NO_CAPTION) for _, reason in index.unusable),
        "ignored": [{"file": relative_name(path, index.root), "reason": reason} for path, reason in index.ignored],
        "duplicates": sorted(sorted(group) for group in same.values()),
        "repeated_captions": {text: count for text, count in captions.most_common() if count > 1},
        "spread": {
            "seconds": _spread([clip["seconds"] for clip in good]),
            "frames per second": _spread([clip["info"]["fps"] for clip in good]),
            "short side": _spread([min(clip["info"]["width"], clip["info"]["height"]) for clip in good]),
            "words of a caption": _spread([clip["words"] for clip in good]),
        },
        "lengths": _histogram([clip["seconds"] for clip in good], _SECONDS, "s"),
        "caption_lengths": _histogram([clip["words"] for clip in good], _WORDS, "words"),
        "rates": _histogram([clip["info"]["fps"] for clip in good], _RATES, "fps"),
        "sizes": _counts(f"{clip['info']['width']}x{clip['info']['height']}" for clip in good),
        "aspects": _counts(_aspect(clip["info"]["width"] / clip["info"]["height"]) for clip in good),
        "codecs": _counts(f"{clip['codec']}, {clip['pixels']}" for clip in good),
        "containers": _counts(clip["container"] for clip in good),
        "words": dict(words.most_common(40)),
    }
    if any("size" in clip or "dropped" in clip for clip in good):
        summary["buckets"] = _counts(clip["size"] for clip in good if "size" in clip)
        dropped = [(clip["name"], clip["dropped"]) for clip in good if "dropped" in clip]
        summary["dropped"] = [{"clip": name, "reason": reason} for name, reason in dropped]
        summary["dropped_for"] = _counts(kind_of_reason(reason) for _, reason in dropped)
    return summary


def kind_of_reason(reason: str) -> str:
    """The part of a reason that clips share: what stands before the numbers, and of a caption what is wrong with it."""
    start = f"{NO_CAPTION}: " if reason.startswith(f"{NO_CAPTION}: ") else ""
    return (start + re.split(r"[:(;,]|\d", reason.removeprefix(start), maxsplit=1)[0]).strip() or reason


def _words(caption: str) -> list[str]:
    return re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+", caption.lower())  # noqa: RUF001 - an apostrophe


def _repeated(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names that share a digest, by digest."""
    groups: dict[str, list[str]] = {}
    for digest, name in pairs:
        groups.setdefault(digest, []).append(name)
    return {digest: names for digest, names in groups.items() if len(names) > 1}


def _counts(values: Iterable[str]) -> dict[str, int]:
    """How often each occurs, the most frequent first, equally frequent ones in order."""
    return dict(sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0])))


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Least, greatest and what lies between, by rank."""
    if not values:
        return {}
    ranked = sorted(values)
    at = {"least": 0.0, "10%": 0.1, "median": 0.5, "90%": 0.9, "greatest": 1.0}
    return {name: ranked[round(share * (len(ranked) - 1))] for name, share in at.items()}


def _histogram(values: Sequence[float], edges: Sequence[float], unit: str) -> dict[str, int]:
    """Counts between neighboring edges, the empty ones on both sides left out."""
    # Lengths come from time stamps, and may be a rounding below a whole second.
    counts = [sum(low <= value + 1e-6 < high for value in values) for low, high in pairwise(edges)]
    filled = [place for place, count in enumerate(counts) if count]
    return {
        _between(edges[i], edges[i + 1], unit): counts[i]
        for i in range(filled[0], filled[-1] + 1)
    } if filled else {}  # fmt: skip


def _between(low: float, high: float, unit: str) -> str:
    if high == math.inf:
        return f"{low:g} {unit} or more"
    if unit == "words":
        return f"{low:g} {unit[:-1] if low == 1 else unit}" if high - low == 1 else f"{low:g} to {high - 1:g} {unit}"
    return f"{low:g} to {high:g} {unit}"


def _aspect(ratio: float) -> str:
    name, nearest = min(_ASPECTS.items(), key=lambda pair: abs(math.log(ratio / pair[1])))
    return name if abs(math.log(ratio / nearest)) <= _SAME_ASPECT else f"{ratio:.2f}:1"
