"""Exported models on the Hugging Face hub."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from lingen_kit import zoo
from lingen_kit.models.weights import FILE
from lingen_kit.release.folder import CARD, CONFIG, SHEET

_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def find(
    name: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """The folder of an exported model; one that is not on this machine is fetched from the hub, through its cache.

    Args:
        name: A folder, a model of the zoo, or `ORG/NAME` on the hub, which alone needs a connection.
        revision: Branch, tag or commit on the hub; the main branch if None.
        cache_dir: Where what is fetched is kept; where `HF_HOME` says if None.
        token: For private models; the one that `hf auth login` stored if None.
        local_files_only: Take it from the cache alone.
        force_download: Fetch again what is in the cache.

    Raises:
        FileNotFoundError: If there is no such folder and it is no name on the hub.
        ValueError: If it is a file, or the hub cannot give it.
    """
    if str(name).startswith(zoo.PREFIX):
        return zoo.find(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ValueError(f"model {name} is a file: export it with python -m lingen_kit export --ckpt {name} --out DIR")
    if not _NAME.fullmatch(str(name)):
        raise FileNotFoundError(f"model {name}: there is no such folder, and a model on the hub is named ORG/NAME")
    try:
        return Path(
            snapshot_download(
                str(name),
                revision=revision,
                cache_dir=cache_dir,
                token=token,
                local_files_only=local_files_only,
                force_download=force_download,
                allow_patterns=[CONFIG, FILE, CARD, SHEET],
            )
        )
    except Exception as error:  # the hub's client raises a dozen types
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise ValueError(
            f"model {name}: there is no such folder, and it cannot be had from the hub: {reason.rstrip('.')}. Check "
            "name, revision and connection; without one, copy the folder over, or set HF_HOME to a cache that holds "
            "it, with HF_HUB_OFFLINE=1"
        ) from error
