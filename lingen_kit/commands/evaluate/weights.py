"""`evaluate weights`: which networks' weights are here, whole or damaged, and where to get the others."""

import argparse
from pathlib import Path


def main(verb: str, arguments: list[str]) -> None:
    """Print the list."""
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="List the weights of networks that scores rest on: present, missing or damaged, where they lie or"
        " where to get them, their licence and size. They are looked for in --weights, in $VBENCH_CACHE_DIR and in the"
        " caches of the packages that load them.",
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder to look into first")
    options = parser.parse_args(arguments)

    from eval.weights import listing

    rows = listing(options.weights)
    columns = ("key", "state", "size", "needed for", "licence")
    widths = [max(len(column), *(len(row[column]) for row in rows)) for column in columns]
    for cells in (columns, *([row[column] for column in columns] for row in rows)):
        print("  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())
    print("\nwhere they are, or can be had:")
    for row in rows:
        print(f"  {row['key']:{widths[0]}}  {row['where']}")
    print(
        "\nThe detectors and the captioner of objects, colors, relations and scenes come from the Hugging Face hub"
        "\nthrough transformers, into its own cache; `lite` extractors need none of all these."
    )
