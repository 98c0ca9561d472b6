"""Every command in the documentation is typed by a test, or says on its page what it needs that a test does not have.

A page is typed from top to bottom, as it stands, in a folder of its own. The reader of the test is in a hurry: in
their copy of `experiments` trainings have two steps. What a reader has before (clips, a trained quickstart, videos of
two models) is made once.
"""

import argparse
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.pages import NEEDS, PAGES, ROOT, Command, commands, files

SHORT = {  # options of shipped configs, as a reader in a hurry would have them
    "max_steps": 2,
    "val_check_interval": 2,
    "every_n_train_steps": 2,
    "every_n_validations": 1,
    "steps": 2,
    "num": 2,
    "num_workers": 0,
    "trials": 4,
    "top": 2,
    "random": 1,
    "n_warmup_steps": 0,
}
FIRST = "python -m lingen_kit fit --config experiments/quickstart.yaml"
"""What the reader of every page has typed before."""

SLOW = (
    r"lingen_kit search |runs/search/|mine.yaml|five.stages|tae_shapes|lingen_4b|--measure|16384|zoo:\S+ --suite|"
    r"^README.* fit .*quickstart"
)
"""What takes longer than a few seconds even so, or is one of many: it is parsed, and typed with `-m slow`."""

ONCE = r"lingen_kit (evaluate|plan) "
"""What no later command builds on: where it stands on several pages, one of them is enough."""

RECORDS = ("docs/reproduction.md", "docs/results/")
"""Pages of results, whose commands are what made them, in minutes to hours: they are understood, and not typed."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:checkpoint .* was trained with other options"),  # for fewer steps
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than a machine of one core has
]

EVERY = [command for page in PAGES for command in commands(page)]
TYPED = [
    command
    for command in EVERY
    if command.text.startswith("python -m lingen_kit ") and not command.needs and not command.page.startswith(RECORDS)
]


def slow(command: Command) -> bool:
    return re.search(SLOW, str(command)) is not None


DONE = {FIRST}
QUICK_PAGES = sorted({command.page for command in TYPED if not slow(command)})
SLOW_PAGES = sorted({command.page for command in TYPED if slow(command)})
UNTYPED = [command for command in EVERY if command not in TYPED or slow(command)]


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    """Files are worked on in this process, which has everything imported; tests of the verbs have the workers."""
    from lingen_kit.data.jobs import run as jobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "_in_processes", lambda function, todo, *_: jobs._here(function, todo))
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a reader has: the experiments, clips with captions, a trained quickstart, videos of two models, judged."""
    home = tmp_path_factory.mktemp("home")
    for path in (ROOT / "experiments").rglob("*.yaml"):
        copy = home / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(shortened(path.read_text(encoding="utf-8")), encoding="utf-8")
    write_clips(home / "clips")
    shutil.copytree(home / "clips", home / "real")
    prompts = ["a red circle moves left", "a blue ring moves up"]
    (home / "prompts.txt").write_text("\n".join(prompts) + "\n")
    (home / "decisions.json").write_text('{"format": "lingen_kit curation decisions 1", "decisions": {}}')
    before = Path.cwd()
    os.chdir(home)
    try:
        run(FIRST)
        for model in ("lingen", "dit", "made"):
            ckpt = "runs/quickstart/version_0/checkpoints/last.ckpt"
            run(f"python -m lingen_kit sample --ckpt {ckpt} --prompts prompts.txt --out {model}")
            if model != "made":
                run(f"python -m lingen_kit evaluate --videos {model} --out evaluations/{model} --workers 1")
    finally:
        os.chdir(before)
    yield home
    shutil.rmtree(home)


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the reader's home, to type a page in."""
    folder = tmp_path / "home"
    shutil.copytree(home, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))  # as `python -m` does
    yield folder
    shutil.rmtree(folder)


def shortened(config: str) -> str:
    """A config whose trainings, validations and samplings are over at once."""
    config = re.sub(rf"\b({'|'.join(SHORT)}): \d+", lambda found: f"{found[1]}: {SHORT[found[1]]}", config)
    once = "check_val_every_n_epoch: null\n"
    config = config.replace(once, f"{once}  limit_val_batches: 1\n")
    obedience = "class_path: callbacks.PromptObedience\n"
    return config.replace(f"{obedience}\n", f"{obedience}      init_args: {{num: 2}}\n\n")


