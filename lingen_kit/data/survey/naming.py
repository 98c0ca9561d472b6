"""How reports call files."""

import os

from lingen_kit.data.clip import Clip, printable
from lingen_kit.data.layouts.tables import SUFFIXES


def file_of(clip: Clip) -> str:
    """The name of a clip's file within its data set, as it can be printed; the same for all stretches of a file."""
    return printable(clip.file_name)


def relative_name(path: str, root: str) -> str:
    """The name of a file within its data set, where it is in it.

    Args:
        path: The file.
        root: The data set: a folder, or a table, which names its files from its own folder.
    """
    folder = os.path.join(os.path.dirname(root) if root.lower().endswith(SUFFIXES) else root, "")
    return printable(path).removeprefix(printable(folder))
