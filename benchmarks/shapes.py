"""How fast the moving shapes are drawn by one process, and graded: a measurement, not a test.

Run `python benchmarks/shapes.py`. Training needs over 2,000 frames/s a worker at 32x32.
"""

import time

import torch

from eval.shape_grader import frames_of, grade
from lingen_kit.data.shapes import MovingShapesDataset

CASES = {
    "8 frames of 32x32, 1 object": dict(),
    "8 frames of 32x32, 1 to 3 objects": dict(objects=(1, 3)),
    "16 frames of 64x64, 1 object": dict(frames=16, height=64, width=64),
    "16 frames of 256x256, 1 object": dict(frames=16, height=256, width=256),
    "images of 32x32, 1 object": dict(frames=1),
}


def draw(dataset, seconds=1.0):
    """Clips per second."""
    dataset[0]
    clips, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        dataset[clips]
        clips += 1
    return clips / (time.perf_counter() - start)


def main():
    torch.set_num_threads(1)
    for name, arguments in CASES.items():
        dataset = MovingShapesDataset(**arguments)
        rates = sorted(draw(dataset) for _ in range(3))
        print(f"{name:36} {rates[1]:8.0f} clips/s {rates[1] * dataset.frames:9.0f} frames/s")
    dataset = MovingShapesDataset(split="validation")
    clips = [frames_of(dataset[index]["video"]) for index in range(64)]
    grade(clips[0])
    start = time.perf_counter()
    for clip in clips:
        grade(clip)
    print(f"{'grading 64 clips of 8x32x32':36} {time.perf_counter() - start:8.2f} s")


if __name__ == "__main__":
    main()
