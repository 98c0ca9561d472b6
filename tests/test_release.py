"""An exported model's folder: written, read back, sampled from, sent to the hub; no trainer."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

import lingen_kit
from lingen_kit.config import build_pipeline
from lingen_kit.models import TAE
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.release.folder import Release, about, cast, check_target, write_release
from lingen_kit.release.loading import PIPELINE, load_model
from lingen_kit.release.options import folders_named, without_folders
from lingen_kit.release.pipeline import Pipeline

MIXER = {"class_path": "lingen_kit.mixers.Mamba2", "init_args": {"head_dim": 8, "state_size": 8}}
DENOISER = {"dim": 16, "depth": 2, "heads": 2, "patch": [1, 4, 4], "mixer": MIXER}
TAE_OPTIONS = {"channels": 4, "dims": [8, 8], "blocks": 1, "spatial_factor": 2, "temporal_factor": 1}
OPTIONS = {
    "denoiser": {"class_path": "lingen_kit.models.Denoiser", "init_args": DENOISER},
    "text_encoder": {"class_path": "lingen_kit.models.WordEncoder", "init_args": {"dim": 16}},
    "autoencoder": {"class_path": "lingen_kit.models.TAE", "init_args": TAE_OPTIONS},
    "sampler": {"class_path": "lingen_kit.diffusion.Sampler", "init_args": {"steps": 2, "guidance": 2.0}},
    **{"frames": 2, "height": 16, "width": 16, "fps": 8.0},
}
PROMPT = "a red circle moves left"


@pytest.fixture(scope="module")
def model() -> TextToVideoPipeline:
    torch.manual_seed(1)
    model = build_pipeline(OPTIONS).eval()
    for parameter in model.parameters():  # the head starts at zero: every sample would be its noise
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def _write(folder: Path, model: TextToVideoPipeline, dtype: str = "fp32") -> Path:
    config = about(PIPELINE, OPTIONS, weights="raw", dtype=dtype, step=3)
    write_release(folder, Release(config, "---\nlicense: mit\n---\n\n# tiny\n", b"png"), model.state_dict())
    return folder


@pytest.fixture(scope="module")
def exported(model: TextToVideoPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("exports") / "tiny", model)


def _change(folder: Path, **options: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | options))


def test_the_package_gives_the_pipeline_and_no_name_that_it_lacks() -> None:
    assert lingen_kit.Pipeline is Pipeline
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        lingen_kit.Pipelin  # noqa: B018


def test_a_prompt_becomes_the_videos_of_the_model(model: TextToVideoPipeline, exported: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(exported, device="cpu")
    made = pipe(["a", PROMPT], num=2, seed=5, negative_prompt=["", "blue"], steps=1, guidance=3.0, batch_size=4)
    assert made.prompts == ["a", "a", PROMPT, PROMPT] and made.seeds == [5, 6, 5, 6]
    expected = model(made.prompts, negative_prompts=["", "", "blue", "blue"], steps=1, guidance=3.0, seed=made.seeds)
    assert torch.equal(made.samples, expected)
    assert made.videos.shape == (4, 2, 16, 16, 3) and made.videos.dtype == np.uint8
    assert [path.name for path in made.save(tmp_path / "v.gif")] == [f"v_000{i}.gif" for i in range(4)]
    assert pipe(PROMPT).save(tmp_path / "new" / "v.mp4") == [tmp_path / "new" / "v.mp4"]
    assert (tmp_path / "new" / "v.mp4").stat().st_size and (tmp_path / "v_0003.gif").stat().st_size


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda pipe: pipe([]), "no prompts"),
        (lambda pipe: pipe("a", num=0), "num 0"),
        (lambda pipe: pipe(["a", "b"], negative_prompt=["c"]), "1 negative prompts for 2"),
        (lambda pipe: pipe("a", steps=1).save("video.avi"), "mp4 or .gif"),
        (lambda pipe: pipe.from_pretrained("x", dtype="int8"), "fp32, bf16, fp16"),
    ],
    ids=["prompts", "num", "negative prompts", "format", "dtype"],
)
def test_wrong_calls_are_explained(exported: Path, call: Callable, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        call(Pipeline.from_pretrained(exported, device="cpu"))


# The test's CPU has no fused norm of bf16 with weights in fp32; that is slower and right.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_a_lower_dtype_halves_the_file_and_changes_little(
    model: TextToVideoPipeline, exported: Path, tmp_path: Path
) -> None:
    half = _write(tmp_path / "half", model, "bf16")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (half, exported)]
    assert 0.4 < sizes[0] / sizes[1] < 0.7
    weights = load_model(half).state_dict()
    for name, value in cast(model.state_dict(), torch.bfloat16).items():
        assert weights[name].dtype == model.state_dict()[name].dtype
        assert torch.equal(weights[name], value.to(weights[name].dtype))

    low = Pipeline.from_pretrained(exported, device="cpu", dtype="bf16")
    head = low.model.denoiser.head
    assert (head.weight.dtype, head.bias.dtype) == (torch.bfloat16, torch.float32)
    exact, rounded = (pipe(PROMPT).samples for pipe in (Pipeline.from_pretrained(exported, device="cpu"), low))
    assert rounded.dtype == torch.float32 and 0 < (exact - rounded).abs().max() < 0.1


def test_saving_gives_the_same_bytes_and_spares_what_is_there(exported: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(exported, device="cpu")
    folder = tmp_path / "again"
    pipe.save_pretrained(folder)
    names = {path.name for path in exported.iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "samples.png"}
    assert all((folder / name).read_bytes() == (exported / name).read_bytes() for name in names)
    with pytest.raises(ValueError, match=r"holds an exported model.*--overwrite"):
        pipe.save_pretrained(folder)
    (folder / ".gitattributes").write_text("mine")
    (folder / "README.md").unlink()
    pipe.save_pretrained(folder, overwrite=True)
    assert {path.name for path in folder.iterdir()} == names | {".gitattributes"}


def test_a_failed_export_leaves_the_old_one_whole(
    model: TextToVideoPipeline, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _write(tmp_path / "old", model)

    def full(*arguments: object, **options: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("lingen_kit.release.folder.save_file", full)
    with pytest.raises(OSError, match="no space"):
        _write(folder, model, "bf16")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in exported.iterdir()
    }


def test_folders_of_others_are_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is no export and not empty.*--overwrite"):
        check_target(tmp_path)
    check_target(tmp_path, overwrite=True)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ValueError, match="no export of lingen_kit"):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        check_target(tmp_path / "notes.txt", overwrite=True)


def test_tied_weights_are_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    weight = torch.arange(6.0).reshape(2, 3)
    tied: dict[str, Tensor] = {"a": weight, "b": weight, "c": weight.T}
    config = about(PIPELINE, {}, weights="raw", dtype="fp32", step=0)
    write_release(tmp_path / "tied", Release(config, "", None), tied)
    stored = load_file(tmp_path / "tied" / "model.safetensors")
    assert all(torch.equal(stored[name], value) for name, value in tied.items())


def test_the_hub_is_sent_all_files(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, object] = {}

    class Api:
        def __init__(self, token: str | None = None) -> None:
            sent["token"] = token

        def create_repo(self, repo_id: str, **options: object) -> SimpleNamespace:
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id: str, folder_path: Path, **options: object) -> str:
            sent["files"] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            return f"commit of {repo_id}"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    pipe = Pipeline.from_pretrained(exported, device="cpu")
    assert pipe.push_to_hub("org/tiny", token="secret") == "commit of org/tiny"
    assert sent == {"token": "secret", "files": {path.name: path.read_bytes() for path in exported.iterdir()}}


def test_the_hub_is_asked_for_what_is_no_folder(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"org/tiny: there is no such folder, and .* hub: .*HF_HOME"):
        Pipeline.from_pretrained("org/tiny", cache_dir=tmp_path)  # the real client, offline
    for name in ("tiny", "./org/tiny", str(tmp_path / "nowhere")):
        with pytest.raises(FileNotFoundError, match="no such folder"):
            Pipeline.from_pretrained(name)
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(ValueError, match="is a file: export it"):
        Pipeline.from_pretrained(tmp_path / "last.ckpt")

    asked: dict[str, object] = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(exported)

    monkeypatch.setattr("lingen_kit.release.hub.snapshot_download", download)
    Pipeline.from_pretrained("org/tiny", revision="v1", device="cpu")
    assert (asked["name"], asked["revision"]) == ("org/tiny", "v1")


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _with_mixer(path: str) -> Callable[[Path], None]:
    denoiser = {"class_path": "lingen_kit.models.Denoiser", "init_args": DENOISER | {"mixer": {"class_path": path}}}
    return lambda folder: _change(folder, init_args=OPTIONS | {"denoiser": denoiser})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'), "of another library"),
        (lambda folder: _change(folder, format_version=9), "format 9, written by lingen_kit .* install a newer one"),
        (lambda folder: _change(folder, dtype="int4"), "lacks sound values"),
        (lambda folder: _change(folder, init_args=OPTIONS | {"hieght": 3}), "cannot be built .*hieght"),
        (lambda folder: _change(folder, init_args=OPTIONS | {"height": 32}), "do not fit .*position.tables"),
        (lambda folder: _change(folder, class_path="lingen_kit.models.TAE"), "is a TAE and no text-to-video"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (_truncate, "may be truncated"),
        (
            _with_mixer("mixers_of_mine.Waves"),
            "needs mixers_of_mine.Waves, and there is no module mixers_of_mine here.*PYTHONPATH",
        ),
        (_with_mixer("lingen_kit.mixers.Waves"), "lingen_kit.mixers has no Waves"),
    ],
    ids=[
        "no config",
        "damaged config",
        "other library",
        "newer format",
        "unknown dtype",
        "unknown option",
        "other sizes",
        "autoencoder",
        "no weights",
        "truncated weights",
        "own module",
        "own class",
    ],
)
def test_what_cannot_be_loaded_is_explained(
    model: TextToVideoPipeline, tmp_path: Path, damage: Callable[[Path], None], expected: str
) -> None:
    folder = _write(tmp_path / "tiny", model)
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s)tiny.*{expected}"):
        load_model(folder)


def test_an_autoencoder_takes_its_weights_from_the_folder(model: TextToVideoPipeline, exported: Path) -> None:
    options = TAE_OPTIONS | {"dims": (8, 8)}
    for name, value in TAE(**options, weights=str(exported)).state_dict().items():  # type: ignore[arg-type]
        assert torch.equal(value, model.autoencoder.state_dict()[name])


def test_places_are_not_told(tmp_path: Path) -> None:
    options = {"data": [f"{tmp_path}/clips/", "https://host/bucket/a.tar", "clips", 3], "model": "org/name"}
    assert without_folders(options) == {"data": ["clips", "a.tar", "clips", 3], "model": "name"}
    assert without_folders(options["model"], hub=True) == "org/name"
    named = {"text_encoder": {"class_path": "x.Y", "init_args": {"model": str(tmp_path), "hub": "org/name"}}}
    assert list(folders_named(named)) == [("text_encoder.model", str(tmp_path))]
