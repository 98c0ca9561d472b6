"""Context parallelism: one video, split along time over the ranks of a group.

Every rank holds a slab of token frames, and all that treats tokens one by one stays as it is. What mixes tokens asks
`current()` for the split it is in, and exchanges what it needs with the other ranks. Outside `context_parallel` there
is no split, and nothing here is called.
"""

from lingen_kit.parallel.collectives import fetch, gather, sum_over_ranks
from lingen_kit.parallel.context import (
    Context,
    context_group,
    context_parallel,
    current,
    gather_time,
    split_time,
    within,
)

__all__ = [
    "Context",
    "context_group",
    "context_parallel",
    "current",
    "fetch",
    "gather",
    "gather_time",
    "split_time",
    "sum_over_ranks",
    "within",
]
