"""Files of weights that metrics need: where they lie, whether they are whole, where to get them, under which licence.

A file is looked for in the folder that the caller names, in `$VBENCH_CACHE_DIR`, and in the caches of torch and of the
Hugging Face hub, from where it is fetched if there is a network. Where its hash is published it is checked before use,
once a process; else the hash of what was used stands in the results.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["WEIGHTS", "WeightFile", "described", "listing", "weights_file"]


@dataclass(frozen=True)
class WeightFile:
    """A file of weights.

    Attributes:
        names: Names that the file may have, the first being the published one.
        dimensions: Figures that need it.
        licence: Of the weights.
        megabytes: About how large it is.
        hub: Repository on the Hugging Face hub that holds it under its first name; empty if none does.
        url: Where it can be fetched by hand, or by torch where the name ends in a part of its hash.
        sha256: How its hash begins; empty if that is not published.
    """

    names: tuple[str, ...]
    dimensions: tuple[str, ...]
    licence: str
    megabytes: int
    hub: str = ""
    url: str = ""
    sha256: str = ""


WEIGHTS = {
    "dino_b16": WeightFile(
        ("model.safetensors", "dino_b16.safetensors"),
        ("subject_consistency",),
        "Apache-2.0",
        343,
        hub="timm/vit_base_patch16_224.dino",
    ),
    "clip_b32": WeightFile(
        ("open_clip_model.safetensors", "clip_b32.safetensors"),
        ("background_consistency", "appearance_style"),
        "MIT",
        605,
        hub="timm/vit_base_patch32_clip_224.openai",
    ),
    "clip_l14": WeightFile(
        ("open_clip_model.safetensors", "clip_l14.safetensors"),
        ("aesthetic_quality",),
        "MIT",
        1710,
        hub="timm/vit_large_patch14_clip_224.openai",
    ),
    "aesthetic_head": WeightFile(
        ("sa_0_4_vit_l_14_linear.pth", "aesthetic_head.pth"),
        ("aesthetic_quality",),
        "MIT",
        1,
        url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
    ),
    "raft_large": WeightFile(
        ("raft_large_C_T_V1-22a6c225.pth",),
        ("dynamic_degree", "temporal_flickering"),
        "BSD-3-Clause",
        21,
        url="https://download.pytorch.org/models/raft_large_C_T_V1-22a6c225.pth",
        sha256="22a6c225",
    ),
    "amt_s": WeightFile(
        ("amt-s.pth",), ("motion_smoothness",), "CC BY-NC 4.0: not for commercial use", 12, hub="lalala125/AMT"
    ),
    "viclip_l14": WeightFile(
        ("ViClip-InternVid-10M-FLT.pth", "ViCLIP-L_InternVid-FLT-10M.pth"),
        ("overall_consistency", "temporal_style"),
        "Apache-2.0",
        1700,
        hub="OpenGVLab/VBench_Used_Models",
    ),
    "umt_l16_k400": WeightFile(
        ("l16_ptk710_ftk710_ftk400_f16_res224.pth",),
        ("human_action",),
        "MIT",
        608,
        hub="OpenGVLab/VBench_Used_Models",
    ),
    "dinov2_b14": WeightFile(
        ("model.safetensors", "dinov2_b14.safetensors"),
        ("subject_consistency of long videos",),
        "Apache-2.0",
        346,
        hub="timm/vit_base_patch14_dinov2.lvd142m",
    ),
    "musiq_spaq": WeightFile(
        ("musiq_spaq_ckpt-358bb6af.pth",),
        ("imaging_quality",),
        "not for commercial use (NTU S-Lab licence of pyiqa)",
        109,
        url="https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
        sha256="358bb6af",
    ),
    "i3d_torchscript": WeightFile(("i3d_torchscript.pt",), ("fvd",), "Apache-2.0", 50),
}
"""The files by key."""


def weights_file(key: str, folder: Path | None = None) -> Path:
    """Find a file of weights, whole.

    Args:
        key: Of `WEIGHTS`.
        folder: Where to look first.

    Raises:
        ValueError: If it is damaged, or is not here and cannot be fetched; the message says where to get it.
    """
    found = next(_places(key, folder), None) or _fetched(key)
    _check(key, found)
    return found


def described(key: str, folder: Path | None = None) -> dict[str, Any]:
    """What results say of a file: its name and its hash; a figure is worth what made it.

    Raises:
        ValueError: See `weights_file`.
    """
    path = weights_file(key, folder)
    return {"weights": path.name, "sha256": _hash(path)}


def listing(folder: Path | None = None) -> list[dict[str, str]]:
    """A row for each file: `key`, `state` (present, missing, damaged), `where`, `licence`, `size`, `needed for`."""
    rows = []
    for key, file in WEIGHTS.items():
        found = next(_places(key, folder), None)
        state, where = "missing", _source(file)
        if found is not None:
            state, where = "present", str(found)
            try:
                _check(key, found)
            except ValueError:
                state = "damaged"
        rows.append(
            {
                "key": key,
                "state": state,
                "size": f"{file.megabytes} MB",
                "needed for": ", ".join(file.dimensions),
                "licence": file.licence,
                "where": where,
            }
        )
    return rows


def _places(key: str, folder: Path | None) -> Iterator[Path]:
    """Where the file is, the first place first. A name that others may have counts in a folder called after the key."""
    file = WEIGHTS[key]
    roots = [Path(root) for root in (folder, os.environ.get("VBENCH_CACHE_DIR")) if root]
    for root in roots:
        for name in file.names:
            own = [] if name in _COMMON else [root / name, *sorted(root.glob(f"*/{name}"))]
            yield from (path for path in [root / key / name, *own] if path.is_file())
    if file.url:
        from torch.hub import get_dir

        path = Path(get_dir()) / "checkpoints" / file.names[0]
        if path.is_file():
            yield path
    if file.hub:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(file.hub, file.names[0])
        if isinstance(cached, str):
            yield Path(cached)


def _fetched(key: str) -> Path:
    file = WEIGHTS[key]
    try:
        if file.hub:
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(file.hub, file.names[0]))
        if file.url:
            from torch.hub import download_url_to_file, get_dir

            target = Path(get_dir()) / "checkpoints" / file.names[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            download_url_to_file(file.url, str(target), hash_prefix=file.sha256 or None, progress=False)
            return target
        raise ValueError("it has no address")
    except Exception as error:  # whatever a network or its absence throws: there is no file
        raise ValueError(
            f"the weights {file.names[0]} ({file.megabytes} MB, licence: {file.licence}) are neither in --weights "
            f"nor in $VBENCH_CACHE_DIR nor in a cache, and cannot be fetched: {str(error).splitlines()[0]}. "
            f"Get them from {_source(file)}, put them into a folder as {key}/{file.names[0]} and name it: --weights DIR"
        ) from error


def _check(key: str, path: Path) -> None:
    """Refuse a file that is no file of weights, or whose hash is another than the published one."""
    file = WEIGHTS[key]
    if path.stat().st_size < 1024:
        raise ValueError(f"{path} holds {path.stat().st_size} bytes: that is no file of weights; fetch it again")
    if file.sha256 and not _hash(path).startswith(file.sha256):
        raise ValueError(
            f"{path} is damaged: its SHA-256 begins with {_hash(path)[:8]} and not with {file.sha256}; delete it and "
            f"fetch it again from {_source(file)}"
        )


def _hash(path: Path) -> str:
    status = path.stat()
    return _hash_of(path, status.st_size, status.st_mtime_ns)


@cache
def _hash_of(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source(file: WeightFile) -> str:
    return file.url or (f"https://huggingface.co/{file.hub}" if file.hub else "its authors")


_COMMON = {"model.safetensors", "open_clip_model.safetensors"}
