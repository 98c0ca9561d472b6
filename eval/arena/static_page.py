"""A study as one HTML file that needs no server: videos within, votes kept by the browser and given back as a file.

Which video is of which model stands in another file, the key, that raters do not get.
"""

import json
import secrets
from mimetypes import guess_type
from pathlib import Path

from eval.arena.page import arena_page
from eval.arena.study import Study
from lingen_kit.page import data_uri, write

__all__ = ["write_static_page"]

_ORDERS = 24  # of which a rater gets one, by name
_MOST = 512 * 2**20  # bytes of videos in one page, beyond which browsers give up


def write_static_page(study: Study, out: Path) -> tuple[Path, Path]:
    """Write the page and its key.

    Args:
        study: Models, prompts and videos.
        out: The page; the key is written beside it as `NAME.key.json`.

    Returns:
        Both files.

    Raises:
        ValueError: If the videos are more than a page can hold.
    """
    shown = {(model, prompt): study.videos[model, prompt] for model in study.models for prompt in study.prompts}
    size = sum(path.stat().st_size for path in shown.values())
    if size > _MOST:
        raise ValueError(
            f"the videos take {size / 2**20:.0f} MiB, more than a page can hold ({_MOST // 2**20}): give fewer "
            "prompts, or serve the study"
        )
    ids = {place: secrets.token_urlsafe(9) for place in shown}
    content = {
        "id": secrets.token_urlsafe(9),
        "prompts": list(study.prompts),
        "videos": {
            ids[model, prompt]: {
                "source": data_uri(path.read_bytes(), guess_type(path.name)[0] or "video/mp4"),
                "prompt": study.prompts.index(prompt),
            }
            for (model, prompt), path in sorted(shown.items(), key=lambda item: ids[item[0]])  # no order of models
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
