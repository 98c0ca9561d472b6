"""What every test gets: one thread a worker, fixed seeds, no downloads; GPU tests skip without a GPU."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]

# Set before anything imports torch, and inherited by the processes that tests start. Under xdist a worker has
# one thread: with more, the workers would fight over the same cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"

# Same examples on every run, and no deadline: a busy machine is no bug.
hypothesis.settings.register_profile("kit", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("kit")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Seed what the process has loaded so far; a test that never needs torch does not pay for its import."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" not in sys.modules:
        yield
        return
    torch = sys.modules["torch"]
    torch.manual_seed(0)
    settings = (
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
    )
    yield
    torch.set_default_dtype(settings[0])
    torch.use_deterministic_algorithms(settings[1])
    torch.set_grad_enabled(settings[2])


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory: `runs/` and what else the test writes lands here, not in the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies under tests/gpu, and skip what is so marked where PyTorch sees no CUDA device."""
    for item in items:
        if (ROOT / "tests" / "gpu") in item.path.parents:
            item.add_marker(pytest.mark.gpu)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
