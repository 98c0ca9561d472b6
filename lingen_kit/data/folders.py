"""The data modules of videos alone, of images alone, and of shards."""

from typing import Any, Literal

from lingen_kit.data.auto_data import AutoData
from lingen_kit.data.clip import Index
from lingen_kit.data.media import FilePart, Kind


class VideoFolder(AutoData):
    """Video files with captions, from a folder, a manifest or shards; see `AutoData` for the layouts.

    Args:
        root: A folder (its subfolders belong to it, linked ones too), a manifest, or shards.
        options: Those of `AutoData`.
    """

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)


class ImageFolder(AutoData):
    """Images with captions, clips of one frame, from a folder, a manifest or shards; see `AutoData` for the layouts.

    Folders that are named after what their images show serve as captions where there are no others.

    Args:
        root: A folder (its subfolders belong to it, linked ones too), a manifest, or shards.
        frames: Always 1.
        options: Those of `AutoData`.
    """

    def __init__(self, root: str, frames: Literal[1] = 1, **options: Any) -> None:
        super().__init__(root, frames=frames, **options)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Images."""
        return ("image",)


class WebDataset(AutoData):
    """Tar archives of clips and captions (WebDataset's shards), local or behind a URL, read without unpacking.

    Args:
        root: A folder of shards, one shard, a pattern such as `https://host/{000..012}.tar`.
        options: Those of `AutoData`.
    """

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)

    def read_indices(self) -> list[Index]:
        """The members of the shards."""
        (index,) = super().read_indices()
        outside = next((clip for clip in index.clips if not isinstance(clip.path, FilePart)), None)
        if outside is not None:
            raise ValueError(f"{self.root} holds no shards (.tar) but {index.layout}; use lingen_kit.data.AutoData")
        return [index]
