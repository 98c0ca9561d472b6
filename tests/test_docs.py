"""The documentation: its links lead somewhere, its commands are commands, and its code is the code that runs."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
HOWTO = ROOT / "docs" / "howto"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
TRAINS = ("fit", "validate", "test", "predict")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> Iterator[str]:
    """Every `python -m lingen_kit` command of a page's blocks, continued lines joined, comments left out."""
    lines = re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8")).splitlines()
    variables: dict[str, str] = {}
    for line in lines:
        if not re.match(r"^(    |#  )", line):
            continue
        text = re.sub(r"\s+#.*$", "", line.strip().removeprefix("#").strip())
        if defined := re.fullmatch(r'(\w+)="(python -m lingen_kit.*)"', text):
            variables[defined[1]] = defined[2]
            continue
        for name, value in variables.items():
            text = text.replace(f"${name}", value)
        if text.startswith("python -m lingen_kit "):
            yield text.removeprefix("python -m lingen_kit ")


EVERY = [pytest.param(command, id=f"{name_of(page)}: {command[:90]}") for page in PAGES for command in commands(page)]


def block(page: str) -> tuple[str, str]:
    """The file that a page has the reader write: its name and its text."""
    text = re.search(r"```python\n(# (\w+\.py)\n.*?)```", (HOWTO / page).read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    return text[2], text[1]


@pytest.fixture
def folder(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: the experiments, and the files that the how-tos have them write."""
    (run_dir / "experiments").symlink_to(ROOT / "experiments")
    for page in HOWTO.glob("add_*.md"):
        name, text = block(page.name)
        (run_dir / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(run_dir))
    return run_dir


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}, which is not there"


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the site needs mkdocs: pip install 'lingen_kit[docs]'")
def test_the_site_builds_and_no_link_or_anchor_of_it_is_broken(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "howto" / "add_a_mixer.html").is_file()


def test_every_page_is_in_the_site() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs')}\n" in listed, f"{name_of(page)} is not in the nav of mkdocs.yml"


class Parsed(Exception):
    """A command was understood."""


@pytest.mark.parametrize("command", EVERY)
def test_every_command_is_understood(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lingen_kit.cli import VERBS

    verb, *words = shlex.split(command.partition(" > ")[0])
    if verb in ("VERB", "--help", "--version"):
        return
    assert verb in VERBS
    if verb in TRAINS:
        parse_training(words)
        return
    known = argparse.ArgumentParser.parse_known_args

    def parse(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        found = known(self, args, namespace)
        if "lingen_kit" in self.prog:
            raise Parsed
        return found

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
    with pytest.raises(Parsed):
        import_module(VERBS[verb][0]).main(verb, words)


def parse_training(words: list[str]) -> None:
    """Have `fit` parse a command, or each of its stages; the quickstart stands for a config of the reader's own."""
    from lingen_kit.commands.plan import parse_fit
    from lingen_kit.stages import read_stages

    words = ["experiments/quickstart.yaml" if re.match(r"runs/.*\.yaml|[A-Z]\.yaml|\.\.\.$", w) else w for w in words]
    for stage in [stage.words for stage in read_stages(words) or []] or [words]:
        parse_fit(stage)


def test_the_mixer_of_the_howto_is_short() -> None:
    _, text = block("add_a_mixer.md")
    code = text[text.index("class ") :]
    assert len(code.strip().splitlines()) < 30


def test_what_the_howtos_have_written_trains(folder: Path) -> None:
    """Mixer, scan, data set and metric of the pages, each by the option that its page names."""
    from lingen_kit.commands import train
    from lingen_kit.search.records import read_metrics

    short = [
        "--trainer.max_steps=2",
        "--trainer.val_check_interval=2",
        "--trainer.limit_val_batches=1",
        "--data.batch_size=2",
    ]
    base = ["--config=experiments/quickstart.yaml", *short]
    train.main("fit", [*base, "--name=mixer", "--trainer.callbacks=[]", "--model.denoiser.mixer=shift.GatedConv"])
    metric = (
        '[{"class_path": "callbacks.Evaluation", "init_args": {"prompts": ["a red circle moves left"], "suite": '
        '{"class_path": "eval.Custom", "init_args": {"more": ["brightness.Brightness"]}}}}]'
    )
    scan = "--model.denoiser.mixer.ma.scan=spiral.FromTheMiddle"
    train.main("fit", [*base, "--name=others", f"--trainer.callbacks={metric}", scan, "--data=bars.BarsData"])
    losses = [read_metrics(folder / "runs" / name / "version_0" / "metrics.csv") for name in ("mixer", "others")]
    assert all("validation/loss" in figures for figures in losses)
    assert 0 <= losses[1]["custom/brightness"][-1][1] <= 1


def test_flops_of_the_howtos_mixer_are_those_that_a_counter_sees(folder: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    mixer = import_module("shift").GatedConv(8, 1)
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(1, 2, 4, 6, 8))
    assert mixer.flops((2, 4, 6)) == counter.get_total_flops()
