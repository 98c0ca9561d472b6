"""Cut a stretch out of a video into a file of its own."""

import io
from fractions import Fraction

import av
import numpy as np

from lingen_kit.data.decode import probe, read_pixels
from lingen_kit.data.media import Source, UnreadableVideo

_QUALITY = "16"  # of libx264: no difference that the eye sees
_FRAMES = 32  # of a stretch that are in memory at a time


def cut(source: Source, start: float, end: float | None) -> bytes:
    """A stretch of a video as an mp4 of its own, without sound.

    Args:
        source: The video.
        start: Seconds into it where the stretch begins.
        end: Seconds into it where it ends; None for its end.

    Raises:
        UnreadableVideo: If there is no frame in between, or the video cannot be read.
    """
    info = probe(source)
    last = info.duration if end is None else min(end, info.duration)
    count = round((last - start) * info.fps)
    if count < 1:
        raise UnreadableVideo(source, f"it holds no frame from {start:.2f} s on")
    height, width = info.height - info.height % 2, info.width - info.width % 2  # colors have half the resolution
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        rate = Fraction(info.fps).limit_denominator(1001)
        encoder = container.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        for first in range(0, count, _FRAMES):
            pixels = np.empty((3, min(_FRAMES, count - first), height, width), np.uint8)
            read_pixels(source, pixels, fps=info.fps, start=start + first / info.fps, short="hold")
            for picture in np.ascontiguousarray(pixels.transpose(1, 2, 3, 0)):  # (H, W, 3)
                container.mux(encoder.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(encoder.encode(None))
    return target.getvalue()
