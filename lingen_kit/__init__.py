"""A wind tunnel for linear-complexity video generation. Importing it imports nothing else before `Pipeline` is used."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingen_kit.release.pipeline import Pipeline as Pipeline

__version__ = "0.1.0"

# On Linux, torch then asks for tensors of 2 MB and more in huge pages, which take far fewer page faults to fill: the
# forward pass of a long sequence takes a fifth to a third less on a CPU. Torch reads it once; 0 is off.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> Any:
    if name == "Pipeline":
        from lingen_kit.release.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
