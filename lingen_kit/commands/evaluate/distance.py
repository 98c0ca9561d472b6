"""`evaluate distance`: how far one set of videos is from another, by a Frechet distance of features."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.metric import Frames


def main(verb: str, arguments: list[str]) -> None:
    """Measure and print the distance, with what it was made by."""
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Measure how far videos of a folder are from those of another, real ones: FVD with I3D's file, or"
        " a Frechet distance of frames on EfficientNet-Lite0, which needs no download. Both folders should be alike in"
        " number, size, rate and length of the videos.",
    )
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="folder of real videos")
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="folder of the videos to measure")
    parser.add_argument("--i3d", type=Path, metavar="FILE", help="i3d_torchscript.pt; without it frames are compared")
    parser.add_argument("--frames", type=int, default=16, help="with --i3d: frames of each video (default 16)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figure and what made it")
    options = parser.parse_args(arguments)

    from eval.metrics.frechet import FrechetDistance
    from eval.metrics.fvd import FrechetVideoDistance
    from lingen_kit.commands.options import device
    from lingen_kit.page import write

    measure: FrechetDistance | FrechetVideoDistance
    if options.i3d:
        measure = FrechetVideoDistance(options.i3d, options.frames, device(options.device))
    else:
        from eval.metrics.lite import LiteFeatures

        measure = FrechetDistance(LiteFeatures("subject", device(options.device)))
    found = measure(_videos(options.reference), _videos(options.videos))
    print(f"{measure.name}  {found.value:.4f}")
    print(
        f"features: {found.reference} of the reference, {found.compared} of the videos, {found.dimensions} dimensions"
    )
    if warning := found.made_by.get("warning"):
        print(f"warning: {warning}")
    if options.json:
        write(options.json, json.dumps(asdict(found), indent=1) + "\n")


def _videos(folder: Path) -> "Iterator[Iterator[Frames]]":
    """The frames of each video of a folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        UnreadableVideo: If one cannot be decoded: a distance of what is left would be another one.
    """
    from eval.run import chunks_of
    from eval.video_folder import match_videos

    for match in match_videos(folder).videos:
        yield chunks_of(match.path)
