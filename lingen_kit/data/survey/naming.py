"""How reports call files, and how journals tell them apart."""

from lingen_kit.data.clip import Clip, printable
from lingen_kit.data.jobs import key_of_file

__all__ = ["file_of", "key_of_file", "relative_name"]


def file_of(clip: Clip) -> str:
    """The name of a clip's file within its data set, as it can be printed; the same for all stretches of a file."""
    return printable(clip.file_name)


def relative_name(path: str, root: str) -> str:
    """The name of a file within its data set, where it is in it.

    Args:
        path: The file.
        root: The data set.
    """
    start = printable(root).rstrip("/") + "/"
    return printable(path).removeprefix(start)
