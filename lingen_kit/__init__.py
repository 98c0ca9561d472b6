"""A wind tunnel for linear-complexity video generation. Importing this package imports nothing else."""

import os

__version__ = "0.1.0"

# On Linux, torch then asks for tensors of 2 MB and more in huge pages, which take far fewer page faults to fill: the
# forward pass of a long sequence takes a fifth to a third less on a CPU. Torch reads it once; 0 is off.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
