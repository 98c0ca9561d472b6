"""The measuring tools measure."""

import os
import time

import pytest
import torch

from lingen_kit.analysis.measure import ChildFailed, in_child, medians, peak_memory, ratio, take_turns


def allocate(megabytes: int) -> int:
    return peak_memory(lambda: torch.ones(megabytes << 18))


def die() -> None:
    os.kill(os.getpid(), 9)


def fail() -> None:
    raise ValueError("value 3 is bad")


def test_calls_take_turns_and_warm_up() -> None:
    order: list[str] = []
    calls = {"a": lambda: (order.append("a"), time.sleep(0.02)), "b": lambda: order.append("b")}
    seconds = take_turns(calls, repeats=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert medians(seconds)["a"] >= 0.02 and ratio(seconds, "a", "b") > 1


def test_peak_memory_of_a_fresh_process() -> None:
    assert in_child(allocate, 64) / 2**20 == pytest.approx(64, abs=8)


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(ChildFailed, match="ValueError: value 3 is bad"):
        in_child(fail)
    with pytest.raises(ChildFailed, match="killed"):
        in_child(die)
