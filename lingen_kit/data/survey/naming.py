"""How reports call files, and how journals tell them apart."""

import os
from dataclasses import replace

from lingen_kit.data.clip import Clip, printable
from lingen_kit.data.jobs import file_key


def file_of(clip: Clip) -> str:
    """The name of a clip's file within its data set, as it can be printed; the same for all stretches of a file."""
    return printable(clip.file_name)


def key_of_file(clip: Clip) -> str:
    """A key that changes when the file of a clip does, the same for all stretches of a file."""
    return file_key(replace(clip, name=clip.file_name, start=0.0, end=None))


def relative_name(path: str, root: str) -> str:
    """The name of a file within its data set, where it is in it.

    Args:
        path: The file.
        root: The data set.
    """
    start = printable(root).rstrip("/") + "/"
    inside = printable(path).removeprefix(start)
    return inside or os.path.basename(path)
