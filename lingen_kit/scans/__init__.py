"""Scan orders: how a (T, H, W) grid of tokens becomes a sequence, and back."""

from lingen_kit.scans.axes import AxisScan, Raster, RotaryMajor
from lingen_kit.scans.base import Grid, Scan

__all__ = ["AxisScan", "Grid", "Raster", "RotaryMajor", "Scan"]
