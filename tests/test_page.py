"""Pages hold all that they show, and arrive whole."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lingen_kit.page import data_uri, escape, jpeg, page, write


class Reader(HTMLParser):
    """Text, addresses, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_is_whole_and_asks_for_nothing() -> None:
    picture = data_uri(jpeg(np.zeros((4, 6, 3), np.uint8)), "image/jpeg")
    text = page("<Cats> & dogs", f'<p>body</p><img src="{picture}" alt="">')
    reader = Reader(text)
    assert reader.open == []
    assert reader.text.count("<Cats> & dogs") == 2 and "body" in reader.text
    assert all(address.startswith("data:") for address in reader.addresses)
    assert "http" not in text and "@import" not in text and "url(" not in text
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", '" onload="x', "' onload='x", "&amp;", "\udcff"])
def test_what_is_escaped_comes_back_as_text(nasty: str) -> None:
    reader = Reader(f'<p title="{escape(nasty)}">{escape(nasty)}</p>')
    assert reader.open == []
    assert reader.text == nasty.encode(errors="backslashreplace").decode()
    escape(nasty).encode()


def test_a_picture_survives() -> None:
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:, 24:] = (250, 10, 10)
    mime, _, encoded = data_uri(jpeg(frame, quality=90), "image/jpeg").removeprefix("data:").partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert (mime, image.format, image.size) == ("image/jpeg", "JPEG", (48, 32))
    assert np.abs(np.asarray(image).astype(int)[:, 32:] - (250, 10, 10)).max() < 12


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.html"
    write(path, "first ü")
    assert path.read_text(encoding="utf-8") == "first ü"
    with pytest.raises(UnicodeEncodeError):
        write(path, "second " * 100_000 + "\udcff")
    assert path.read_text(encoding="utf-8") == "first ü"
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]
