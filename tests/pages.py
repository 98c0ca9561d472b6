"""What the documentation's pages hold: commands and what they need, files that they have the reader write, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NEEDS = ("a GPU", "several GPUs", "a cluster", "a network", "people", "weights", "minutes")
"""What a test does not have. `<!-- needs: a GPU -->` before a block marks all of it, `# needs a GPU` a line."""

TOOLS = (
    r"(?:python3? -m (?:lingen_kit|benchmarks)|python3? benchmarks/|make [a-z]|pip install|sbatch |torchrun |\S+\.sh )"
)


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        page: The page's path in the checkout.
        line: Its line, or the first of them.
        text: The command in one line, variables filled in, without its comment.
        needs: What it needs that a test does not have; empty if nothing.
        in_block: Whether it stands in a block, to be typed, or is mentioned in the text.
    """

    page: str
    line: int
    text: str
    needs: str
    in_block: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def name_of(page: Path) -> str:
    """The path of a page in the checkout."""
    return str(page.relative_to(ROOT))


def commands(page: Path) -> Iterator[Command]:
    """Every command of a page, in order: those of its blocks, and those in backquotes in its text."""
    variables: dict[str, str] = {}
    for number, line, in_block, marked in _lines(page):
        found = [_clean(line)] if in_block else re.findall(r"(?<!`)`([^`]+)`(?!`)", line)
        comment = re.search(r"\s# needs ([^:,;.]+)", line) if in_block else None
        for text in found:
            if defined := re.fullmatch(r'(\w+)="(.*)"', text):
                variables[defined[1]] = defined[2]
                continue
            text = re.sub(r"^(\w+=\S+ )+(?=\S*\.sh )", "", text)
            text = re.sub(r"\$(\w+)", lambda name: variables.get(name[1], name[0]), text)
            if re.match(TOOLS, text):
                yield Command(name_of(page), number, text, comment[1].strip() if comment else marked, in_block)


def files(page: Path) -> dict[str, str]:
    """The files that a page has the reader write: blocks whose first line is a comment with a name."""
    blocks = re.findall(r"^```\w+\n(# (\w+\.(?:py|yaml))\n.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    return {name: text for text, name in blocks}


def links(page: Path) -> list[str]:
    """Where a page's links and pictures lead to, other sites left out."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    found = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)
    return [target for target in found if not re.match(r"\w+:", target)]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _clean(line: str) -> str:
    return re.sub(r"\s+#\s.*$", "", line.strip())


def _lines(page: Path) -> Iterator[tuple[int, str, bool, str]]:
    """Lines with their number, whether they belong to a block, and what the mark before them says that they need."""
    fenced, marked, begun, start, joined = False, "", False, 0, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if mark := re.fullmatch(r"\s*<!-- needs: (.+) -->", line):
            marked, begun = mark[1], False
            continue
        if line.startswith("```"):
            fenced = not fenced
            begun = True
        elif line.strip():
            begun = True
        elif begun and not fenced:
            marked = ""
        start = start if joined else number
        joined += line.strip() if joined else line
        if joined.endswith("\\"):
            joined = joined[:-1].rstrip() + " "
            continue
        yield start, joined, fenced or joined.startswith("    "), marked
        joined = ""
