"""Tasks on Python threads: each once, errors passed on."""

import threading
from collections.abc import Iterator

import pytest
import torch

from lingen_kit.ops.threads import run_tasks


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


def test_every_task_runs_once_on_several_threads() -> None:
    done: list[int] = []
    threads: set[str] = set()
    meeting = threading.Barrier(3)  # passed only if three threads work at the same time

    def work(task: int) -> None:
        if task < 3:
            meeting.wait(30)
        done.append(task)
        threads.add(threading.current_thread().name)

    run_tasks(work, range(50))
    assert sorted(done) == list(range(50))
    assert len(threads) == 3


@pytest.mark.parametrize("failing", [0, 7])
def test_an_error_reaches_the_caller(failing: int) -> None:
    def work(task: int) -> None:
        if task == failing:
            raise ArithmeticError(f"task {task}")

    with pytest.raises(ArithmeticError, match=f"task {failing}"):
        run_tasks(work, range(20))
