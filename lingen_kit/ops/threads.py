"""Independent pieces of one operator on Python threads: for compiled kernels that release the interpreter's lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

Task = TypeVar("Task")


def run_tasks(work: Callable[[Task], None], tasks: Iterable[Task]) -> None:
    """Call `work` on every task, on as many threads as torch uses, the calling one among them.

    Any number of threads may call this at the same time, and a forked child may. PyTorch's modes (gradients, autocast)
    belong to a thread, so `work` should not depend on them.

    Args:
        work: What to do with a task.
        tasks: In the order in which they are begun.
    """
    waiting = deque(tasks)

    def take_turns() -> None:
        while True:
            try:
                task = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                work(task)
            except BaseException:
                waiting.clear()  # nobody begins another task
                raise

    threads = torch.get_num_threads()
    helpers = [_pool(threads).submit(take_turns) for _ in range(min(threads, len(waiting)) - 1)]
    try:
        take_turns()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]  # one that has not begun has nothing left to do
        wait(begun)  # all of them, before an error of one is told: they write to what the caller owns
    for helper in begun:
        helper.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lingen_kit.ops")


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    # A forked child inherits the pool but not its threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)
