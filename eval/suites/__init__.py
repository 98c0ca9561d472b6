"""The suites: prompts, the metrics that videos of them go through, and the table."""

from eval.suites.custom import Custom
from eval.suites.drift import Drift
from eval.suites.shapebench import ShapeBench
from eval.suites.vbench import VBench
from eval.suites.vbench_long import VBenchLong

__all__ = ["Custom", "Drift", "ShapeBench", "VBench", "VBenchLong"]
