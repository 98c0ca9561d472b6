"""Scan orders: how a (T, H, W) grid of tokens becomes a sequence, and back."""

from lingen_kit.scans.axes import AxisScan, Raster, RotaryMajor
from lingen_kit.scans.base import Grid, Scan
from lingen_kit.scans.hilbert import Hilbert
from lingen_kit.scans.index import IndexScan
from lingen_kit.scans.morton import Morton
from lingen_kit.scans.orders import OrderedScan
from lingen_kit.scans.snake import Snake
from lingen_kit.scans.windows import LocalWindows
from lingen_kit.scans.zigzag import Sweep, Zigzag

__all__ = [
    "AxisScan",
    "Grid",
    "Hilbert",
    "IndexScan",
    "LocalWindows",
    "Morton",
    "OrderedScan",
    "Raster",
    "RotaryMajor",
    "Scan",
    "Snake",
    "Sweep",
    "Zigzag",
]
