"""One decode a video for all metrics against one decode a metric, and the memory that a long video takes.

    python benchmarks/evaluation.py [--frames 1088] [--height 512] [--width 512] [--videos 2] [--side 512]

The suite is the one that needs no downloaded network. Ratios are of medians over rounds in which both ways take turns,
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
from eval.metric import Metric
from eval.run import Item, score_file
from eval.suite import Prompt
from eval.suites import Custom

files, together = [Path(word) for word in sys.argv[2:]], sys.argv[1] == "together"
suite = Custom(extractors="lite")
score_file((suite, Item("warm", files[0])))  # loads the network
began = time.perf_counter()
for file in files:
    if together:
        score_file((suite, Item(file.name, file)))
    else:
        for metric in suite.metrics():
            score_file((suite, Item(file.name, file, Prompt("", metrics=frozenset(metric.names)))))
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
        short = [
            _footage(Path(folder) / f"{i}.mp4", 64, options.side, options.side, shift=i) for i in range(options.videos)
        ]
        times: dict[str, list[float]] = {"together": [], "apart": []}
        for _ in range(options.rounds):
            for way in times:
                times[way].append(_score(way, short)["seconds"])
        together, apart = (statistics.median(times[way]) for way in ("together", "apart"))
        print(f"{options.videos} videos of 64 frames, {options.side}p: one decode for all {together:.1f} s,", end=" ")
        print(f"one decode a metric {apart:.1f} s: {apart / together:.2f}x")
        long = _footage(Path(folder) / "long.mp4", options.frames, options.height, options.width)
        found = _score("together", [long])
        size = f"{options.frames} frames of {options.height}x{options.width}"
        print(f"{size}: {found['seconds']:.0f} s, at most {found['mib']:.0f} MiB resident")


def _score(way: str, files: list[Path]) -> dict[str, float]:
    words = [sys.executable, "-c", _SCORE, way, *map(str, files)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


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
    return path


if __name__ == "__main__":
    main()
