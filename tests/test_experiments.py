"""Every shipped YAML says what it is, parses through the real command line and builds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
BASE = ROOT / "experiments" / "quickstart.yaml"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, run_dir: Path) -> Callable[..., torch.nn.Module]:
    """Parse a config, and build its model on the meta device, where billions of parameters take no memory."""
    from lingen_kit.commands import train

    built = []
    monkeypatch.setattr(train.TrainCLI, "_run_subcommand", lambda cli, verb: built.append(cli.model))

    def run(*words: object) -> torch.nn.Module:
        with torch.device("meta"):
            train.main("fit", [str(word) for word in words])
        return built.pop()

    return run


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_a_shipped_config_explains_itself_and_builds(path: Path, build: Callable) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("python -m lingen_kit", "Cost:", "Expect:"):
        assert any(word in line for line in header), f"the header lacks {word!r}"
    if path.name == "curate.yaml":  # no config of `fit`; tests/data/curation builds what it names
        return
    overlay = any(f"\n{section}:" not in "\n" + path.read_text() for section in ("data", "model"))
    model = build(*(("--config", BASE) if overlay else ()), "--config", path)
    assert sum(p.numel() for p in model.parameters()) > 100_000


@pytest.mark.parametrize(("name", "billions"), [("dit", 3.36), ("lingen", 4.64)])
def test_the_blocks_of_the_papers_models_add_up(name: str, billions: float, build: Callable) -> None:
    """14 d^2 + 2 d * text a layer for DiT at text width d, and MATE in place of the 4 d^2 of its attention."""
    overlay = ROOT / "experiments" / "paper" / f"{name}_4b.yaml"
    text = ["--model.text_encoder", "lingen_kit.models.WordEncoder", "--model.text_encoder.dim", "2560"]
    model = build("--config", BASE, "--config", overlay, *text)
    assert sum(p.numel() for p in model.pipeline.denoiser.blocks.parameters()) / 1e9 == pytest.approx(
        billions, abs=0.03
    )


README_FITS = [
    line.split("#")[0].replace('"', "").strip()
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.startswith("    $fit ")
]


@pytest.mark.parametrize("line", README_FITS)
def test_what_the_readme_swaps_can_be_swapped(line: str, build: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = line.removeprefix("$fit ").replace(", ", ",").split()
    build("--config", BASE, *words)


def test_the_readme_swaps_something() -> None:
    assert len(README_FITS) >= 5
