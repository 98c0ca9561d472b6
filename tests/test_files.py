"""A file is there as it was or as it is to be, and nothing beside it."""

import os
from pathlib import Path

import pytest

from lingen_kit.files import replacing


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_whole_or_as_before(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "folder" / "file.txt"
    with replacing(path, sync=sync) as beside:
        beside.write_text("first")
        assert beside.parent == path.parent and not path.exists()
    with pytest.raises(RuntimeError), replacing(path, sync=sync) as beside:
        beside.write_text("sec")
        raise RuntimeError
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["file.txt"]
