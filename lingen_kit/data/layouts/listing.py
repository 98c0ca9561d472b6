"""Which files a folder holds, at any depth, without a question to the file system for each of them."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from lingen_kit.data.media import kind_of


@dataclass
class Listing:
    """The files below a folder; hidden files and folders are left out.

    Attributes:
        folder: The folder.
        files: Paths within the folder, `/` between names, in order; with each, why it is no file, or None if it is one.
        ignored: (path, reason) of folders that are not listed, and of links that lead nowhere.
    """

    folder: str
    files: dict[str, str | None] = field(default_factory=dict)
    ignored: list[tuple[str, str]] = field(default_factory=list)

    def path(self, name: str) -> str:
        """The path of a file, from its path within the folder."""
        return os.path.join(self.folder, name)

    def media(self) -> list[str]:
        """The files named like videos and images, in order."""
        return [name for name in self.files if kind_of(name)]


def list_files(folder: str) -> Listing:
    """List a folder and its subfolders.

    Links are followed. Each folder is listed once, whatever links lead to it, and under its real place where that is in
    `folder`. What vanishes meanwhile is not listed.
    """
    listing = Listing(folder)
    found: dict[str, str | None] = {}
    named_like_clips: list[str] = []  # folders
    visited: set[str] = set()
    tops = [""]
    for top in tops:  # linked folders join the end while this goes on
        stack = [top]
        while stack:
            place = stack.pop()
            path = os.path.join(folder, place)
            real = os.path.realpath(path)
            if real in visited:
                listing.ignored.append((path.rstrip("/"), "a link leads to this folder, which is listed already"))
                continue
            visited.add(real)
            subfolders, linked = _scan(listing, place, found)
            tops += sorted(linked)
            stack += sorted(subfolders, reverse=True)
            named_like_clips += [name.rstrip("/") for name in subfolders + linked if kind_of(name.rstrip("/"))]
    # A folder may be named after the video that its clips were cut from; then it is no failed clip.
    cut = set(_folders_of(name for name in found if kind_of(name)))
    found |= dict.fromkeys((name for name in named_like_clips if name not in cut), "it is a folder, not a file")
    listing.files = {name: found[name] for name in sorted(found)}
    listing.ignored += [
        (listing.path(name), flaw)
        for name, flaw in listing.files.items()
        if flaw and not kind_of(name) and os.path.islink(listing.path(name))
    ]
    return listing


def why_no_file(path: str) -> str | None:
    """Why a path is not that of a file; None if it is."""
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        return "its name holds a zero character"
    except OSError as error:
        if os.path.islink(path):
            return f"it is a link to {os.readlink(path)}, where nothing is"
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return "there is no such file" if missing else (error.strerror or str(error))
    if stat.S_ISDIR(mode):
        return "it is a folder, not a file"
    return None if stat.S_ISREG(mode) else "it is not a regular file"


def _scan(listing: Listing, place: str, found: dict[str, str | None]) -> tuple[list[str], list[str]]:
    """Add the files of one folder to `found`; returns its subfolders and links to folders, each ending in `/`."""
    subfolders: list[str] = []
    linked: list[str] = []
    path = os.path.join(listing.folder, place)
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = place + entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_file(follow_symlinks=False):
                    found[name] = None
                elif entry.is_dir(follow_symlinks=False):
                    subfolders.append(name + "/")
                elif entry.is_symlink() and os.path.isdir(entry.path):
                    linked.append(name + "/")
                else:
                    found[name] = why_no_file(entry.path)
    except OSError as error:
        listing.ignored.append((path.rstrip("/"), f"a folder that cannot be listed: {error.strerror}"))
    return subfolders, linked


def _folders_of(names: Iterable[str]) -> Iterable[str]:
    """Every folder above some paths; each parent is climbed from once."""
    known: set[str] = set()
    for name in names:
        parent = name.rpartition("/")[0]
        while parent and parent not in known:
            known.add(parent)
            parent = parent.rpartition("/")[0]
    return known
