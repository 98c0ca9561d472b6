"""`data export`: pack a data set into WebDataset shards."""

import argparse
import sys

from lingen_kit.commands.data.options import add_common, kinds, output_folder
from lingen_kit.commands.options import positive


def main(verb: str, arguments: list[str]) -> None:
    """Write the shards that are not there yet; exits with 1 if some clips cannot be read, naming them."""
    options = _parser(verb).parse_args(arguments)
    out = output_folder(options.data, "export", options.out)

    from lingen_kit.data.clip import first_of  # after the options are known to be good
    from lingen_kit.data.export import plan_shards, write_shards
    from lingen_kit.data.layouts import read_index

    index = read_index(options.data, kinds(options))
    shards = plan_shards(index.clips, out, options.shard_mb << 20)
    written, skipped = write_shards(shards, out, options.workers)
    skipped += index.unusable
    clips = sum(len(shard.members) for shard in shards) - len(skipped) + len(index.unusable)
    print(f"{clips} clips in {len(shards)} shards in {out}, {written} of them written now ({index.layout})")
    if skipped:
        lines = first_of(f"  {path}: {reason}" for path, reason in skipped)
        print(f"{len(skipped)} clips cannot be used and are left out:\n{lines}", file=sys.stderr)
        sys.exit(1)
    print(f"to train on them: fit --config ... --data lingen_kit.data.WebDataset --data.root {out}")


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Pack a data set into WebDataset shards (tar archives of clips, captions and JSON, each with an"
        " index beside it), shuffled. Files go in as they are; stretches of files are encoded anew. A run that was"
        " killed goes on when called again.",
        epilog="exit code: 0 all is well, 1 some clips cannot be used and are left out, 2 wrong usage",
    )
    add_common(parser, "export")
    parser.add_argument("--shard-mb", type=positive, default=512, metavar="N", help="size of a shard (default 512)")
    return parser
