"""`data export`: pack a data set into WebDataset shards."""

import argparse
import os
import sys

from lingen_kit.commands.data.options import add_common, add_max_bad_share, goes_on, kinds, output_folder
from lingen_kit.commands.options import positive


def main(verb: str, arguments: list[str]) -> None:
    """Write the shards that are not there yet; exits with 1 if too many clips cannot be used, naming them."""
    options = _parser(verb).parse_args(arguments)
    out = output_folder(options.data, "export", options.out)

    from lingen_kit.data.clip import first_of, printable  # after the options are known to be good
    from lingen_kit.data.export import plan_shards, readable, write_shards
    from lingen_kit.data.layouts import read_index
    from lingen_kit.data.remote import is_url

    index = read_index(options.data, kinds(options))
    with goes_on():
        clips, bad = readable(index.clips, options.workers)
    if not clips:
        raise ValueError(f"none of the clips in {index.root} can be read:\n{first_of(map(_line, bad))}")
    place = options.data if is_url(options.data) else os.path.realpath(os.path.expanduser(options.data))
    source = printable(place) if options.kinds == "video" else f"{printable(place)} (--kinds {options.kinds})"
    shards = plan_shards(clips, out, options.shard_mb << 20)
    with goes_on():
        done = write_shards(shards, out, options.workers, source)
    skipped = index.unusable + bad + done.skipped
    packed = len(clips) - len(done.skipped)
    print(index.layout)
    print(f"{_count(packed, 'clip')} in {_count(len(shards), 'shard')} in {out}, {done.written} written now")
    if done.removed:
        named = first_of(f"  {printable(name)}" for name in done.removed)
        print(f"{_count(len(done.removed), 'clip')} of the export so far, no longer in the data, removed:\n{named}")
    share = len(skipped) / max(1, packed + len(skipped))
    if skipped:
        print(f"{_count(len(skipped), 'clip')} cannot be used and left out:\n{first_of(map(_line, skipped))}")
    if share > options.max_bad_share:
        print(
            f"{share:.1%} of the clips are unusable; --max-bad-share allows {options.max_bad_share:.1%}",
            file=sys.stderr,
        )
        sys.exit(1)
    print(f"to train on them: fit --config ... --data lingen_kit.data.WebDataset --data.root {out}")


def _line(entry: tuple[str, str]) -> str:
    return f"  {entry[0]}: {entry[1]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Pack a data set into WebDataset shards (tar archives of clips, captions and JSON, each with an"
        " index beside it), shuffled. Files go in as they are; stretches of files are encoded anew. Files that do not"
        " open, or whose first frame does not decode, are named and left out. A run that was killed goes on when called"
        " again; after clips were added or removed, only the shards that differ are written.",
        epilog="exit code: 0 all is well, 1 more than --max-bad-share of the clips are unusable, 2 wrong usage",
    )
    add_common(parser, "export", timeout=None)
    add_max_bad_share(parser)
    parser.add_argument("--shard-mb", type=positive, default=512, metavar="N", help="size of a shard (default 512)")
    return parser
