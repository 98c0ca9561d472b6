"""The list of the clips that a check found good, as a manifest that the data modules read."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lingen_kit.data.clip import Clip
from lingen_kit.data.media import FilePart
from lingen_kit.page import write

GOOD = "good.jsonl"


def write_good(clips: Sequence[Clip], out: Path) -> Path | None:
    """Write a line for each clip: its file, named from the list's folder so that both can move, caption and attributes.

    Args:
        clips: The good ones.
        out: Folder to write to.

    Returns:
        The list. None if there is none, as no clip is good or the clips lie in archives, to which no list can point;
        one that an earlier check wrote is removed then.
    """
    path = out / GOOD
    if not clips or any(isinstance(clip.path, FilePart) for clip in clips):
        path.unlink(missing_ok=True)
        return None
    folder = os.path.realpath(out)  # `..` in a name leads up from there, whatever links lead to it
    # Escaped to ASCII: captions may hold characters at which some readers break lines.
    write(path, "".join(json.dumps(_row(clip, folder)) + "\n" for clip in clips))
    return path


def _row(clip: Clip, folder: str) -> dict[str, Any]:
    row = {**clip.attributes, "file_name": os.path.relpath(str(clip.path), folder), "text": clip.caption}
    if clip.start:
        row["start"] = clip.start
    if clip.end is not None:
        row["end"] = clip.end
    return row
