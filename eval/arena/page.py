"""The page that raters see, served or as one file: two players in step, two questions, nothing that names a model."""

import json
from collections.abc import Mapping
from typing import Any

from eval.arena.page_assets import BODY, STYLE
from eval.arena.page_script import SCRIPT
from lingen_kit.page import escape, page

__all__ = ["TOKEN_HEADER", "arena_page"]

TOKEN_HEADER = "X-Arena-Token"
"""Header of a vote that says it comes from the page of this server: no other page can set it, or read the token."""


def arena_page(study: Mapping[str, Any] | None = None, token: str = "") -> str:
    """The page.

    Args:
        study: What a page without a server holds: `id`, `prompts`, `videos` by id (`source` and number of the prompt)
            and `orders` of pairs of ids; None asks the server that sent the page.
        token: Of that server.
    """
    data = "null" if study is None else json.dumps(study, ensure_ascii=True).replace("<", "\\u003c")
    head = f'<style>{STYLE}</style><div id="app" data-header="{TOKEN_HEADER}" data-token="{escape(token)}">'
    return page("Which is better?", f"{head}{BODY}</div><script>'use strict'; const STUDY = {data};{SCRIPT}</script>")
