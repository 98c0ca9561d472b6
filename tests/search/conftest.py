from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lingen_kit.search.engine import Engine, Verbs
from lingen_kit.search.study import Study
from tests.search import fakes

VERBS = Verbs(fakes.fit, fakes.read, fakes.parse)


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """Makes a study of trainings that end at once."""
    (tmp_path / "base.yaml").write_text("model: {}\n")

    def make(space: dict[str, Any], **keys: Any) -> Study:
        sections = {
            "base": [str(tmp_path / "base.yaml")],
            "space": space,
            "objectives": {"validation/loss": "minimize"},
        }
        return Study.create(tmp_path / "studies" / keys.pop("name", "study"), {"trials": 6, **sections, **keys})

    return make


@pytest.fixture
def engine() -> Callable[..., Engine]:
    """Makes an engine that trains with `fakes.fit`."""

    def make(study: Study, workers: int = 1) -> Engine:
        return Engine(study, VERBS, workers, threads=1)

    return make
