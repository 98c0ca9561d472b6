"""`data export` through the real front door: damaged files stay out, and no export replaces another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lingen_kit.data.layouts import read_index
from tests.commands.data.footage import captioned, encode

Run = Callable[..., None]


def test_damaged_files_and_other_data_stay_out(
    lingen: Run, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LINGEN_KIT_CACHE", str(run_dir / "cached_files"))
    for name in ("a", "b", "c"):
        captioned(encode(Path(f"clips/{name}.mp4"), count=6), f"clip {name}")
    Path("clips/c.mp4").write_bytes(Path("clips/c.mp4").read_bytes()[:800])
    words = ["data", "export", "clips", "--out", "shards", "--workers", 0]
    with pytest.raises(SystemExit) as stopped:
        lingen(*words)
    assert stopped.value.code == 1
    out, err = capsys.readouterr()
    assert "2 clips in 1 shard in shards, 1 written now" in out
    assert "1 clip cannot be used and left out:\n  clips/c.mp4: " in out
    assert "33.3% of the clips are unusable; --max-bad-share allows 0.0%" in err
    assert {clip.caption for clip in read_index("shards").clips} == {"clip a", "clip b"}
    lingen(*words, "--max-bad-share", 0.4)
    assert "2 clips in 1 shard in shards, 0 written now" in capsys.readouterr().out

    captioned(encode(Path("others/a.mp4"), count=6, shade=9), "clip a")
    before = {path: path.read_bytes() for path in Path("shards").iterdir()}
    with pytest.raises(SystemExit) as stopped:
        lingen("data", "export", "others", "--out", "shards", "--workers", 0)
    assert stopped.value.code == 2
    assert (
        f"shards holds the export of {run_dir / 'clips'}, and the data is {run_dir / 'others'}: 2 clips would be lost"
        in (capsys.readouterr().err)
    )
    for path in Path("clips").glob("*.mp4"):
        path.write_bytes(b"")
    with pytest.raises(SystemExit):
        lingen(*words)
    assert "none of the clips in clips can be read" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("shards").iterdir()} == before
