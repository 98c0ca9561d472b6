"""Files without captions, for which a person writes captions once the filters have chosen the clips worth it."""

from collections.abc import Sequence
from pathlib import Path

from lingen_kit.data.clip import Clip, Index, is_unicode
from lingen_kit.data.layouts import list_clips, read_index
from lingen_kit.data.layouts.listing import list_files
from lingen_kit.data.media import Kind, kind_of


def read_index_with_uncaptioned(root: str, kinds: Sequence[Kind]) -> Index:
    """List a folder's clips, those without a caption with an empty one.

    Args:
        root: The folder.
        kinds: Which files are clips.

    Raises:
        ValueError: If it is no folder, or holds no file of these kinds.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ValueError(f"--uncaptioned looks for files in a folder, and {root} is none")
    listing = list_files(str(folder))
    index = list_clips(root, kinds)
    known = {clip.file_name for clip in index.clips}
    added = [
        Clip(folder / name, name, "")
        for name, flaw in listing.files.items()
        if kind_of(name) in kinds and name not in known and flaw is None and is_unicode(name)
    ]
    if not known and not added:
        read_index(root, kinds)  # says what is there instead
    paths = {str(clip.path) for clip in added}
    index.unusable = [entry for entry in index.unusable if entry[0] not in paths]
    index.clips = sorted([*index.clips, *added], key=lambda clip: clip.name)
    index.layout += f"; {len(added)} files without captions"
    return index
