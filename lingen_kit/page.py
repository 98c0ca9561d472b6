"""Self-contained HTML pages: one style, light and dark, readable on a phone and on a wide screen.

A page asks for nothing from anywhere: pictures are written into it.

Letters: H height, W width.
"""

import base64
import html
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lingen_kit.files import replacing

__all__ = ["data_uri", "escape", "jpeg", "page", "write"]

# What a body may use: `table` inside `div.scroll`, `div.grid` of `figure`s, `div.cards` of `section`s, `.muted`,
# `.bad`, `.good`, `.number` for cells of figures, `button`, `details`; `svg.chart` in the page's own colors.
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --muted: #5b6472; --ground: #ffffff; --card: #f4f5f7;
  --line: #dcdfe4; --accent: #0b62b0; --bad: #b3261e; --good: #1b6e3c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --muted: #a2abb8; --ground: #14171c; --card: #1e2229;
  --line: #363c46; --accent: #7db9f5; --bad: #ff9a90; --good: #7fd6a0; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.25rem 1rem 4rem; max-width: 76rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: .4rem 0; }
a { color: var(--accent); }
.muted, figcaption { color: var(--muted); }
.bad { color: var(--bad); }
.good { color: var(--good); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
.cards { columns: 20rem; column-gap: .9rem; }
.cards > section { background: var(--card); border-radius: .6rem; padding: .8rem .9rem; margin: 0 0 .9rem;
  break-inside: avoid; }
.grid { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); align-items: start; }
figure { margin: 0; min-width: 0; }
figure img, figure video { display: block; width: 100%; height: auto; border-radius: .4rem; background: var(--card); }
figcaption { font-size: .82rem; line-height: 1.35; margin-top: .3rem; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 600; }
svg.chart { display: block; width: 100%; max-width: 30rem; height: auto; }
button, select, input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: .4rem; padding: .35rem .8rem; }
summary { cursor: pointer; padding: .15rem 0; }
details td { overflow-wrap: anywhere; }
code { font-size: .92em; }
"""


def page(title: str, body: str) -> str:
    """A whole HTML document.

    Args:
        title: Of the window and of the page's first heading; text, which is escaped here.
        body: HTML that follows the heading; what comes from files in it has gone through `escape`.
    """
    title = escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def escape(text: object) -> str:
    r"""Text for HTML, inside elements and in quoted attributes; what is not Unicode becomes `\udcff`."""
    return html.escape(str(text)).encode(errors="backslashreplace").decode()


def data_uri(data: bytes, mime: str) -> str:
    """A file as an address that holds it.

    Args:
        data: The file.
        mime: What it is, such as `image/png` or `image/jpeg`.
    """
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def jpeg(frame: NDArray[np.uint8], quality: int = 80) -> bytes:
    """A frame as a JPEG file.

    Args:
        frame: `(H, W, 3)` RGB.
        quality: From 1 to 95.
    """
    buffer = BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def write(path: Path, text: str) -> None:
    """Write a page, or a report beside it, whole or not at all.

    Args:
        path: The file; its folder is made.
        text: What to write, in UTF-8.
    """
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
