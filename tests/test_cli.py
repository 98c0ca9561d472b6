"""The front door answers at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lingen_kit import __version__
from lingen_kit.cli import VERBS, main


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "sample --help",
        "export --help",
        "plan --help",
        "bench --help",
        "data --help",
        "data validate --help",
        "data inspect -h",
        "fti",
    ],
)
def test_help_imports_nothing_heavy(words: str) -> None:
    """Whether a module is imported is the cause; the seconds that it costs are measured in benchmarks."""
    code = f"import sys; sys.argv[1:] = {words.split()!r}\nfrom lingen_kit.cli import main\ntry:\n main()\n" \
        f"except SystemExit: pass\nprint(sorted({{'torch', 'lightning', 'numpy'}} & set(sys.modules)))"  # fmt: skip
    root = str(Path(__file__).parents[1])
    output = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=True
    )
    assert output.stdout.splitlines()[-1] == "[]"


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in VERBS)
    main(["--version"])
    assert capsys.readouterr().out == f"lingen_kit {__version__}\n"


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(FileNotFoundError, match="nope"):
        main(["sample", "--ckpt", "nope", "--prompt", "a", "--debug"])
