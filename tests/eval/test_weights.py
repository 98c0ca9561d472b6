from pathlib import Path

import pytest

from eval import weights
from eval.weights import WeightFile, described, listing, weights_file


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with empty caches and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    known = {
        "good": WeightFile(("good.pth",), ("x",), "MIT", 1, url="https://example.org/good.pth", sha256="9f64a747"),
        "common": WeightFile(("model.safetensors",), ("y",), "MIT", 1, hub="someone/common"),
    }
    monkeypatch.setattr(weights, "WEIGHTS", known)


CONTENT = b"\0" * 2048


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sha() -> str:
    import hashlib

    return hashlib.sha256(CONTENT).hexdigest()


def test_a_folder_wins_over_the_environment_and_the_hash_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights.WEIGHTS["good"]
    monkeypatch.setitem(
        weights.WEIGHTS, "good", WeightFile(file.names, file.dimensions, "MIT", 1, url=file.url, sha256=sha()[:8])
    )
    cached = put(tmp_path / "cache" / "sub" / "good.pth")
    assert weights_file("good") == cached
    own = put(tmp_path / "own" / "good.pth")
    assert weights_file("good", tmp_path / "own") == own
    assert described("good", tmp_path / "own") == {"weights": "good.pth", "sha256": sha()}
    put(own, b"\1" * 2048)
    with pytest.raises(ValueError, match=r"good\.pth is damaged: its SHA-256 begins with"):
        weights_file("good", tmp_path / "own")
    put(own, b"oops")
    with pytest.raises(ValueError, match="holds 4 bytes: that is no file of weights"):
        weights_file("good", tmp_path / "own")


def test_a_name_that_many_have_counts_only_in_a_folder_of_its_own(tmp_path: Path) -> None:
    put(tmp_path / "own" / "model.safetensors")
    with pytest.raises(ValueError, match=r"common/model\.safetensors and name it: --weights"):
        weights_file("common", tmp_path / "own")
    path = put(tmp_path / "own" / "common" / "model.safetensors")
    assert weights_file("common", tmp_path / "own") == path


def test_what_is_missing_is_said_with_size_licence_and_address(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        weights_file("good")
    for part in ("good.pth (1 MB, licence: MIT)", "no network", "https://example.org/good.pth", "--weights"):
        assert part in str(caught.value)


def test_the_list_says_present_missing_and_damaged(tmp_path: Path) -> None:
    put(tmp_path / "own" / "good.pth", b"\1" * 2048)
    put(tmp_path / "own" / "common" / "model.safetensors")
    rows = {row["key"]: row for row in listing(tmp_path / "own")}
    assert (rows["good"]["state"], rows["common"]["state"]) == ("damaged", "present")
    assert {row["state"] for row in listing()} == {"missing"}
    assert listing()[1]["where"] == "https://huggingface.co/someone/common"