def write_clips(folder: Path) -> None:
    """Clips that curation keeps: seconds of something that moves, sharp enough, with captions."""
    from lingen_kit.data.shapes import MovingShapesDataset
    from lingen_kit.video import write_mp4

    folder.mkdir()
    world = MovingShapesDataset(frames=30, height=256, width=256, fps=12)
    for index in range(3):
        sample = world[index]
        write_mp4(folder / f"{index}.mp4", sample["video"], sample["fps"])
        (folder / f"{index}.txt").write_text(sample["caption"])


def run(text: str) -> None:
    """Type a command; one that goes on with a training has steps left to do."""
    from lingen_kit.cli import main

    stage = "stages.tune." if "five_stages" in text else ""  # the last one
    text = text.replace("--ckpt_path last", f"--ckpt_path last --{stage}trainer.max_steps 4").replace("/path/to/", "")
    try:
        main(shlex.split(text)[3:])
    except SystemExit as stopped:
        assert not stopped.code, f"exit code {stopped.code}"


def type_page(page: str, *, all_of_it: bool) -> None:
    for name, text in files(ROOT / page).items():
        Path(name).write_text(shortened(text) if name.endswith(".yaml") else text, encoding="utf-8")
    for command in TYPED:
        if command.page != page or command.text in DONE or (slow(command) and not all_of_it):
            continue
        try:
            run(command.text)
        except BaseException as error:
            raise AssertionError(f"{command} does not work as it is written: {error}") from error
        if re.search(ONCE, command.text):
            DONE.add(command.text)


@pytest.mark.parametrize("page", QUICK_PAGES)
def test_a_page_works_as_it_is_written(page: str, folder: Path) -> None:
    type_page(page, all_of_it=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW_PAGES)
def test_a_page_works_as_it_is_written_to_the_end(page: str, folder: Path) -> None:
    type_page(page, all_of_it=True)


@pytest.mark.parametrize("command", UNTYPED, ids=str)
def test_what_is_not_typed_is_understood_and_says_what_it_needs(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    assert not command.needs or command.needs.startswith(NEEDS), f"needs {command.needs}: no such need"
    words = shlex.split(command.text.partition(" > ")[0])
    for name in re.findall(r"(?:experiments|benchmarks)/[\w/.]+\w", command.text):
        assert (ROOT / name).exists(), f"there is no {name}"
    match words:
        case ["make", target, *_]:
            assert target in targets()
        case ["pip", "install", *packages]:
            assert set(re.findall(r"\[(\w+)\]", " ".join(packages))) <= extras()
        case ["sbatch", _, _, config, *options] | [_, _, config, *options] if "cluster" in words[0] + words[1]:
            understand("fit", ["--config", config, *options], monkeypatch)
        case ["python", "-m", "lingen_kit", verb, *rest]:
            understand(verb, rest, monkeypatch)
        case ["python", "-m", module, *_]:
            assert find_spec(module) is not None


@pytest.mark.parametrize("command", [command for command in EVERY if command not in TYPED], ids=str)
def test_a_command_that_is_to_be_typed_and_cannot_be_says_what_it_needs(command: Command) -> None:
    if command.in_block and not command.text.startswith("pip ") and not command.page.startswith(RECORDS):
        assert command.needs, f"{command} is not run: say above its block what it needs, `<!-- needs: a GPU -->`"


class Parsed(Exception):
    """A command was understood."""


def understand(verb: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the verb's own parser read the words, and do no more."""
    from lingen_kit.cli import VERBS

    assert verb in VERBS
    if verb in ("fit", "validate", "test", "predict"):
        from lingen_kit.commands.plan import parse_fit
        from lingen_kit.stages import read_stages

        # What a search is going to write is a config as this one is.
        words = [re.sub(r"^runs/.*\.yaml$", "experiments/quickstart.yaml", word) for word in words]
        stages = read_stages(words)
        parse_fit(stages[-1].words if stages else words)
        return
    known = argparse.ArgumentParser.parse_known_args

    def parse(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        found = known(self, args, namespace)
        if "lingen_kit" in self.prog:
            # Options of the model and of the suite are read later, by parsers of their own.
            unknown = re.sub(r"--(model|suite)\.[\w.+]+[= ]\S+", "", " ".join(found[1])).strip()
            assert not unknown, f"{verb} does not know {unknown}"
            raise Parsed
        return found

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
    with pytest.raises(Parsed):
        import_module(VERBS[verb][0]).main(verb, words)


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@cache
def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
