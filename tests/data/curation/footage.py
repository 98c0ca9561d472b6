"""Videos whose truth is known: windows that move over photographs of scikit-image at a known speed."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 144, 256
FPS = 24

Frames = Iterator[np.ndarray]


def photograph(name: str, width: int = 900) -> np.ndarray:
    """`(H, W, 3)` uint8; only the file is read, scikit-image is not imported."""
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    path = next((Path(spec.origin).parent / "data").glob(f"{name}.*"))
    with Image.open(path) as image:
        image = image.convert("RGB")
        return np.asarray(image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS))


def pan(name: str, seconds: float, widths_per_second: float, begin: float = 0.0) -> Frames:
    """A window that moves to the right over a photograph, with subpixel steps."""
    picture = photograph(name)
    for number in range(round(seconds * FPS)):
        place = (begin + number / FPS) * widths_per_second * WIDTH
        left = int(place)
        share = place - left
        strip = picture[100 : 100 + HEIGHT, left : left + WIDTH + 1].astype(np.float32)
        yield np.round(strip[:, :-1] * (1 - share) + strip[:, 1:] * share).astype(np.uint8)


def resized(frames: Frames, width: int, height: int) -> Frames:
    for frame in frames:
        yield np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def flat(value: int, seconds: float) -> Frames:
    for _ in range(round(seconds * FPS)):
        yield np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def write(path: Path, frames: Iterable[np.ndarray], *, crf: int = 20, fps: int = FPS) -> Path:
    """Encode with x264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
