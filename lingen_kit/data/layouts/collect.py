"""Where all layouts put what they find: clips into the index, and the rest beside it with the reason."""

from collections import Counter
from pathlib import Path
from typing import Any

from lingen_kit.data.clip import Clip, Index, is_unicode, printable
from lingen_kit.data.layouts.tables import NO_VALUE
from lingen_kit.data.media import FilePart, Kind, kind_of

MAX_CAPTION = 20_000
"""Characters. A longer text is a log file, a subtitle or a web page: nobody's caption."""

NO_CAPTION = "no caption"
"""How a reason begins that is about a clip's caption, whether it is missing or none."""

TOO_LONG = f"is longer than {MAX_CAPTION:,} characters"

CAPTION_COLUMNS = ("text", "caption", "prompt")
"""What a column or a JSON field with captions may be called; the first of these that is there counts."""


def flaw_of_caption(text: str) -> str | None:
    """Why a text is no caption, as the end of a sentence about it; None if it is one."""
    if not text:
        return "is empty"
    if text.lower() in NO_VALUE:
        return f"is {text!r}, which stands for none"
    if len(text) > MAX_CAPTION:
        return TOO_LONG
    if not is_unicode(text):
        return f"holds half of a character (a lone surrogate): {text[:120]}"
    return "holds zero bytes, so it is not UTF-8 text" if "\0" in text else None


class Collector:
    """Fills an index with clips of the kinds that are asked for.

    Args:
        root: Where the data set is.
        kinds: Which clips to take; those of another kind are ignored, with that reason.
    """

    def __init__(self, root: str, kinds: tuple[Kind, ...]) -> None:
        self.index = Index(root)
        self.kinds = kinds

    def add(
        self,
        name: str,
        path: str | FilePart,
        caption: str,
        start: float = 0.0,
        end: float | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Take a clip, or say why not.

        Args:
            name: Its path within the data set.
            path: Where it is.
            caption: What it shows.
            start: Seconds into the file where it begins.
            end: Seconds into the file where it ends, None for the file's end.
            attributes: What else is known of it.
        """
        if not self.takes(name, str(path)):
            return
        if not is_unicode(name):
            self.index.unusable.append((str(path), "its name is not UTF-8; rename it"))
            return
        if start or end is not None:
            name += f"#{_seconds(start)}-{'' if end is None else _seconds(end)}"
        place = Path(path) if isinstance(path, str) else path
        self.index.clips.append(Clip(place, name, caption, start, end, {} if attributes is None else attributes))

    def takes(self, name: str, path: str) -> bool:
        """Whether clips of the kind of a name are asked for; notes `path` as ignored otherwise.

        What has no known suffix may be a video: that shows when it is decoded.
        """
        kind = kind_of(name)
        if (kind or "video") not in self.kinds:
            self.index.ignored.append((path, self._other(kind)))
        return (kind or "video") in self.kinds

    def refuse(self, path: str, reason: str) -> None:
        """Note a clip that cannot be used, unless nobody asked for one of its kind."""
        kind = kind_of(path)
        if kind is not None and kind not in self.kinds:
            self.index.ignored.append((path, self._other(kind)))
        else:
            self.index.unusable.append((path, reason))

    def ignore(self, path: str, reason: str) -> None:
        """Note what is not part of the data set."""
        self.index.ignored.append((path, reason))

    def finish(self, layout: str) -> Index:
        """The index: in order, nothing twice, every reason printable.

        Args:
            layout: How the data set is laid out, in a line that the counts are added to.
        """
        index = self.index
        index.clips.sort(key=lambda clip: clip.name)
        self._drop_repeated()
        index.unusable = [(printable(path), printable(reason)) for path, reason in index.unusable]
        index.ignored = [(printable(path), printable(reason)) for path, reason in index.ignored]
        index.layout = printable(f"{layout}: {self._counted()}")
        return index

    def _counted(self) -> str:
        files = Counter(kind_of(name) or "video" for name in {clip.file_name for clip in self.index.clips})
        words = [f"{count:,} {kind}{'s' * (count != 1)}" for kind, count in sorted(files.items(), reverse=True)]
        if not words:
            return "nothing usable"
        several = f"{len(self.index.clips):,} clips of " if len(self.index.clips) > files.total() else ""
        bad = [f"{len(self.index.unusable):,} not usable"] if self.index.unusable else []
        return several + ", ".join(words + bad)

    def _drop_repeated(self) -> None:
        """Use a clip that is listed twice with one text only once."""
        kept: list[Clip] = []
        for clip in self.index.clips:
            same = len(kept)
            while same and kept[same - 1].name == clip.name and kept[same - 1].caption != clip.caption:
                same -= 1
            if same and kept[same - 1].name == clip.name:
                self.index.ignored.append((str(clip.path), f"listed twice with the same text; used once: {clip.name}"))
            else:
                kept.append(clip)
        self.index.clips = kept

    def _other(self, kind: Kind | None) -> str:
        article = {"video": "a video", "image": "an image", None: "of no known kind"}[kind]
        return f"{article}, and only {self.kinds[0]}s are asked for"


def _seconds(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
