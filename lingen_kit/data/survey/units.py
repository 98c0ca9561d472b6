"""Seconds, bytes and counts as people read them."""


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, such as `1:02:03`; seconds with a fraction below a minute."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def data_size(count: float) -> str:
    """Bytes in the unit that leaves one to three digits, such as `5.2 MB`."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.3g} {unit}"


def brief(value: float) -> str:
    """A measured number to about three digits, never in powers of ten: `0.04`, `29.97`, `1,280`, `below 0.001`."""
    if 0 < value < 0.001:
        return "below 0.001"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.2f}".rstrip("0").rstrip(".")


def plural(count: int, noun: str) -> str:
    """A count with its noun: `1 file`, `2,000 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shortened(text: str, width: int) -> str:
    """A text on one line of at most `width` characters, without its middle if need be."""
    text = " ".join(text.split())
    half = (width - 3) // 2
    return text if len(text) <= width else f"{text[: width - 3 - half]}...{text[-half:]}"
