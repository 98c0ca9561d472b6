"""A search that is killed at any moment, and resumed, trains every candidate once."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lingen_kit.search.engine import Engine
from lingen_kit.search.space import same
from lingen_kit.search.study import Study

ROOT = Path(__file__).parents[2]
WORK = """
import sys
from pathlib import Path
from lingen_kit.search.engine import Engine
from lingen_kit.search.study import Study
from tests.search.conftest import VERBS
Engine(Study(Path(sys.argv[1])), VERBS, 2, threads=1).run()
"""


def test_killed_at_random_and_resumed_without_a_lost_or_doubled_trial(
    make_study: Callable[..., Study], engine: Callable[..., Engine]
) -> None:
    moments = random.Random(0)
    losses = [float(i) for i in range(10)]
    study = make_study({"model.loss": losses}, trials=10, seeds=[0, 1], overrides={"model.seconds": 0.4})
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WORK, str(study.folder)], cwd=ROOT)
        before = len(study.records())
        for _ in range(600):
            if len(study.records()) > before + 1 or process.poll() is not None:
                break
            time.sleep(0.1)
        time.sleep(moments.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    engine(Study(study.folder), workers=2).run()
    records = Study(study.folder).records()
    assert [record.state for record in records] == ["complete"] * 10
    assert len({same(record.params) for record in records}) == 10
    assert all(list(record.results) == ["0", "1"] for record in records)


def test_what_was_cut_off_undrawn_becomes_no_double(
    make_study: Callable[..., Study], engine: Callable[..., Engine]
) -> None:
    study = make_study({"model.loss": [0.0, 1.0]}, trials=2)
    engine(study).step(0)
    for _ in range(6):
        study._study.ask()  # and the process ends before a value is drawn
    engine(Study(study.folder)).run()
    assert sorted(record.params["model.loss"] for record in study.records()) == ["0.0", "1.0"]


@pytest.mark.parametrize("sampler", ["exhaustive", "TPESampler"])
def test_what_was_left_in_the_queue_becomes_no_double(
    make_study: Callable[..., Study], engine: Callable[..., Engine], sampler: str
) -> None:
    study = make_study({"model.loss": [0.0, 1.0, 2.0]}, trials=3, sampler=sampler)
    for _ in range(2):
        study._study.enqueue_trial({"model.loss": "0.0"})  # and the process ends before it is asked for
    engine(Study(study.folder)).run()
    assert sorted(record.params["model.loss"] for record in study.records()) == ["0.0", "1.0", "2.0"]
