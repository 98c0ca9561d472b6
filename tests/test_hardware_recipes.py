"""The recipes of an hour of one GPU cost what their headers say, by `plan`: it is all that is known of them."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from lingen_kit.analysis.devices import DEVICES
from lingen_kit.cli import main

FOLDER = Path(__file__).parents[1] / "experiments" / "hardware"
BASES = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.endswith("_dit"))
MODELS = [name for base in BASES for name in (base, f"{base}_dit")]
COST = re.compile(r"`plan --device (\w+) --mfu ([\d.]+)` says (\d+) minutes and (\d+) GiB")


class Recipe(NamedTuple):
    """What `plan` writes of a recipe under the assumptions that its header states, and that header in one line."""

    stage: dict[str, Any]
    device: str
    minutes: int
    gibibytes: int
    header: str


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipe]:
    found = {}
    for name in MODELS:
        lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
        header = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
        stated = COST.search(header)
        assert stated, f"the header of {name} does not say what `plan` says"
        device, mfu, minutes, gibibytes = stated.groups()
        files = dict.fromkeys([name.removesuffix("_dit"), name])  # the DiT is stacked on the LinGen
        words = [word for file in files for word in ("--config", str(FOLDER / f"{file}.yaml"))]
        out = tmp_path_factory.mktemp("plans") / "plan.json"
        main(["plan", *words, "--device", device, "--mfu", mfu, "--json", str(out)])
        (stage,) = json.loads(out.read_text())["stages"]
        found[name] = Recipe(stage, device, int(minutes), int(gibibytes), header)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_costs_what_its_header_says_and_fits_into_an_hour(name: str, recipes: dict[str, Recipe]) -> None:
    stage, device, minutes, gibibytes, _ = recipes[name]
    planned = stage["seconds"] * stage["training"]["steps"] / 60
    assert round(planned) == minutes
    assert planned < 50  # the rest of the hour is for the start, validation, samples and ShapeBench
    assert round(stage["memory"]["total"] / 2**30) == gibibytes
    assert stage["memory"]["total"] < DEVICES[device].memory
    assert (stage["training"]["precision"], stage["training"]["devices"]) == ("bf16-mixed", 1)


@pytest.mark.parametrize("base", BASES)
def test_lingen_and_dit_are_equal_in_all_but_the_mixer_and_its_cost(base: str, recipes: dict[str, Recipe]) -> None:
    lingen, dit = recipes[base].stage, recipes[f"{base}_dit"].stage
    sizes = [sum(stage["parameters"].values()) for stage in (dit, lingen)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    assert f"({sizes[0]:,} against {sizes[1]:,})" in recipes[f"{base}_dit"].header
    for same in ("video", "grid", "global_batch"):
        assert lingen[same] == dit[same]
    assert lingen["training"]["steps"] == dit["training"]["steps"]


@pytest.mark.parametrize("base", BASES)
def test_the_header_says_where_the_cost_of_attention_stands(base: str, recipes: dict[str, Recipe]) -> None:
    lingen, dit = recipes[base].stage, recipes[f"{base}_dit"].stage
    ratio = dit["forward_flops"] / lingen["forward_flops"]
    assert f"at {dit['tokens']:,} tokens, where DiT has {ratio:.1f} times LinGen's FLOPs" in recipes[base].header
    denoiser = yaml.safe_load((FOLDER / f"{base}.yaml").read_text())["model"]["init_args"]["denoiser"]["init_args"]
    attention = 4 * dit["tokens"] ** 2 * denoiser["dim"] * denoiser["depth"]  # products with keys and with values
    assert f"{attention / dit['forward_flops']:.0%} of them are attention" in recipes[base].header
