"""What `bench` says of its measurements: a line of the table for each, then fits and crossings of latency."""

from collections.abc import Sequence
from typing import NamedTuple

from lingen_kit.analysis.bench import OK, OUT_OF_MEMORY, Point
from lingen_kit.analysis.ledger import Row
from lingen_kit.analysis.plots import Line
from lingen_kit.analysis.scaling import crossings, fit_power_law, mean_ratio
from lingen_kit.analysis.units import count, duration, exact, memory

_LAYOUT = "{:14} {:>11} {:>7} {:>7} {:>9} {:>18} {:>9} {:>7} {:>5} {:>9} {:>9}"
HEADER = _LAYOUT.format(
    "config", "grid", "tokens", "params", "latency", "min - max", "tokens/s", "FLOPs", "% mm", "weights", "peak +"
)
LEGEND = "% mm: share of the rate of a matrix product, measured in turns. peak +: memory beyond the weights."


class Summary(NamedTuple):
    """Fits and crossings in words, and the sizes of the crossings."""

    sentences: list[str]
    crossings: list[float]


def table_line(point: Point, row: Row) -> str:
    """One measurement as a line under `HEADER`."""
    what = (point.config[:14], row["grid"], point.tokens, count(point.parameters))
    if row["status"] != OK:
        return _LAYOUT.format(*what, *[""] * 7).rstrip() + f"  {row['status']}"
    return _LAYOUT.format(
        *what,
        duration(float(row["seconds"])),
        f"{duration(float(row['seconds_min']))} - {duration(float(row['seconds_max']))}",
        count(float(row["tokens_per_second"])),
        count(point.flops),
        f"{float(row['utilization']):.0%}",
        memory(float(row["weight_bytes"])),
        memory(float(row["peak_bytes"])),
    )


def make_line(label: str, measured: Sequence[tuple[float, Row]]) -> Line:
    """The curve of one config from its rows by size, ascending; of two rows of one size, the first."""
    good: dict[float, Row] = {}
    for size, row in measured:
        if row["status"] == OK:
            good.setdefault(size, row)
    seconds, fastest, slowest = (
        [float(row[name]) for row in good.values()] for name in ("seconds", "seconds_min", "seconds_max")
    )
    peaks = [float(row["peak_bytes"]) + float(row["weight_bytes"]) for row in good.values()]
    exhausted = next((size for size, row in measured if row["status"] == OUT_OF_MEMORY), None)
    return Line(label, list(good), seconds, fastest, slowest, peaks, exhausted)


def summarize(lines: Sequence[Line], axis: str) -> Summary:
    """Put exponents and crossings into words.

    Args:
        lines: One for each config.
        axis: What a size is, such as `tokens`.
    """
    sentences = []
    for line in lines:
        if len(line.sizes) > 1:
            time, space = _latency(line), list(zip(line.sizes, line.memory, strict=True))
            whole, last, held = (fit_power_law(curve).exponent for curve in (time, time[-2:], space))
            sentences.append(
                f"{line.label}: latency ~ {axis}^{whole:.2f} (^{last:.2f} between the last two), "
                f"memory ~ {axis}^{held:.2f}"
            )
    sizes: list[float] = []
    for i, first in enumerate(lines):
        for second in lines[i + 1 :]:
            ratio = mean_ratio(_latency(first), _latency(second)) if first.sizes and second.sizes else None
            if ratio is None:
                sentences.append(f"{first.label}, {second.label}: no {axis} at which both were measured")
                continue
            found = crossings(_latency(first), _latency(second))
            sizes += [crossing.size for crossing in found]
            for crossing in found:
                pair = (first, second) if crossing.first_is_cheaper_after else (second, first)
                sentences.append(f"{pair[0].label} is faster than {pair[1].label} above {exact(crossing.size)} {axis}")
            if not found:
                pair = (first, second) if ratio < 1 else (second, first)
                times = 1 / ratio if ratio < 1 else ratio
                sentences.append(
                    f"{pair[0].label} is faster than {pair[1].label} at every size, {times:.2f} times on average: "
                    "no crossing in this range"
                )
    return Summary(sentences, sizes)


def _latency(line: Line) -> list[tuple[float, float]]:
    return list(zip(line.sizes, line.seconds, strict=True))
