"""A study as one HTML file that needs no server: videos within, votes kept by the browser and given back as a file.

Which video is of which model stands in another file, the key, that raters do not get.
"""

import json
import secrets
import shutil
from collections.abc import Mapping
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import quote

from eval.arena.page import arena_page
from eval.arena.study import Study
from lingen_kit.page import data_uri, write

__all__ = ["write_static_page"]

_ORDERS = 24  # of which a rater gets one, by name
_MOST = 512 * 2**20  # bytes of videos in one page, beyond which browsers give up


def write_static_page(study: Study, out: Path, *, link: bool = False) -> tuple[Path, Path]:
    """Write the page and its key.

    Args:
        study: Models, prompts and videos.
        out: The page; the key is written beside it as `NAME.key.json`.
        link: Put the videos into a folder `NAME_videos` beside the page, under names that say nothing, instead of
            into the page: for studies that are too large for one file. Both travel together.

    Returns:
        Both files.

    Raises:
        ValueError: If the videos are more than a page can hold, or the folder for them is there already.
    """
    size = sum(path.stat().st_size for path in study.videos.values())
    if size > _MOST and not link:
        raise ValueError(
            f"the videos take {size / 2**20:.0f} MiB, more than a page can hold ({_MOST // 2**20}): --link puts them "
            "beside the page"
        )
    ids = {place: secrets.token_urlsafe(9) for place in study.videos}
    places = sorted(study.videos, key=ids.__getitem__)  # in no order of models
    if link:
        sources = _linked({ids[place]: study.videos[place] for place in places}, out.with_name(f"{out.stem}_videos"))
    else:
        sources = {
            ids[place]: data_uri(study.videos[place].read_bytes(), _mime(study.videos[place])) for place in places
        }
    content = {
        "id": secrets.token_urlsafe(9),
        "prompts": list(study.prompts),
        "videos": {
            ids[place]: {"source": sources[ids[place]], "prompt": study.prompts.index(place[1])} for place in places
        },
        "orders": [
            [[ids[task.left, task.prompt], ids[task.right, task.prompt]] for task in study.tasks(f"order {number}")]
            for number in range(_ORDERS)
        ],
    }
    key = out.with_suffix(".key.json")
    write(out, arena_page(content))
    write(key, json.dumps({id_: list(place) for place, id_ in ids.items()}, indent=1) + "\n")
    return out, key


def _linked(videos: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Put videos into a folder under their ids; addresses relative to the folder's own."""
    if folder.exists():
        raise ValueError(
            f"{folder} is there already, and its videos belong to another page: remove it, or rename --out"
        )
    folder.mkdir(parents=True)
    sources = {}
    for id_, path in videos.items():
        place = folder / f"{id_}{path.suffix}"
        shutil.copyfile(path, place)  # copied, not linked: a link's target names the model
        sources[id_] = f"{quote(folder.name)}/{place.name}"
    return sources


def _mime(path: Path) -> str:
    return guess_type(path.name)[0] or "video/mp4"
