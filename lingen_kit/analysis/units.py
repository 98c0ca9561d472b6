"""Numbers as people read them: three digits and a unit."""


def count(value: float) -> str:
    """`64`, `1.02k`, `4.64G`."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{_three(value / limit)}{unit}"
    return _three(value)


def exact(value: float) -> str:
    """`8,192`, to a whole number; three digits and a unit from a million on."""
    return f"{value:,.0f}" if value < 999_950 else count(value)


def duration(seconds: float) -> str:
    """`430 us`, `12.3 ms`, `1.5 s`."""
    for limit, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= limit * 0.9995:
            return f"{_three(seconds / limit)} {unit}"
    return f"{_three(seconds / 1e-6)} us"


def memory(size: float) -> str:
    """`12.5 MiB`, `3.4 GiB`."""
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= limit * 0.9995:
            return f"{_three(size / limit)} {unit}"
    return f"{_three(size / 2**10)} KiB"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"
