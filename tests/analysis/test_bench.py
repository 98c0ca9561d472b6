"""Points, their measurement in this process, and the ledger that lets a run go on."""

import csv
from pathlib import Path

import pytest
import torch

from lingen_kit.analysis import bench
from lingen_kit.analysis.bench import KEY, OK, OUT_OF_MEMORY, SKIPPED, VALUES, Point, Setup, measure_all, plan
from lingen_kit.analysis.bench_report import make_line, summarize, table_line
from lingen_kit.analysis.ledger import Ledger
from lingen_kit.analysis.plots import Line, plot_scaling
from lingen_kit.analysis.units import count, duration, exact, memory

OPTIONS: dict = {
    "denoiser": {
        "class_path": "lingen_kit.models.Denoiser",
        "init_args": {"dim": 16, "depth": 1, "patch": [1, 4, 4], "mixer": "lingen_kit.mixers.SelfAttention"},
    },
    "sampler": {"class_path": "lingen_kit.diffusion.Sampler", "init_args": {"method": "heun", "steps": 3}},
    "frames": 4,
    "height": 8,
    "width": 8,
    "fps": 8.0,
}
SETUP = Setup(repeats=2, text_tokens=3, batch_size=2)


def _point(frames: int = 4, config: str = "a", setup: Setup = SETUP) -> Point:
    return plan(config, "", OPTIONS, (frames, 8, 8), setup)


def _outcome(seconds: float = 1.0) -> dict[str, object]:
    numbers = dict.fromkeys(("weight_bytes", "peak_bytes", "tokens_per_second", "gemm_flops_per_second"), 1)
    times = {"seconds": seconds, "seconds_min": seconds, "seconds_max": seconds}
    return {"status": OK, "utilization": 0.5, **numbers, **times}


def test_sizes_of_the_video_follow_from_tokens_or_grid() -> None:
    assert bench.grid_of_tokens(OPTIONS, 24) == (6, 2, 2)
    assert bench.video_of_grid(OPTIONS, (6, 2, 3)) == (6, 8, 12)
    point = plan("a", "", OPTIONS, (6, 8, 12), SETUP)
    assert (point.latents, point.grid, point.tokens) == ((6, 8, 12), (6, 2, 3), 36)
    with pytest.raises(ValueError, match="tokens 30 is no multiple of the 4"):
        bench.grid_of_tokens(OPTIONS, 30)
    with pytest.raises(ValueError, match=r"height 10 .* patch"):
        plan("a", "", OPTIONS, (4, 10, 8), SETUP)


