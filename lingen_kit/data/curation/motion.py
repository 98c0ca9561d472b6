"""How much moves, by dense optical flow: DIS (Kroeger et al., ECCV 2016), which needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lingen_kit.data.curation.filter import Candidate, Filter, Limit, Meter

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured
    from lingen_kit.data.curation.frame import Frame, Pixels


class Motion(Filter):
    """Drops clips in which too little or too much moves, or whose camera shakes.

    `motion` is the mean length of the flow over pixels and time, in widths of the frame per second: it depends neither
    on the resolution nor on the frame rate. `shake` is the mean change of the camera's velocity (the median of the
    flow) from one sample to the next, in the same unit: a smooth pan has none, a hand that trembles has.

    Values: below 0.005 a tripod with little going on; 0.01 to 0.15 usual scenes, such as 0.017 for a rabbit that comes
    out of its burrow and 0.05 for a man who talks in a moving car; a pan that crosses the frame in four seconds, or a
    bus that passes near the camera, 0.25; above 0.5 a whip pan, or a cut that nobody found. A smooth pan's shake is
    below 0.01, a camera on the shoulder has 0.03 to 0.1.

    Args:
        min_motion: Least motion, widths per second.
        max_motion: Greatest motion; None for any.
        max_shake: Greatest shake; None for any. 0.15 keeps a walking camera and drops an unsteady one.
        fps: Frames per second looked at; the flow is that from one to the next. Motion of more than about a
            quarter of the frame between two is not followed.
    """

    explains: ClassVar[Mapping[str, str]] = {
        "motion": "mean optical flow, widths of the frame per second",
        "shake": "mean change of the camera's velocity between samples, widths per second",
    }
    measured_by = ("fps",)
    packages = ("cv2",)

    def __init__(
        self,
        min_motion: float = 0.005,
        max_motion: float | None = 0.6,
        max_shake: float | None = None,
        fps: float = 8.0,
    ) -> None:
        self.min_motion, self.max_motion, self.max_shake, self.fps = min_motion, max_motion, max_shake, fps

    def meter(self) -> Meter:
        """Follows the pixels from each sampled frame to the next."""
        return _MotionMeter(self.fps)

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """Means over the pairs of frames that both lie in the clip."""
        import numpy as np

        pairs = clip.inside(measured["times"])[1:]  # the first one's partner lies outside
        if not len(pairs):
            return dict.fromkeys(self.explains, np.nan)
        camera = measured["camera"][pairs]
        shake = np.linalg.norm(np.diff(camera, axis=0), axis=1)
        return {
            "motion": float(measured["speed"][pairs].mean()),
            "shake": float(shake.mean()) if len(shake) else 0.0,
        }

    def limits(self) -> Mapping[str, Limit]:
        """Its bounds."""
        return {"motion": (self.min_motion, self.max_motion), "shake": (None, self.max_shake)}


class _MotionMeter(Meter):
    def __init__(self, fps: float) -> None:
        import cv2

        super().__init__(fps)
        self.flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.times: list[float] = []
        self.speeds: list[float] = []
        self.cameras: list[tuple[float, float]] = []
        self.before: Pixels | None = None

    def add(self, frame: Frame) -> None:
        import cv2
        import numpy as np

        gray = frame.small_gray
        speed, camera = 0.0, (0.0, 0.0)
        if self.before is not None:
            seconds = frame.time - self.times[-1]
            flow = self.flow.calc(self.before, gray, None) / (gray.shape[1] * seconds)  # H W 2, widths per second
            speed = float(cv2.magnitude(flow[..., 0], flow[..., 1]).mean())
            x, y = np.median(flow[::4, ::4].reshape(-1, 2), axis=0)  # every 16th pixel says as much as all
            camera = (float(x), float(y))
        self.before = gray
        self.times.append(frame.time)
        self.speeds.append(speed)
        self.cameras.append(camera)

    def result(self) -> Measured:
        import numpy as np

        return {
            "times": np.array(self.times),
            "speed": np.array(self.speeds, np.float32),
            "camera": np.array(self.cameras, np.float32).reshape(-1, 2),
        }
