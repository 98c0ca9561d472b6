"""`adjacency` through the real command line."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lingen_kit.commands.adjacency import parse_scan
from lingen_kit.scans import AxisScan, Hilbert, LocalWindows, RotaryMajor, Scan, Zigzag

OUTSIDE = """
from lingen_kit.scans import AxisScan

class Columns(AxisScan):
    def __init__(self, flag=False):
        super().__init__(["wht"])
        self.flag = flag
"""


def test_no_options_print_the_tables_and_write_nothing(
    lingen: Callable, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("adjacency")
    face, cube = capsys.readouterr().out.split("\n\n")[1:]
    assert [line.split() for line in face.splitlines() if "orders" not in line] == [
        ["face-adjacent", "pairs", "k=1", "k=2", "k=3", "k=4", "k=8"],
        ["Raster", "352.33", "352.33", "352.33", "352.33", "352.33"],
        ["RotaryMajor", "352.33", "11.33", "1.00", "1.00", "1.00"],
        ["Snake", "352.33", "11.33", "1.00", "1.00", "1.00"],
    ]
    assert face.splitlines()[3].split()[-7:] == ["hwt,", "wht])", "352.33", "342.00", "1.00", "1.00", "1.00"]
    assert cube.splitlines()[-1].split() == ["Snake", "594.43", "212.09", "170.40", "82.22", "82.22"]
    assert not list(run_dir.iterdir())


def test_scans_grid_layers_and_files(lingen: Callable, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--scan", "Raster", "--scan", "AxisScan(orders=[wht])", "--grid", 2, 3, 4, "--layers", 2, 1)
    for _ in range(2):  # the second time over the files of the first
        lingen("adjacency", *options, "--out", "a/b")
    assert "grid 2x3x4" in capsys.readouterr().out
    with Path("a/b/adjacency.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["pairs"], row["scan"], row["layers"]) for row in rows[:4]] == [
        ("face", "Raster", "1"),
        ("face", "Raster", "2"),
        ("face", "AxisScan(orders=[wht])", "1"),
        ("face", "AxisScan(orders=[wht])", "2"),
    ]
    assert len(rows) == 8
    # 18 pairs at distance 1 along w, 16 at 4 along h, 12 at 12 along t
    assert float(rows[0]["distance"]) == pytest.approx((18 * 1 + 16 * 4 + 12 * 12) / 46, rel=1e-12)
    with Image.open("a/b/adjacency.png") as figure:
        assert figure.size == (1500, 720)
        assert len(np.unique(np.asarray(figure.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert sorted(path.name for path in Path("a/b").iterdir()) == ["adjacency.csv", "adjacency.png"]


@pytest.mark.parametrize(
    ("text", "scan"),
    [
        ("Hilbert", Hilbert()),
        ("Hilbert()", Hilbert()),
        ("lingen_kit.scans.Hilbert(orders=[thw])", Hilbert(["thw"])),
        ("LocalWindows( window = [2, 4, 4], orders=[thw,wht] )", LocalWindows((2, 4, 4), ["thw", "wht"])),
        ("Zigzag(schemes=4, pattern=st)", Zigzag("st", 4)),
        ('Zigzag(pattern: "st")', Zigzag("st")),
    ],
)
def test_a_scan_in_words(text: str, scan: Scan) -> None:
    assert parse_scan(text) == scan


@pytest.mark.parametrize("scan", [RotaryMajor(), AxisScan(), Zigzag("st"), LocalWindows((2, 3, 4))], ids=repr)
def test_what_a_scan_calls_itself_can_be_typed(scan: Scan) -> None:
    assert repr(parse_scan(repr(scan))) == repr(scan)


def test_a_scan_of_your_own(lingen: Callable, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("outside_scans.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(run_dir)
    assert parse_scan("outside_scans.Columns(flag=true)").flag is True
    lingen("adjacency", "--scan", "outside_scans.Columns", "--grid", 2, 2, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scan", "Hilbrt"), "--scan Hilbrt is no scan; choose out of AxisScan, Hilbert, "),
        (("--scan", "IndexScan"), "--scan IndexScan is no scan"),
        (("--scan", "nowhere.Hilbert"), "--scan nowhere.Hilbert: No module named 'nowhere'"),
        (("--scan", "Hilbert["), "--scan 'Hilbert[' is no NAME or NAME(option=value, ...)"),
        (("--scan", "Hilbert(orders=[)"), "write options as option=value, and lists in [brackets]"),
        (("--scan", "Hilbert(order=[thw])"), "Hilbert has no option 'order'; its options are orders"),
        (("--scan", "Raster(orders=[thw])"), "Raster has no option 'orders'; it has no options"),
        (("--scan", "LocalWindows(window=(2,4,4))"), "has no option 4; its options are window, orders; lists go in"),
        (("--scan", "LocalWindows(window=[2, x, 4])"), "--scan 'LocalWindows(window=[2, x, 4])': scan.window"),
        (("--scan", "Hilbert(orders=[thx])"), "'thx' is not a permutation of 'thw'"),
        (("--grid", 1, 1, 1), "grid (1, 1, 1) has no adjacent tokens"),
        (("--grid", 4, 0, 4), "grid (4, 0, 4) must be three sizes"),
        (("--layers", 0), "layers [0] must be"),
        (("--grid", 2, 2, 2, "--out", "file/out"), "file/out: Not a directory"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(str, value)),
)
def test_errors_take_one_line(
    lingen: Callable, run_dir: Path, capsys: pytest.CaptureFixture[str], words: tuple, message: str
) -> None:
    Path("file").touch()
    with pytest.raises(SystemExit, match="2"):
        lingen("adjacency", *words)
    error, hint = capsys.readouterr().err.splitlines()
    assert message in error
    assert hint == "(add --debug for the traceback)"


def test_help_imports_nothing_heavy(root: Path) -> None:
    code = (
        "import sys\nfrom lingen_kit.cli import main\ntry:\n main(['adjacency', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'lightning', 'numpy', 'matplotlib', 'yaml'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
