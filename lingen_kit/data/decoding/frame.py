"""From a decoded frame to a picture of the wanted size: upright, square pixels, resized, cropped, 8-bit RGB.

FFmpeg's swscale does the work in one pass over the frame as it was decoded (YUV, 10-bit, gray, ...): bicubic, whose
filter widens when it shrinks, so that nothing aliases. Planar RGB is asked for, as only then chroma keeps its full
resolution at no extra cost. Colors follow the file's tags (BT.601, BT.709, full or limited range); untagged ones
are read as BT.601, as FFmpeg and the other loaders do. Transparency is dropped.

Letters: C channels (3), T frames, H height, W width.
"""

import math
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# Without SWS_ACCURATE_RND, for which PyAV has a name from 18 on, some widths get garbage at the edge.
_FILTER = Interpolation.BICUBIC.value | 0x40000
_MOST_WASTE = 4  # times the wanted area that may be resized before the crop, rather than cropping first


@dataclass(frozen=True)
class Turn:
    """How a stored picture is set upright: first transposed, then mirrored.

    Attributes:
        transpose: Rows become columns.
        flip_x: Left becomes right.
        flip_y: Top becomes bottom.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def mirrors(self) -> bool:
        """Whether writing would be reversed: it is more than a rotation."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    def size(self, height: int, width: int, pixel_aspect: float) -> tuple[float, float]:
        """Height and width of a stored picture once it is upright and its pixels are square."""
        stored = (float(height), width * pixel_aspect)
        return (stored[1], stored[0]) if self.transpose else stored

    def apply(self, plane: Pixels) -> Pixels:
        """An `(H, W)` plane, upright; a view."""
        plane = plane.T if self.transpose else plane
        return plane[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


_UPRIGHT = Turn()


def turn_of(frame: VideoFrame) -> Turn:
    """How to set a frame upright, from its display matrix.

    Raises:
        ValueError: The matrix turns by another angle than a multiple of 90 degrees.
    """
    try:
        matrix = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]
    except KeyError:
        return _UPRIGHT
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()  # (x, y) goes to (a x + c y, b x + d y)
    if (a or d) and (b or c):
        raise ValueError(f"its rotation of {frame.rotation} degrees is not a multiple of 90")
    return Turn(bool(b or c), a < 0 or c < 0, d < 0 or b < 0)


class Fitter:
    """Makes pictures of one size out of frames: covers it with the frame's aspect kept, then crops.

    It keeps swscale's tables from frame to frame, so use one for a whole clip.

    Args:
        height: H.
        width: W.
        pixel_aspect: Width of a stored pixel over its height.
        crop: Where the crop lies from top to bottom and from left to right, in [0, 1]; 0.5 is the middle.
        flip: Mirror left and right.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        pixel_aspect: float = 1.0,
        crop: tuple[float, float] = (0.5, 0.5),
        flip: bool = False,
    ) -> None:
        self.height, self.width, self.crop, self.flip = height, width, crop, flip
        self._pixel_aspect = pixel_aspect
        self._reformatter = VideoReformatter()

    def write(self, frame: VideoFrame, out: Pixels) -> None:
        """Write a frame's picture into `out`, `(C, H, W)`, which may be a view with any strides.

        Raises:
            ValueError: The frame is turned by an angle that is not a multiple of 90 degrees.
        """
        turn = turn_of(frame)
        rows, columns = turn.size(frame.height, frame.width, self._pixel_aspect)
        scale = max(self.height / rows, self.width / columns)
        # Rounded down: a fraction of a pixel is squeezed in rather than cropped, which would shift the picture.
        cover = max(self.height, int(rows * scale + 1e-6)), max(self.width, int(columns * scale + 1e-6))
        if cover[0] * cover[1] > _MOST_WASTE * self.height * self.width:
            frame, turn = self._cut(frame, turn, rows, columns), _UPRIGHT
            cover = self.height, self.width
        top, left = (
            round((size - kept) * share)
            for size, kept, share in zip(cover, (self.height, self.width), self.crop, strict=True)
        )
        height, width = cover[::-1] if turn.transpose else cover
        planar = self._reformat(frame, height, width)
        for plane, target in zip(_planes(planar), (out[1], out[2], out[0]), strict=True):  # green, blue, red
            kept = turn.apply(plane)[top : top + self.height, left : left + self.width]
            target[...] = kept[:, ::-1] if self.flip else kept

    def _cut(self, frame: VideoFrame, turn: Turn, rows: float, columns: float) -> VideoFrame:
        """The part of an elongated frame that will be seen, upright; resizing all of it would need a lot of memory."""
        picture = np.stack([turn.apply(plane) for plane in _planes(self._reformat(frame, frame.height, frame.width))])
        per_row, per_column = picture.shape[1] / rows, picture.shape[2] / columns  # stored pixels in a square one
        scale = max(self.height / rows, self.width / columns)
        kept_rows = max(1, min(picture.shape[1], round(self.height / scale * per_row)))
        kept_columns = max(1, min(picture.shape[2], round(self.width / scale * per_column)))
        top = round((picture.shape[1] - kept_rows) * self.crop[0])
        left = round((picture.shape[2] - kept_columns) * self.crop[1])
        green, blue, red = picture[:, top : top + kept_rows, left : left + kept_columns]
        return VideoFrame.from_ndarray(np.stack([red, green, blue], axis=-1), format="rgb24")

    def _reformat(self, frame: VideoFrame, height: int, width: int) -> VideoFrame:
        # The loader's workers are the parallelism; PyAV would resize on all cores.
        return self._reformatter.reformat(frame, width, height, format="gbrp", interpolation=_FILTER, threads=1)


def _planes(frame: VideoFrame) -> list[Pixels]:
    """The planes of a `gbrp` frame, each `(H, W)`: green, blue, red; views."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
        for plane in frame.planes
    ]


def upright_size(frame: VideoFrame, pixel_aspect: float, shorter_side: int | None = None) -> tuple[int, int]:
    """Height and width of a frame as displayed, resized to a shorter side if one is given; at least one pixel each."""
    rows, columns = turn_of(frame).size(frame.height, frame.width, pixel_aspect)
    scale = 1.0 if shorter_side is None else shorter_side / min(rows, columns)
    return max(1, math.floor(rows * scale + 0.5)), max(1, math.floor(columns * scale + 0.5))
