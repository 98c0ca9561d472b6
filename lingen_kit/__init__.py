"""A wind tunnel for linear-complexity video generation. Importing this package imports nothing else."""

__version__ = "0.1.0"
