"""What the verbs of `data` have in common: their first options, and where they write."""

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lingen_kit.commands.options import seconds, share, workers
from lingen_kit.data.clip import Index, first_of
from lingen_kit.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Kind, kind_of

_KINDS: dict[str, tuple[Kind, ...]] = {"video": ("video",), "image": ("image",), "both": ("video", "image")}


def add_common(parser: argparse.ArgumentParser, verb: str, timeout: float | None = 120.0) -> None:
    """Add the data set, `--kinds`, `--workers`, `--timeout` and `--out` to a parser.

    Args:
        parser: Of the verb.
        verb: Its name, after which the output folder is called by default.
        timeout: Default of `--timeout`; None for a verb without one.
    """
    add = parser.add_argument
    add("data", metavar="DATA", help="folder of clips, list of them (.jsonl, .csv, .parquet) or shards; only read")
    add(
        "--kinds",
        choices=list(_KINDS),
        default="video",
        help="which files are clips (default video); pictures are the clips of data with frames: 1",
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    add(
        "--workers",
        type=workers,
        default=cores,
        metavar="N",
        help="processes that decode (default: one a core); 0 decodes in this process, where a file can crash it",
    )
    if timeout is not None:
        add(
            "--timeout",
            type=seconds,
            default=timeout,
            metavar="SECONDS",
            help=f"a file that takes longer is given up (default {timeout:g})",
        )
    add("--out", type=Path, metavar="DIR", help=f"folder to write to (default: NAME_{verb} here, after DATA's name)")


def add_max_bad_share(parser: argparse.ArgumentParser) -> None:
    """Add `--max-bad-share` to the parser of a verb that exits with 1 when too many files are unusable."""
    parser.add_argument(
        "--max-bad-share",
        "--max_bad_share",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share of unusable files, from 0 to 1, up to which the exit code is 0 (default 0)",
    )


def kinds(options: argparse.Namespace) -> tuple[Kind, ...]:
    """The kinds of files that `--kinds` asks for, for `read_index`."""
    return _KINDS[options.kinds]


def require_clips(index: Index, asked: Sequence[Kind]) -> None:
    """Refuse a data set that lists no clip, not even one that cannot be used.

    Args:
        index: The data set.
        asked: The kinds of files that were looked for.

    Raises:
        ValueError: If it holds none of them.
    """
    if index.clips or index.unusable:
        return
    wanted = " and no ".join(asked)
    others = Counter(kind for path, _ in index.ignored if (kind := kind_of(path)) is not None and kind not in asked)
    if others:
        [(kind, count)] = others.items()
        what = f"{count:,} {kind}{'s' * (count != 1)}"
        raise ValueError(f"{index.root} holds no {wanted}, and {what}; look for {kind}s with --kinds {kind}")
    known = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES}
    suffixes = ", ".join(sorted(suffix for kind in asked for suffix in known[kind]))
    named = first_of(f"  {path}: {reason}" for path, reason in index.ignored)
    ignored = f"; what it holds is ignored:\n{named}" if named else ""
    raise ValueError(f"{index.root} holds no {wanted}; name data with files of these kinds: {suffixes}{ignored}")


def output_folder(data: str, verb: str, wanted: Path | None) -> Path:
    """The folder that a verb writes to, which need not exist yet.

    Args:
        data: The data set.
        verb: Its name, such as `validate`.
        wanted: What `--out` says, if anything.

    Raises:
        ValueError: If it lies within the data, or is a file.
    """
    source = Path(data).expanduser().resolve()
    name = source.name if source.is_dir() else source.name.removesuffix(source.suffix)
    name = re.sub(r"[^\w.-]+", "_", name).strip("_.") or "data"  # a pattern of shards has braces, a URL more
    out = wanted.expanduser() if wanted else Path(f"{name}_{verb}")
    if source.is_dir() and out.resolve().is_relative_to(source):
        raise ValueError(f"the results would go to {out}, inside the data; name a folder outside {source} with --out")
    if out.exists() and not out.is_dir():
        raise ValueError(f"the results would go to {out}, which is a file; name a folder with --out")
    return out


@contextmanager
def goes_on() -> Iterator[None]:
    """Say at Ctrl-C that nothing is lost, around work that keeps a journal."""
    try:
        yield
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        raise
