"""The documentation: its links lead somewhere, the site builds, and the code on its pages is the code that runs."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, anchors, files, links, name_of

HOWTO = ROOT / "docs" / "howto"
SHORT = [
    "--config=experiments/quickstart.yaml",
    "--trainer.max_steps=2",
    "--trainer.val_check_interval=2",
    "--trainer.limit_val_batches=1",
    "--data.batch_size=2",
]


@pytest.fixture
def folder(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: the experiments, and the files that the how-tos have them write."""
    (run_dir / "experiments").symlink_to(ROOT / "experiments")
    for page in HOWTO.glob("add_*.md"):
        for name, text in files(page).items():
            (run_dir / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(run_dir))
    return run_dir


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), f"{name_of(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(path), f"{name_of(page)} links to {link}, and {target} has no such heading"


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the site needs mkdocs: pip install 'lingen_kit[docs]'")
def test_the_site_builds_and_no_link_or_anchor_of_it_is_broken(tmp_path: Path) -> None:
    done = build(ROOT / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    for page in (ROOT / "docs").rglob("*.md"):
        path = page.relative_to(ROOT / "docs").with_suffix(".html")
        path = path.with_name("index.html") if path.name == "README.html" else path
        assert (tmp_path / "site" / path).is_file()


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the site needs mkdocs: pip install 'lingen_kit[docs]'")
@pytest.mark.parametrize("link", ["[a](nowhere.md)", "[a](#nowhere)", "![a](nowhere.png)", "[a](two.md#nowhere)"])
def test_a_broken_link_breaks_the_site(link: str, tmp_path: Path) -> None:
    """With the settings of the real one, lest they be loosened in silence."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(settings[: settings.index("\nnav:") + 1], encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "two.md").write_text("# Two\n")
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[b](two.md#two)\n")
    assert build(tmp_path / "mkdocs.yml", tmp_path / "site").returncode == 0
    (tmp_path / "docs" / "index.md").write_text(f"# One\n\n{link}\n")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0 and "nowhere" in done.stderr


def build(settings: Path, site: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "mkdocs", "build", "--strict", "--config-file", str(settings), "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)


def test_every_page_is_in_the_site() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs')}\n" in listed, f"{name_of(page)} is not in the nav of mkdocs.yml"


def test_the_mixer_of_the_howto_is_one_file_of_under_30_lines() -> None:
    (text,) = files(HOWTO / "add_a_mixer.md").values()
    assert 10 < sum(bool(line.strip()) for line in text.splitlines()) < 30


def test_mixer_and_scan_of_the_howtos_train_through_the_command_line(folder: Path) -> None:
    from lingen_kit.cli import main
    from lingen_kit.search.records import read_metrics

    for name, option in {
        "mixer": "--model.denoiser.mixer=gated_conv.GatedConv",
        "scan": "--model.denoiser.mixer.ma.scan=spiral.FromTheMiddle",
    }.items():
        main(["fit", *SHORT, f"--name={name}", "--trainer.callbacks=[]", option])
        assert "validation/loss" in read_metrics(folder / "runs" / name / "version_0" / "metrics.csv")


def test_the_metric_of_the_howto_is_logged_in_training_on_its_data_set(folder: Path) -> None:
    from lingen_kit.cli import main
    from lingen_kit.search.records import read_metrics

    main(["fit", *SHORT, "--config=metric.yaml", "--name=metric", "--data=bars.BarsData"])
    figures = read_metrics(folder / "runs" / "metric" / "version_0" / "metrics.csv")
    assert 0 <= figures["custom/brightness"][-1][1] <= 1
    assert "validation/loss" in figures


def test_flops_of_the_howtos_mixer_are_those_that_a_counter_sees(folder: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    mixer = import_module("gated_conv").GatedConv(8, 1)
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(1, 2, 4, 6, 8))
    assert mixer.flops((2, 4, 6)) == counter.get_total_flops()


def test_the_mixer_of_the_howto_keeps_shapes_and_mixes_in_time_and_space(folder: Path) -> None:
    import torch

    mixer = import_module("gated_conv").GatedConv(8, 0)
    x = torch.randn(1, 3, 4, 5, 8, requires_grad=True)
    y = mixer(x)
    assert y.shape == x.shape
    reach = torch.autograd.grad(y[0, 1, 1, 1].sum(), x)[0].abs().sum(-1)[0] > 0
    assert reach[:3, :3, :3].all() and not reach[:, 3:].any() and not reach[..., 3:].any()
    assert mixer(x[:, :1]).shape == (1, 1, 4, 5, 8)
