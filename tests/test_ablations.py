"""Each row of the ablations changes what its name says and nothing else; the DiTs match what they say they match."""

from pathlib import Path

import pytest
import yaml

from lingen_kit.analysis.bench import on_meta
from lingen_kit.config import read_config

FOLDER = Path(__file__).parents[1] / "experiments" / "ablations"
BASE = FOLDER / "base.yaml"
MIXER = "denoiser.init_args.mixer"
CHANGES = {
    "without_tesa": {f"{MIXER}.init_args.branches"},
    "without_ma": {f"{MIXER}.init_args.branches"},
    "without_rms": {f"{MIXER}.init_args.ma.init_args.scan"},
    "without_both": {f"{MIXER}.init_args.branches", f"{MIXER}.init_args.ma.init_args.scan"},
    "zigzag": {f"{MIXER}.init_args.ma.init_args.scan"},
    "hilbert": {f"{MIXER}.init_args.ma.init_args.scan"},
    "mamba": {f"{MIXER}.init_args.ma"},
    "without_review": {f"{MIXER}.init_args.ma.init_args.review_pool"},
    "dit_equal_parameters": {MIXER, "denoiser.init_args.mlp_ratio"},
    "dit_equal_flops": {MIXER, "denoiser.init_args.mlp_ratio"},
    "hydra": {MIXER},
    "gated_delta_net": {MIXER},
    "linear_attention": {MIXER},
    "hybrid_linear": {MIXER},
    "hybrid_lingen": {MIXER},
    "single_frames": {"denoiser.init_args.patch", "frames"},
    "hybrid_images": {"denoiser.init_args.patch", "frames"},
    "mixed_world": set(),
}


def leaves(options: object, key: str = "") -> dict[str, object]:
    """The options of a model by their path."""
    if not isinstance(options, dict):
        return {key: options}
    found: dict[str, object] = {}
    for name, value in options.items():
        found |= leaves(value, f"{key}.{name}".lstrip("."))
    return found


@pytest.mark.parametrize("row", CHANGES)
def test_a_row_changes_what_it_is_about(row: str) -> None:
    base, other = (leaves(read_config(paths)) for paths in ([BASE], [BASE, FOLDER / f"{row}.yaml"]))
    changed = {key for key in base.keys() | other.keys() if base.get(key, "") != other.get(key, "")}
    for key in changed:
        assert any(f"{key}.".startswith(f"{allowed}.") for allowed in CHANGES[row]), f"{row} also changes {key}"
    for allowed in CHANGES[row]:
        assert any(f"{key}.".startswith(f"{allowed}.") for key in changed), f"{row} does not change {allowed}"


def counted(*rows: str) -> tuple[int, int]:
    """Parameters of the denoiser, and FLOPs of a pass over one video."""
    pipeline = on_meta(read_config([BASE, *(FOLDER / f"{row}.yaml" for row in rows)]))
    denoiser = pipeline.denoiser
    return sum(p.numel() for p in denoiser.parameters()), denoiser.flops(denoiser.size, 32)


def test_the_dits_are_equal_in_what_their_names_say() -> None:
    base, parameters, flops = counted(), counted("dit_equal_parameters"), counted("dit_equal_flops")
    assert parameters[0] == pytest.approx(base[0], rel=0.01)
    assert flops[1] == pytest.approx(base[1], rel=0.01)


def test_the_grid_has_every_row() -> None:
    rows = yaml.safe_load((FOLDER / "grid.yaml").read_text())["space"]["row"]["choices"]
    assert set(rows) == {path.stem for path in FOLDER.glob("*.yaml")} - {"base", "grid"} | {"lingen"}
