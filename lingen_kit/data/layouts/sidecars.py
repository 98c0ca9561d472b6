"""Captions in `.txt` files beside the clips, one each, of the same name."""

import os

from lingen_kit.data.layouts.collect import MAX_CAPTION, NO_CAPTION, TOO_LONG, Collector, flaw_of_caption
from lingen_kit.data.layouts.listing import Listing
from lingen_kit.data.media import VIDEO_SUFFIXES, kind_of

_LONGEST_NAME = 255  # bytes, on the file systems in use
_MOST_BYTES = 4 * MAX_CAPTION + 4  # of the longest caption in UTF-8, and to see that there is more


class Sidecars:
    """A folder of clips, each with a text file beside it."""

    why = "someone wrote them for these files"

    def evidence(self, listing: Listing, clips: Collector) -> str | None:
        """How many there are, in words."""
        count = sum(sidecar_of(name) in listing.files for name in listing.media())
        return f"{count:,} .txt file{'s' * (count != 1)} beside the clips" if count else None

    def read(self, listing: Listing, clips: Collector) -> str:
        """Add the clips that have a caption."""
        used: set[str] = set()
        for name, flaw in listing.files.items():
            kind = kind_of(name)
            if kind is None:
                continue
            sidecar = sidecar_of(name)
            used.add(sidecar)
            captioned = sidecar in listing.files
            path = listing.path(name)
            if not captioned and kind == "image" and "video" in clips.kinds:
                # Pictures beside videos are often thumbnails; without a caption nobody meant them as clips.
                clips.ignore(path, _no_sidecar(sidecar))
            elif flaw or not captioned:
                clips.refuse(path, flaw or _no_sidecar(sidecar))
            elif clips.takes(name, path):
                caption, flaw = read_caption(listing.path(sidecar))
                if flaw:
                    clips.refuse(path, f"{NO_CAPTION}: the .txt beside it {flaw}")
                else:
                    clips.add(name, path, caption)
        lonely = "a caption without a clip: beside it is no file of that name and one of the kinds "
        lonely += ", ".join(sorted(VIDEO_SUFFIXES))
        for name in listing.files:
            if name.endswith(".txt") and name not in used:
                clips.ignore(listing.path(name), lonely)
        return "captions in .txt files beside the clips"


def sidecar_of(name: str) -> str:
    """The name of the text file beside a clip."""
    return os.path.splitext(name)[0] + ".txt"


def read_caption(path: str) -> tuple[str, str | None]:
    """The caption in a text file, white space made single spaces; and why it is none, or None."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(_MOST_BYTES) or b""
    except OSError as error:
        return "", f"cannot be opened: {error.strerror}"
    try:
        caption = " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        if len(data) == _MOST_BYTES and error.start > _MOST_BYTES - 4:  # cut within a letter
            return "", TOO_LONG
        return "", f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
    return caption, flaw_of_caption(caption)


def _no_sidecar(sidecar: str) -> str:
    name = os.path.basename(sidecar)
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return f"{NO_CAPTION}: the name of its .txt file would be longer than {_LONGEST_NAME} bytes; rename it"
    return f"{NO_CAPTION}: there is no .txt beside it"
