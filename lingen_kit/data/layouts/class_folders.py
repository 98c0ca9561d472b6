"""Hugging Face's `ImageFolder` without captions: images in folders that are named like what they show."""

from lingen_kit.data.clip import split_name
from lingen_kit.data.layouts.collect import NO_CAPTION, Collector
from lingen_kit.data.layouts.listing import Listing
from lingen_kit.data.media import kind_of


class ClassFolders:
    """Images in two folders or more, all at one depth: `cat/1.jpg`, or `train/cat/1.jpg`."""

    why = "nothing else says what the images show"

    def evidence(self, listing: Listing, clips: Collector) -> str | None:
        """How many classes there are, in words."""
        classes = self._classes(listing) if "image" in clips.kinds else None
        return f"{len(classes)} folders of images" if classes else None

    def read(self, listing: Listing, clips: Collector) -> str:
        """Add the images; the caption is the name of the folder, with spaces for `_`."""
        classes = self._classes(listing)
        for name, flaw in listing.files.items():
            if kind_of(name) == "video":
                clips.refuse(listing.path(name), f"{NO_CAPTION}: folders named like classes caption images only")
            elif kind_of(name) == "image" and flaw:
                clips.refuse(listing.path(name), flaw)
            elif kind_of(name) == "image":
                clips.add(name, listing.path(name), _class_of(name).replace("_", " "))
        return f"images in {len(classes)} folders, whose names are the captions, as in a Hugging Face ImageFolder"

    def _classes(self, listing: Listing) -> set[str]:
        """The names of the folders, if all images lie in some at one depth."""
        images = [name for name in listing.files if kind_of(name) == "image"]
        depths = {name.count("/") for name in images}
        in_splits = depths == {2} and all(split_name(name.partition("/")[0]) for name in images)
        classes = {_class_of(name) for name in images} if depths == {1} or in_splits else set()
        return classes if len(classes) > 1 else set()


def _class_of(name: str) -> str:
    return name.split("/")[-2]
