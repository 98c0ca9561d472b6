"""Evaluation: metrics, suites and the judges behind them. YAML names a suite as `eval.ShapeBench`.

Write `from eval.suites import ShapeBench` in code, never `import eval`: that hides the builtin.
"""

from typing import Any

__all__ = ["Custom", "Drift", "ShapeBench", "VBench", "VBenchLong"]


def __getattr__(name: str) -> Any:
    """The suites, imported when one is asked for: they import numpy and torch."""
    if name in __all__:
        from eval import suites

        return getattr(suites, name)
    raise AttributeError(f"module 'eval' has no attribute {name!r}")
