"""One decode a video for all dimensions against one decode a dimension, and the memory that a long video takes.

    python benchmarks/evaluation.py [--frames 1088] [--height 512] [--width 512] [--videos 2] [--side 512]

The suites are those that need no downloaded network. Ratios are of medians over rounds in which both ways take turns,
each in a process of its own with one thread; memory is the greatest resident size of a process that scores one long
video.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_SCORE = """
import json, resource, sys, time
from pathlib import Path
from eval.run import Item, score_file
from eval.suite import Prompt
from eval.suites import Custom, ShapeBench

suite = {"lite": Custom(extractors="lite"), "ShapeBench": ShapeBench()}[sys.argv[1]]
together = sys.argv[2] == "together"
names = [name for metric in suite.metrics() for name in metric.names]
dimensions = [frozenset({name}) for name in names]
files = [(Path(word), Path(word).with_suffix(".txt").read_text()) for word in sys.argv[3:]]
score_file((suite, Item("warm", files[0][0], Prompt(files[0][1]))))  # loads the network
began = time.perf_counter()
for file, prompt in files:
    for asked in [None] if together else dimensions:
        score_file((suite, Item(file.name, file, Prompt(prompt, metrics=asked))))
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1088)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--videos", type=int, default=2, help="short ones of 64 frames, for the ratio")
    parser.add_argument("--side", type=int, default=512, help="of the short ones, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shown = [_footage(root / f"{i}.mp4", 64, options.side, options.side, shift=i) for i in range(options.videos)]
        for suite, files in (("lite", shown), ("ShapeBench", _shapes(root / "shapes", 10 * options.videos))):
            times: dict[str, list[float]] = {"together": [], "apart": []}
            for _ in range(options.rounds):
                for way in times:
                    times[way].append(_score(suite, way, files)["seconds"])
            together, apart = (statistics.median(times[way]) for way in ("together", "apart"))
            print(
                f"{suite}, {len(files)} videos: one decode for all {together:.1f} s, one a dimension {apart:.1f} s:",
                end="",
            )
            print(f" {apart / together:.2f}x")
        long = _footage(root / "long.mp4", options.frames, options.height, options.width)
        found = _score("lite", "together", [long])
        size = f"{options.frames} frames of {options.height}x{options.width}"
        print(f"{size}: {found['seconds']:.0f} s, at most {found['mib']:.0f} MiB resident")


def _score(suite: str, way: str, files: list[Path]) -> dict[str, float]:
    words = [sys.executable, "-c", _SCORE, suite, way, *map(str, files)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def _shapes(folder: Path, count: int) -> list[Path]:
    """Perfect clips with their prompts beside them."""
    from lingen_kit.data.shapes import MovingShapesDataset
    from lingen_kit.video import write_mp4

    files = []
    for index in range(count):
        sample = MovingShapesDataset(objects=(1, 3))[index]
        files.append(write_mp4(folder / f"{index}.mp4", sample["video"], 8))
        files[-1].with_suffix(".txt").write_text(sample["caption"])
    return files


def _footage(path: Path, frames: int, height: int, width: int, shift: int = 0) -> Path:
    """A pan over a photograph, written frame by frame: as one tensor a long clip would be what takes the memory."""
    import av
    import numpy as np
    from skimage import data, transform

    photograph = transform.resize(data.coffee(), (2 * height, 2 * width), anti_aliasing=True)
    pixels = (photograph * 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "18", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(frames):
            y = round((1 + np.sin(index / 40 + shift)) / 2 * height)
            x = round((1 + np.cos(index / 60)) / 2 * width)
            frame = np.ascontiguousarray(pixels[y : y + height, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    path.with_suffix(".txt").write_text("")
    return path


if __name__ == "__main__":
    main()