def test_a_grid_that_the_autoencoder_cannot_make_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from lingen_kit.models import PixelSpace

    monkeypatch.setattr(PixelSpace, "latent_size", lambda self, size: (1 + (size[0] - 1) // 3, *size[1:]))
    with pytest.raises(ValueError, match=r"no video makes a grid of 3x2x2 tokens.*--video"):
        bench.video_of_grid(OPTIONS, (3, 2, 2))


def test_flops_of_a_mode_are_the_passes_that_it_makes() -> None:
    forward = _point().flops
    assert forward == 2 * bench.on_meta(OPTIONS).denoiser.flops((4, 8, 8), 3)
    assert _point(setup=Setup(mode="train", text_tokens=3, batch_size=2)).flops == 3 * forward
    # Heun asks twice a step but for the last: 2 * 3 - 1, each with and without the prompt.
    sample = _point(setup=Setup(mode="sample", text_tokens=3, batch_size=2))
    assert (sample.flops, sample.steps, sample.guidance) == (10 * forward, 3, 5.0)
    alone = _point(setup=Setup(mode="sample", text_tokens=3, batch_size=2, steps=1, guidance=1.0))
    assert alone.flops == forward


@pytest.mark.parametrize("mode", ["forward", "train", "sample"])
def test_a_measurement_has_every_number(mode: str) -> None:
    setup = Setup(mode=mode, repeats=2, text_tokens=3)
    point = _point(setup=setup)
    outcome = bench._measure(point, setup)
    assert set(outcome) | set(point.columns()) >= set(VALUES)
    assert outcome["status"] == OK
    assert 0 < outcome["seconds_min"] <= outcome["seconds"] <= outcome["seconds_max"]
    assert outcome["weight_bytes"] == 4 * point.parameters
    assert outcome["tokens_per_second"] == pytest.approx(16 / outcome["seconds"])
    assert 0 < outcome["utilization"] < 1.5


def test_training_costs_more_memory_than_a_forward_pass() -> None:
    """Large enough to stand out of what an allocator keeps."""
    peaks = {}
    for mode in ("forward", "train"):
        setup = Setup(mode=mode, repeats=1, text_tokens=3)
        peaks[mode] = bench._measure(_point(1024, setup=setup), setup)["peak_bytes"]
    assert peaks["train"] > peaks["forward"] > 2**18


def test_output_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from lingen_kit.models import Denoiser

    monkeypatch.setattr(Denoiser, "forward", lambda self, x, t, text, mask: x / 0)
    with pytest.raises(ValueError, match="not finite"):
        bench._measure(_point(), SETUP)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")],
)
def test_running_out_of_memory_is_a_result(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(bench, "offer_to_the_killer", lambda: None)
    monkeypatch.setattr(bench, "_measure", fail)
    assert bench.measure_here(_point(), SETUP) == {"status": OUT_OF_MEMORY}


def test_a_killed_child_ran_out_of_memory_and_any_other_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(message: str) -> None:
        def fail(*_: object, threads: int) -> None:
            raise bench.ChildFailed(message)

        monkeypatch.setattr(bench, "in_child", fail)

    child("the process died with exit code -9: killed, most likely because memory ran out")
    assert bench.measure_point(_point(), SETUP) == {"status": OUT_OF_MEMORY}
    child("RuntimeError: no kernel")
    with pytest.raises(ValueError, match="a at 4x2x2 tokens cannot be measured: RuntimeError: no kernel"):
        bench.measure_point(_point(), SETUP)


def test_after_a_point_without_memory_the_larger_ones_are_skipped(tmp_path: Path) -> None:
    points = [_point(frames, config) for frames in (1, 2, 4, 8) for config in ("a", "b")]
    measured = []

    def measure(point: Point, setup: Setup) -> dict[str, object]:
        measured.append((point.config, point.tokens))
        return {"status": OUT_OF_MEMORY} if measured[-1] == ("a", 8) else _outcome()

    def run() -> list[str]:
        ledger = Ledger(tmp_path / "bench.csv", KEY, VALUES)
        return [
            f"{p.config}{p.tokens} {row['status']}" for p, row, _ in measure_all(points, SETUP, ledger, measure=measure)
        ]

    expected = [
        "a4 ok",
        "b4 ok",
        f"a8 {OUT_OF_MEMORY}",
        "b8 ok",
        f"a16 {SKIPPED}",
        "b16 ok",
        f"a32 {SKIPPED}",
        "b32 ok",
    ]
    assert run() == expected
    assert measured == [("a", 4), ("b", 4), ("a", 8), ("b", 8), ("b", 16), ("b", 32)]
    assert run() == expected  # from the file, with nothing measured again
    assert len(measured) == 6


def test_a_run_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    path, measured = tmp_path / "new" / "bench.csv", []

    def measure(point: Point, setup: Setup) -> dict[str, object]:
        measured.append(point.tokens)
        return _outcome()

    def run() -> int:
        measured.clear()
        return len(list(measure_all([_point(n) for n in (1, 2, 4)], SETUP, Ledger(path, KEY, VALUES), measure=measure)))

    assert run() == 3 and measured == [4, 8, 16]
    whole = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + whole)  # as a spreadsheet saves it
    assert run() == 3 and measured == []
    for cut in (1, 40):
        path.write_bytes(whole[:-cut])
        assert run() == 3 and measured == [16]
        assert path.read_bytes() == whole
    path.write_bytes(whole[:30])  # not even the header
    assert run() == 3 and measured == [4, 8, 16]


def test_whatever_changes_the_numbers_makes_another_row() -> None:
    def identity(**change: object) -> tuple:
        setup = Setup(**{"threads": 1, **change.pop("setup", {})})
        options = {**OPTIONS, **change}
        columns = {**setup.provenance(), **plan("a", "", options, (4, 8, 8), setup).columns()}
        return tuple(str(columns[name]) for name in KEY)

    sampler = {"class_path": "lingen_kit.diffusion.Sampler", "init_args": {"steps": 4}}
    changes: list[dict] = [{"setup": {name: value}} for name, value in {
        "mode": "train", "dtype": "bf16", "threads": 2, "batch_size": 2, "repeats": 3, "text_tokens": 7
    }.items()]  # fmt: skip
    changes += [{"sampler": sampler}, {"setup": {"mode": "sample"}}, {"setup": {"mode": "sample", "steps": 2}}]
    keys = [identity(), *(identity(**change) for change in changes)]
    assert len(set(keys)) == len(keys)
    assert identity() == identity()


def test_a_ledger_of_other_columns_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="other columns"):
        Ledger(path, KEY, VALUES)
    assert path.read_text() == "a,b\n1,2\n"


