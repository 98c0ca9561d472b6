"""Run folders are numbered, never shared, and found again."""

from pathlib import Path

import pytest

from lingen_kit import runs


def test_versions_count_up_and_are_reserved(run_dir: Path) -> None:
    assert [runs.next_version("a", reserve=True) for _ in range(3)] == [0, 1, 2]
    assert runs.next_version("a", reserve=False) == runs.next_version("a", reserve=False) == 3
    (run_dir / "runs/a/version_11").mkdir()
    (run_dir / "runs/a/version_old").mkdir()
    assert runs.versions("a") == [0, 1, 2, 11]
    assert runs.next_version("b", reserve=True) == 0


def test_a_version_taken_meanwhile_is_not_shared(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.next_version("a", reserve=True)
    seen = iter([[], [0]])  # another process takes version 0 between the look and the reservation
    monkeypatch.setattr(runs, "versions", lambda name: next(seen))
    assert runs.next_version("a", reserve=True) == 1


def test_the_newest_version_with_a_checkpoint_is_resumed(run_dir: Path) -> None:
    for version, has_checkpoint in enumerate([True, True, False]):
        (runs.folder("a", version) / "checkpoints").mkdir(parents=True)
        if has_checkpoint:
            (runs.folder("a", version) / "checkpoints" / "last.ckpt").touch()
    assert runs.latest_resumable("a") == 1
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        runs.latest_resumable("b")
