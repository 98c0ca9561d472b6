"""Folders of files that are named like clips; nothing in them is decoded, so nothing in them need be a video."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Make files in a folder and give the folder; with captions in sidecar files, unless `captions` is false."""

    def make(*names: str, captions: bool = True) -> Path:
        root = tmp_path / "clips"
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"not looked at")
            if captions:
                path.with_suffix(".txt").write_text(f"caption of {name}\n")
        return root

    return make


def write_lines(path: Path, *entries: dict[str, object] | str) -> Path:
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path.write_text("\n".join(lines) + "\n")
    return path