def test_a_ledger_keeps_what_is_awkward(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    Ledger(path, ["k"], ["v"]).append({"k": 'dim=3,"x"', "v": "\u2028é"})
    assert Ledger(path, ["k"], ["v"]).find({"k": 'dim=3,"x"'}) == {"k": 'dim=3,"x"', "v": "\u2028é"}
    assert next(csv.DictReader(path.read_text().split("\n")))["k"] == 'dim=3,"x"'
    for row in ({"k": "a\nb", "v": 1}, {"k": 1}, {"k": 1, "v": 2, "w": 3}):
        with pytest.raises(ValueError, match="must hold one line"):
            Ledger(path, ["k"], ["v"]).append(row)


def test_bf16_that_crawls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for slow in (5.0, 3.0):
        monkeypatch.setattr(bench, "take_turns", lambda calls, repeats, slow=slow: {"fp32": [1.0], "bf16": [slow]})
        if slow > 4:
            with pytest.raises(ValueError, match="dtype bf16: this CPU takes 5 times"):
                bench.check_dtype("cpu", "bf16")
        else:
            bench.check_dtype("cpu", "bf16")
    monkeypatch.setattr(bench, "take_turns", None)
    bench.check_dtype("cpu", "fp32")


def test_report_in_words() -> None:
    def line(label: str, exponent: float, factor: float) -> Line:
        sizes = [64, 256, 1024]
        costs = [factor * size**exponent for size in sizes]
        return Line(label, sizes, costs, costs, costs, costs, None)

    lines = [line("dit", 2, 1), line("lingen", 1, 512), line("half", 1, 256)]
    summary = summarize(lines, "tokens")
    assert summary.crossings == pytest.approx([512, 256])
    text = "\n".join(summary.sentences)
    assert "dit: latency ~ tokens^2.00 (^2.00 between the last two), memory ~ tokens^2.00" in text
    assert "lingen is faster than dit above 512 tokens" in text
    assert "half is faster than lingen at every size, 2.00 times on average: no crossing" in text
    empty = Line("none", [], [], [], [], [], 64)
    assert summarize([lines[0], empty], "tokens").sentences[1:] == ["dit, none: no tokens at which both were measured"]


def test_a_line_of_the_table_and_of_the_figure(tmp_path: Path) -> None:
    point = _point()
    row = {name: str(value) for name, value in {**point.columns(), **_outcome(0.0123)}.items()}
    assert all(word in table_line(point, row) for word in ("4x2x2", "12.3 ms", "50%"))
    assert table_line(point, {**row, "status": SKIPPED}).endswith(SKIPPED)
    line = make_line("a", [(16, row), (32, {**row, "status": OUT_OF_MEMORY}), (64, {**row, "status": SKIPPED})])
    assert (line.sizes, line.seconds, line.memory, line.exhausted) == ([16], [0.0123], [2.0], 32)
    plot_scaling([line], tmp_path / "new" / "x.png", title="t", subtitle="s", axis="tokens", crossings=[20])
    assert (tmp_path / "new" / "x.png").read_bytes().startswith(b"\x89PNG")


def test_units() -> None:
    assert [count(x) for x in (0, 64, 999.4, 1024, 4.64e9, 2e12)] == ["0", "64", "999", "1.02k", "4.64G", "2T"]
    assert [duration(x) for x in (4.3e-4, 0.01234, 1.5, 123.4)] == ["430 us", "12.3 ms", "1.5 s", "123 s"]
    assert [memory(x) for x in (0, 2048, 2**20, 3.4 * 2**30)] == ["0 KiB", "2 KiB", "1 MiB", "3.4 GiB"]
    assert [exact(x) for x in (64, 8192, 3.4e6)] == ["64", "8,192", "3.4M"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"my notes", "holds other columns"),
        (b"x,y\n1,2\n3,4", "holds other columns"),
        (b"\xff\xfe\n", "is no table"),
        (",".join((*KEY, *VALUES)).encode() + b"\na,b\n", "line 2 has not the"),
    ],
    ids=["no table", "another table", "not text", "a short row"],
)
def test_a_foreign_file_is_named_and_left_alone(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"bench.csv.*{message}"):
        Ledger(path, KEY, VALUES)
    assert path.read_bytes() == content
