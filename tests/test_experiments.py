"""Every shipped YAML says what it is, parses through the real command line and builds."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[1]
EVERY = sorted((ROOT / "experiments").rglob("*.yaml"))
SEARCHES = [path for path in EVERY if "\nspace:" in path.read_text()]
EXPERIMENTS = [path for path in EVERY if path not in SEARCHES]
BASE = ROOT / "experiments" / "quickstart.yaml"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, run_dir: Path) -> Callable[..., torch.nn.Module]:
    """Parse a config, and build its model on the meta device, where billions of parameters take no memory."""
    from lingen_kit.commands import curriculum, train

    built = []

    def check(stages: list, build: Callable) -> None:
        built.extend(cli.model for cli in curriculum.check_stages(stages, build))

    monkeypatch.setattr(curriculum, "fit_stages", check)
    monkeypatch.setattr(train.TrainCLI, "_run_subcommand", lambda cli, verb: built.append(cli.model))

    def run(*words: object) -> torch.nn.Module:
        with torch.device("meta"):
            train.main("fit", [str(word) for word in words])
        return built.pop()

    return run


@pytest.mark.parametrize("path", EVERY, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_a_shipped_config_explains_itself(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("python -m lingen_kit", "Cost:", "Expect:"):
        assert any(word in line for line in header), f"the header lacks {word!r}"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_a_shipped_config_builds(path: Path, build: Callable) -> None:
    if path.name == "curate.yaml":  # no config of `fit`; tests/data/curation builds what it names
        return
    overlay = any(f"\n{section}:" not in "\n" + path.read_text() for section in ("data", "model"))
    named = re.search(rf"--config (experiments/{path.parent.name}/\w+\.yaml) --config \S*{path.name}", path.read_text())
    base = ROOT / named[1] if named else BASE  # what an overlay of the same folder says that it is stacked on
    model = build(*(("--config", base) if overlay or named else ()), "--config", path)
    assert sum(p.numel() for p in model.parameters()) > 100_000


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_a_shipped_search_varies_options_that_there_are(path: Path, run_dir: Path) -> None:
    from lingen_kit.commands.search import parse, read
    from lingen_kit.search.reading import make_search, read_sections

    (run_dir / "experiments").symlink_to(ROOT / "experiments")
    search = make_search(read_sections(path))
    for _, params in search.space.covering():
        parse(search.line(search.space.words(params)))
    parse(search.line(longer=True))
    assert search.baseline is not None
    base, _ = read(search.line(), "meta")
    same, _ = read(search.line(search.space.words(search.baseline)), "meta")
    assert same.state_dict().keys() == base.state_dict().keys()  # the baseline is the base itself
    assert all(same.state_dict()[name].shape == weight.shape for name, weight in base.state_dict().items())


@pytest.mark.parametrize(("name", "billions"), [("dit", 3.36), ("lingen", 4.64)])
def test_the_blocks_of_the_papers_models_add_up(name: str, billions: float, build: Callable) -> None:
    """14 d^2 + 2 d * text a layer for DiT at text width d, and MATE in place of the 4 d^2 of its attention."""
    overlay = ROOT / "experiments" / "models" / f"{name}_4b.yaml"
    text = ["--model.text_encoder", "lingen_kit.models.WordEncoder", "--model.text_encoder.dim", "2560"]
    model = build("--config", BASE, "--config", overlay, *text)
    assert sum(p.numel() for p in model.pipeline.denoiser.blocks.parameters()) / 1e9 == pytest.approx(
        billions, abs=0.03
    )


TABLE_5 = {  # frames, side, steps, global batch
    "256p_images": (1, 256, 118_000, 8192),
    "256p_17s": (272, 256, 125_000, 1024),
    "512p_17s": (272, 512, 32_000, 512),
    "512p_34s": (544, 512, 14_000, 512),
    "512p_68s": (1088, 512, 6_000, 256),
}


@pytest.mark.parametrize("name", ["dit", "lingen"])
def test_the_papers_recipe_is_table_5(name: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lingen_kit.commands import curriculum, train

    checked = {}

    def check(stages: list, build: Callable) -> None:
        checked.update(
            {stage.name: cli for stage, cli in zip(stages, curriculum.check_stages(stages, build), strict=True)}
        )

    monkeypatch.setattr(curriculum, "fit_stages", check)
    train.main("fit", ["--config", str(ROOT / "experiments" / "paper" / f"{name}_4b.yaml")])
    rows = {}
    for stage, cli in checked.items():
        data, trainer = cli.options["data"]["init_args"], cli.options["trainer"]
        assert data["height"] == data["width"] and data["fps"] == 16
        ranks = trainer["devices"] * trainer["num_nodes"] * trainer["accumulate_grad_batches"]
        rows[stage] = (data["frames"], data["height"], trainer["max_steps"], data["batch_size"] * ranks)
        assert data.get("image_ratio") == (0.01 if stage in TABLE_5 and data["frames"] > 1 else None)
    assert {stage: rows[stage] for stage in TABLE_5} == TABLE_5
    assert list(rows)[5:] == ["quality_17s", "quality_68s"]
    pipeline = checked["512p_68s"].model.pipeline
    assert pipeline.denoiser.position.grid == (136, 32, 32)
    alone = yaml.safe_load((ROOT / "experiments" / "models" / f"{name}_4b.yaml").read_text())["model"]["init_args"]
    recipe = yaml.safe_load((ROOT / "experiments" / "paper" / f"{name}_4b.yaml").read_text())["model"]["init_args"]
    assert recipe["denoiser"] == alone["denoiser"]


README_FITS = [
    line.split("#")[0].replace('"', "").strip()
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.startswith("    $fit ")
]


@pytest.mark.parametrize("line", README_FITS)
def test_what_the_readme_swaps_can_be_swapped(line: str, build: Callable, run_dir: Path) -> None:
    (run_dir / "experiments").symlink_to(ROOT / "experiments")  # runs go to the folder that one is in
    words = line.removeprefix("$fit ").replace(", ", ",").split()
    build("--config", BASE, *words)


def test_the_readme_swaps_something() -> None:
    assert len(README_FITS) >= 5
