"""Small pictures for the review page, taken in the pass that measures, into one file beside the others."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingen_kit.data.curation.filter import Candidate, Meter
from lingen_kit.files import replacing

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured
    from lingen_kit.data.curation.frame import Frame, Pixels

SHORTER_SIDE = 96
SHOWN = 6
"""Frames of a clip on the page."""
_MANY = 120  # pictures of a file, after which one a second is enough


class PreviewMeter(Meter):
    """Keeps two pictures a second, of long files one, as JPEG.

    Args:
        path: File for the pictures, one after the other.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(fps=2.0)
        self.path = path
        self.times: list[float] = []
        self.pictures: list[bytes] = []

    def add(self, frame: Frame) -> None:
        """Keep a picture."""
        from lingen_kit.data.curation.frame import shrink
        from lingen_kit.page import jpeg

        self.times.append(frame.time)
        self.pictures.append(jpeg(shrink(frame.small, SHORTER_SIDE), quality=70))
        if len(self.times) == _MANY and self.fps == 2.0:
            self.times, self.pictures, self.fps = self.times[::2], self.pictures[::2], 1.0

    def result(self) -> Measured:
        """Where each picture begins in the file; the last number is its size."""
        import numpy as np

        with replacing(self.path) as beside:
            beside.write_bytes(b"".join(self.pictures))
        sizes = np.array([0, *map(len, self.pictures)], np.int64)
        return {"times": np.array(self.times), "places": np.cumsum(sizes)}


def strip(clip: Candidate, path: Path, measured: Mapping[str, Any]) -> tuple[bytes, int] | None:
    """The pictures of a clip side by side.

    Args:
        clip: The clip.
        path: File of the pictures of its file.
        measured: What `PreviewMeter` returned.

    Returns:
        A WebP file and the number of pictures in it; None if there is no picture.
    """
    import numpy as np
    from PIL import Image

    times, places = measured["times"], measured["places"]
    if not len(times) or not path.is_file():
        return None
    moments = clip.start + clip.seconds * (np.arange(SHOWN) + 0.5) / SHOWN
    wanted = sorted({int(np.abs(times - moment).argmin()) for moment in moments})
    with path.open("rb") as file:
        images = [_picture(file, *places[[i, i + 1]]) for i in wanted]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(images, axis=1)).save(buffer, "WEBP", quality=55, method=4)
    return buffer.getvalue(), len(wanted)


def _picture(file: io.BufferedReader, start: int, end: int) -> Pixels:
    import numpy as np
    from PIL import Image

    file.seek(int(start))
    with Image.open(io.BytesIO(file.read(int(end - start)))) as image:
        return np.asarray(image)
