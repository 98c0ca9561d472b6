"""Folders named after the parts of a data set: `train`, `validation` (`valid`, `val`, `dev`), `test`."""

from lingen_kit.data.clip import Index, split_name


def note_split_folders(index: Index) -> str:
    """Give each clip the attribute `split` if the data set's topmost folders are its parts.

    A folder of that name among others is a folder like any other.

    Returns:
        What to add to the layout's line, or nothing.
    """
    parts: dict[str, str] = {}  # by folder
    for clip in index.clips:
        folder, slash, _ = clip.name.partition("/")
        part = split_name(folder) if slash else None
        if part is None:
            return ""
        parts[folder] = part
    if len(set(parts.values())) < 2 or "train" not in parts.values():
        return ""
    for clip in index.clips:
        clip.attributes["split"] = parts[clip.name.partition("/")[0]]
    return f", parts by folder: {', '.join(sorted(parts))}"
