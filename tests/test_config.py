"""Configs read without the trainer mean what they mean to it."""

from pathlib import Path

import pytest
import torch
import yaml

from lingen_kit.config import OF_IMAGES, SIZES, TRAINING, build_pipeline, read_config

ROOT = Path(__file__).parents[1]
BASE = ROOT / "experiments" / "quickstart.yaml"
HEADS = "{model: {init_args: {denoiser: {init_args: {heads: 8, mixer: {class_path: lingen_kit.mixers.SelfAttention, " \
    "init_args: {heads: '${model.init_args.denoiser.init_args.heads}'}}}}}}}"  # fmt: skip

STACKS = {
    "alone": ([], []),
    "another mixer": (["models/dit.yaml"], ["--model.denoiser.mixer.heads=8"]),
    "the same mixer keeps its options": (["models/lingen.yaml"], ["--model.denoiser.mixer.ma.review_pool=null"]),
    "a size": (["models/lingen_4b.yaml"], ["--model.denoiser.depth=3", "--model.denoiser.dim=640"]),
    "interpolation": (["heads.yaml"], ["--model.denoiser.heads=16"]),
    "a part that was null": ([], ["--model.text_encoder=lingen_kit.models.WordEncoder", "--model.text_encoder.dim=32"]),
}


@pytest.mark.parametrize(("files", "words"), STACKS.values(), ids=STACKS.keys())
def test_a_stack_means_what_fit_makes_of_it(
    files: list[str], words: list[str], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lingen_kit.commands import train

    (run_dir / "heads.yaml").write_text(HEADS)
    paths = [BASE, *(path if (path := run_dir / file).exists() else ROOT / "experiments" / file for file in files)]
    built = []
    monkeypatch.setattr(train.TrainCLI, "_run_subcommand", lambda cli, verb: built.append(cli.model.pipeline))
    with torch.device("meta"):
        train.main("fit", [*(f"--config={path}" for path in paths), *words])
        ours = build_pipeline(read_config(paths, words))
    (theirs,) = built
    assert str(ours) == str(theirs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert [getattr(ours, name) for name in SIZES] == [getattr(theirs, name) for name in SIZES]
    assert vars(ours.sampler) == vars(theirs.sampler) and vars(ours.objective) == vars(theirs.objective)


def test_what_only_training_needs_is_known() -> None:
    from inspect import signature

    from lingen_kit.pipeline import TextToVideoPipeline
    from lingen_kit.tasks import TextToVideo

    task, pipeline = (set(signature(kind.__init__).parameters) for kind in (TextToVideo, TextToVideoPipeline))
    assert task - pipeline == set(TRAINING)


WRONG = {
    "no YAML": ("a: [", "bad.yaml is no YAML"),
    "no mapping": ("3", "must be a mapping"),
    "model": ("model: 3", "model must hold class_path and init_args"),
    "beside init_args": ("model: {init_arg: {}}", "model.init_arg is unknown"),
    "part of the pipeline": ("model: {init_args: {denoizer: {}}}", "model.denoizer is unknown"),
    "option": ("model: {init_args: {denoiser: {init_args: {dimm: 3}}}}", "model.denoiser: unknown option 'dimm'"),
    "interpolation": ("model: {init_args: {sampler: {init_args: {steps: '${trainer.no}'}}}}", "trainer.no"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_told_with_its_key(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_config([BASE, path])
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_sizes_that_the_data_leaves_out_are_its_defaults(tmp_path: Path) -> None:
    from jsonargparse import ArgumentParser

    from lingen_kit import data

    modules = [kind for name in data.__all__ if isinstance(kind := getattr(data, name), type)]
    modules = [kind for kind in modules if issubclass(kind, data.VideoDataModule)]
    assert len(modules) > 1
    for kind in modules:
        parser = ArgumentParser()
        parser.add_class_arguments(kind, "data")
        sizes = {name: parser.get_default(f"data.{name}") for name in SIZES}
        assert sizes == SIZES | ({"frames": 1} if f"lingen_kit.data.{kind.__name__}" in OF_IMAGES else {}), kind
    sections = yaml.safe_load(BASE.read_text())
    for name, frames in (("MovingShapes", 8), ("ImageFolder", 1)):
        sections["data"] = f"lingen_kit.data.{name}"
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(sections))
        assert {name: read_config([path])[name] for name in SIZES} == SIZES | {"frames": frames}


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="nope"):
        read_config(["nope.yaml"])
