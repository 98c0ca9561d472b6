"""What is wrong with a file or a clip, from what was measured of it."""

import os
from typing import Any, Literal, NamedTuple

from lingen_kit.data.clip import Clip, printable
from lingen_kit.data.media import FilePart
from lingen_kit.data.survey.measuring import Job
from lingen_kit.data.survey.units import brief

_LONG_CAPTION = 2000  # characters: text encoders read 77 to 512 tokens
_MISSING_SHARE = 0.05  # containers are often off by a frame or two; a file that lacks more than this was cut off
_MISSING_FRAMES = 2
_PLAUSIBLE_FPS = (1.0, 300.0)
_PLAUSIBLE_SIDE = 16384
# Containers, as FFmpeg and Pillow name them, and the suffixes they go by.
_CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": (".mp4", ".mov", ".m4v"),
    "matroska,webm": (".webm", ".mkv"),
    "avi": (".avi",),
    "gif": (".gif",),
    "mpeg": (".mpg", ".mpeg"),
    "mpegvideo": (".mpg", ".mpeg"),
    "mpegts": (".ts", ".mpg", ".mpeg"),
    "ogg": (".ogv",),
    "asf": (".wmv",),
    "jpeg": (".jpg", ".jpeg"),
    "mpo": (".jpg", ".jpeg"),
    "png": (".png",),
    "bmp": (".bmp",),
    "webp": (".webp",),
}


class Problem(NamedTuple):
    """What is wrong with a file, or with a clip that is cut from it.

    Attributes:
        kind: `unusable` if training cannot use it, else `warning`.
        reason: In a few words.
        clip: The name of the clip, as it can be printed; None for what concerns the file, and so all clips of it.
    """

    kind: Literal["unusable", "warning"]
    reason: str
    clip: str | None = None


def judge(found: dict[str, Any], job: Job) -> list[Problem]:
    """What is wrong with a file, from what `measure` found."""
    problems: list[Problem] = []
    declared, frames, seconds = found["declared"], found["frames"], found["seconds"]
    cut = False
    fps, told = declared["fps"], declared["seconds"]
    least, most = _PLAUSIBLE_FPS
    frame = 1 / fps if fps and least <= fps <= most else 0.04
    # Then an edit list hides what is missing, such as what a cut without encoding keeps from before its start.
    whole = told is not None and abs(told - seconds) <= _MISSING_FRAMES * frame
    if found["error"]:
        problems.append(_bad(f"it cannot be decoded after {seconds:.2f} s: {found['error']}"))
    if found["damaged"]:
        first = f"the first at {max(0.0, found['damaged_at']):.2f} s"
        problems.append(_bad(f"{found['damaged']} of its frames are damaged, {first}"))
    if frames is not None and declared["frames"] and not found["error"] and not whole:
        missing = declared["frames"] - frames
        cut = missing > max(_MISSING_FRAMES, _MISSING_SHARE * declared["frames"])
        if cut:
            problems.append(_bad(f"it ends early: {frames} of {declared['frames']} frames can be decoded"))
        elif abs(missing) > _MISSING_FRAMES:
            problems.append(_odd(f"it says that it holds {declared['frames']} frames, and holds {frames}"))
    if job.kind == "video":
        problems += _judge_time(found, ended=cut or found["error"] is not None)
    for side in ("width", "height"):
        if not 0 < found[side] <= _PLAUSIBLE_SIDE:
            problems.append(_odd(f"its {side} of {found[side]} pixels is implausible"))
    suffix = os.path.splitext(job.source.name if isinstance(job.source, FilePart) else job.source)[1].lower()
    if suffix not in (usual := _CONTAINERS.get(found["container"], ())):
        content = f"that of a {usual[0]} file" if usual else f"of the kind {found['container']}"
        problems.append(_odd(f"its name ends in {suffix}, and its content is {content}"))
    if found["complaint"] and not problems:
        problems.append(_odd(f"FFmpeg complains while decoding: {found['complaint']}"))
    return problems


def judge_clip(clip: Clip, found: dict[str, Any] | None) -> list[Problem]:
    """What is wrong with a clip beside what is wrong with its file.

    Args:
        clip: The clip.
        found: What `measure` found in its file; None if it could not be decoded.
    """
    problems = judge_caption(clip.caption)
    if found is not None and clip.kind != "image":
        problems += judge_stretch(clip.start, clip.end, found["seconds"], found["declared"]["fps"])
    return [problem._replace(clip=printable(clip.name)) for problem in problems]


def judge_caption(caption: str) -> list[Problem]:
    """What is odd about a caption."""
    problems: list[Problem] = []
    if len(caption) > _LONG_CAPTION:
        problems.append(_odd(f"its caption has {len(caption):,} characters; text encoders drop most of that much"))
    if "\ufffd" in caption:
        problems.append(_odd("its caption holds U+FFFD, which stands for letters that were lost"))
    if any(not letter.isprintable() and not letter.isspace() for letter in caption):
        problems.append(_odd("its caption holds control characters"))
    return problems


def beyond_end(start: float, seconds: float) -> str:
    """The reason why a clip that starts after the end of its file cannot be used, from both in seconds."""
    return f"it starts at {start:g} s, and the file ends after {seconds:.2f} s"


def judge_stretch(start: float, end: float | None, seconds: float, fps: float | None) -> list[Problem]:
    """Whether a stretch of a file lies within it.

    Args:
        start: Seconds from the file's start.
        end: Seconds from the file's start; None for its end.
        seconds: Length of the file.
        fps: Its frames per second, if known.
    """
    if start >= seconds:
        return [_bad(beyond_end(start, seconds))]
    if end is not None and end > seconds + 1.5 / (fps or 1):
        return [_odd(f"it ends at {end:g} s, and the file after {seconds:.2f} s")]
    return []


def _judge_time(found: dict[str, Any], ended: bool) -> list[Problem]:
    """What is wrong with rate, time stamps and length.

    Args:
        found: What `measure` found.
        ended: Whether it is known already that the file ends early.
    """
    if found["frames"] == 1:
        return [_odd("it is a single picture")]
    problems: list[Problem] = []
    fps, seconds, told = found["declared"]["fps"], found["seconds"], found["declared"]["seconds"]
    least, most = _PLAUSIBLE_FPS
    if fps is None:
        problems.append(_odd("it does not say how many frames it has a second"))
    elif not least <= fps <= most:
        problems.append(_odd(f"it claims {brief(fps)} frames per second"))
    if found["backwards"]:
        problems.append(_odd(f"{found['backwards']} of its frames have a time no later than the frame before"))
    if found["untimed"]:
        problems.append(_odd(f"{found['untimed']} of its frames have no time stamp"))
    if told is not None and not ended:
        frame = 1 / fps if fps else 0.04
        if told - seconds > max(3 * frame, _MISSING_SHARE * told):
            problems.append(_bad(f"it ends early: after {seconds:.2f} of {told:.2f} s"))
        elif abs(told - seconds) > max(3 * frame, 0.02 * told):
            problems.append(_odd(f"it says that it lasts {told:.2f} s, and lasts {seconds:.2f} s"))
    return problems


def _bad(reason: str) -> Problem:
    return Problem("unusable", reason)


def _odd(reason: str) -> Problem:
    return Problem("warning", reason)
