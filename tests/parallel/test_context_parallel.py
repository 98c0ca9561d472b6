"""A video split over gloo ranks against the whole on one: losses, gradients, and what is sent.

Processes are expensive, so each group of ranks is started once and runs every case; the tests read what it found.
"""

import json
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.mixers import MATE, LinearAttention, Mamba, Mamba2, Mixer, SelfAttention, WindowAttention
from lingen_kit.models.denoiser import Denoiser
from lingen_kit.parallel import context_group, context_parallel, current, gather_time, split_time
from lingen_kit.scans import Hilbert, Raster

MAMBA2 = partial(Mamba2, state_size=8, head_dim=8)
MIXERS: dict[str, tuple[Callable[..., Mixer], int]] = {
    "MATE": (
        partial(
            MATE,
            ma=partial(MAMBA2, groups=2, review_pool=(2, 2, 2)),
            te=partial(WindowAttention, heads=2, window=(4, 2, 2)),
            combine="weighted",
        ),
        4,
    ),
    "Mamba2-Hilbert": (partial(MAMBA2, scan=Hilbert()), 2),
    "Mamba2-forward": (partial(MAMBA2, bidirectional=False, conv_size=6), 2),
    "Mamba2-pool3": (partial(MAMBA2, scan=Raster(), review_pool=(3, 2, 2)), 1),
    "WindowAttention": (partial(WindowAttention, heads=2, window=(6, 4, 2)), 2),
    "WindowAttention-long": (partial(WindowAttention, heads=2, window=(16, 2, 2)), 2),
    "SelfAttention": (partial(SelfAttention, heads=2, rope=True), 2),
    "LinearAttention": (partial(LinearAttention, heads=2, rope=True), 2),
}
EVEN, UNEVEN = 8, 7  # the borders of uneven slabs cut windows and pooling windows
# Gradients of step biases and decays are small differences of large sums: in float32 one rank rounds them by 1e-4 as
# well. So it is all gradients together that are compared in float32, and each by itself in float64.
CASES = [
    (name, frames, dtype) for name in MIXERS for frames, dtype in ((EVEN, torch.float32), (UNEVEN, torch.float64))
] + [("MATE", UNEVEN, torch.float32)]
PATCHED = ("Mamba2-pool3", UNEVEN, torch.float32, 2)
SIZES = (2, 4)
ALONE = {"SSD": MIXERS["Mamba2-forward"][0], "linear attention": MIXERS["LinearAttention"][0]}


def build(mixer: Callable[..., Mixer], depth: int, patch: int = 1) -> Denoiser:
    """A tiny denoiser whose output depends on all of its weights."""
    torch.manual_seed(1)
    size = (8 * patch, 8, 6)
    model = Denoiser(2, 6, size, dim=16, depth=depth, mixer=mixer, patch=(patch, 2, 2), heads=2, mlp_ratio=1.0)
    for layer in (model.head, model.time_modulation):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return model


def inputs(frames: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Latents, what to predict of them, times, texts and their mask of two videos."""
    generator = torch.Generator().manual_seed(2)
    x, target = (torch.randn(2, 2, frames, 8, 6, generator=generator).to(dtype) for _ in range(2))
    text = torch.randn(2, 3, 6, generator=generator).to(dtype)
    return x, target, torch.tensor([0.2, 0.7], dtype=dtype), text, torch.tensor([[True] * 3, [True, False, False]])


@lru_cache
def whole(name: str, frames: int, dtype: torch.dtype, patch: int = 1) -> list[Tensor]:
    """Loss, gradient of the input and gradients of all weights on one rank."""
    model = build(*MIXERS[name], patch).to(dtype)
    x, target, *condition = inputs(frames * patch, dtype)
    loss = F.mse_loss(model(x.requires_grad_(), *condition), target)
    loss.backward()
    return [loss.detach(), x.grad, *(p.grad for p in model.parameters())]


def compare(case: tuple, group: dist.ProcessGroup | None = None) -> dict[str, float]:
    """Largest relative errors of the loss, of all gradients as one vector, and of any one gradient by itself.

    With a group of half of the ranks, each half has one of the two videos.
    """
    name, frames, dtype, patch = case if len(case) == 4 else (*case, 1)
    model = build(*MIXERS[name], patch).to(dtype)
    halves = 1 if group is None else 2
    batch = [t.chunk(halves)[dist.get_rank() * halves // dist.get_world_size()] for t in inputs(frames * patch, dtype)]
    x, target, *condition = batch
    with context_parallel(frames, group) as context:
        output = model(split_time(x.requires_grad_(), context), *condition)
        loss = F.mse_loss(output, split_time(target, context)) * context.share
        loss.backward()
    found = [loss.detach(), x.grad, *(p.grad for p in model.parameters())]
    expected = list(whole(*case))
    if group is not None:  # no rank has the gradient of both videos
        del found[1], expected[1]
    a, b = (torch.cat([value.flatten() for value in values]) for values in (found, expected))
    dist.all_reduce(a)
    a /= dist.get_world_size()
    sizes = [value.numel() for value in expected]
    parts = zip(a.split(sizes), b.split(sizes), strict=True)
    return {
        "loss": float((a[0] - b[0]).abs() / b[0]),
        "gradient": float((a[1:] - b[1:]).norm() / b[1:].norm()),
        "each": max(float((part - other).abs().max() / other.abs().max()) for part, other in parts),
    }


def mixed_precision() -> float:
    """Relative error of the loss under autocast, where halos and stretches are sent in 16 bits."""
    model = build(*MIXERS["MATE"])
    x, target, *condition = inputs(7, torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), context_parallel(7) as context:
        output = gather_time(model(split_time(x, context), *condition), context)
    loss = whole(*CASES[-1])[0]
    return float((F.mse_loss(output.float(), target) - loss).abs() / loss)


def sent(mixer: Callable[..., Mixer], frames: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that one rank sends to others in a forward and backward pass of one mixer."""
    total = 0
    real = dist.all_to_all_single

    def counting(out: Tensor, rows: Tensor, receive: list[int], send: list[int], group: object) -> None:
        nonlocal total
        row = rows[:1].numel() * rows.element_size()
        total += row * (sum(send) - send[dist.get_rank()])
        real(out, rows, receive, send, group)

    with context_parallel(frames) as context, monkeypatch.context() as patch:
        patch.setattr(dist, "all_to_all_single", counting)
        x = torch.randn(1, frames, 4, 3, 16, requires_grad=True)
        mixer(16, 0)(split_time(x, context, 1)).sum().backward()
    return total


def roundtrip(frames: int) -> bool:
    """Whether a split video comes back whole, and its gradient counts each rank's wish."""
    x = torch.randn(2, 3, 2 * frames, 4, requires_grad=True)
    with context_parallel(frames) as context:
        whole = gather_time(split_time(x, context), context)
        whole.sum().backward()
        slab = split_time(x.grad, context)
    return torch.equal(whole, x) and bool((slab == dist.get_world_size()).all())


def refusals() -> dict[str, str]:
    """Messages of calls that must fail, the same on every rank."""
    x, messages = torch.randn(1, 2, 4, 4, 16), {}

    def catch(name: str, frames: int, call: Callable[[], object]) -> None:
        with pytest.raises(ValueError) as error, context_parallel(frames):
            call()
        messages[name] = str(error.value)

    text, mask, t = torch.randn(1, 3, 6), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1)
    nested = build(partial(MATE, ma=partial(Mamba, state_size=4), te=WindowAttention), 1)
    catch("mixer alone", 4, lambda: Mamba(16, 0)(x))
    catch("mixer nested", 4, lambda: nested(torch.randn(1, 2, 2, 8, 6), t, text, mask))
    catch("group", 8, lambda: context_group(3))
    catch("too few frames", 1, lambda: None)
    catch("wrong slab", 32, lambda: MAMBA2(16, 0)(x))
    catch("few review tokens", 2 * dist.get_world_size(), lambda: MAMBA2(16, 0, review_pool=(64, 64, 64))(x))
    return messages


def work(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)  # the pool of threads of the parent does not survive a fork
    dist.init_process_group("gloo", init_method=f"file://{folder}/store{size}", rank=rank, world_size=size)
    torch.manual_seed(0)
    results: dict[str, object] = {}
    for case in CASES:
        results[" ".join(map(str, case))] = compare(case)
    results["patch"] = compare(PATCHED)
    results["two groups"] = compare(CASES[-1], context_group(size // 2))
    results["mixed precision"] = mixed_precision()
    monkeypatch = pytest.MonkeyPatch()
    results["sent"] = {name: [sent(mixer, n * size, monkeypatch) for n in (3, 12)] for name, mixer in ALONE.items()}
    results["roundtrip"] = [roundtrip(frames) for frames in (EVEN, UNEVEN)]
    results["refusals"] = refusals()
    results["left"] = current() is None
    (Path(folder) / f"{size}-{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size} ranks")
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each rank of a group found."""
    size, folder = request.param, tmp_path_factory.mktemp("ranks")
    for case in (*CASES, PATCHED):
        whole(*case)  # once: the ranks inherit what is cached
    mp.start_processes(work, (size, str(folder)), nprocs=size, start_method="fork")
    return [json.loads((folder / f"{size}-{rank}.json").read_text()) for rank in range(size)]


@pytest.mark.parametrize(("name", "frames", "dtype"), CASES, ids=lambda value: str(value))
def test_loss_and_gradients_are_those_of_one_rank(
    ranks: list[dict], name: str, frames: int, dtype: torch.dtype
) -> None:
    for found in ranks:
        error = found[f"{name} {frames} {dtype}"]
        assert max(error["loss"], error["gradient"]) <= 1e-5
        assert dtype == torch.float32 or error["each"] <= 1e-11


def test_a_token_may_have_several_frames_of_latents(ranks: list[dict]) -> None:
    assert all(max(found["patch"]["loss"], found["patch"]["gradient"]) <= 1e-5 for found in ranks)


def test_groups_share_a_batch_as_ranks_do(ranks: list[dict]) -> None:
    """The gradient averaged over all ranks, as DistributedDataParallel takes it, is that of the whole batch."""
    assert all(max(found["two groups"]["loss"], found["two groups"]["gradient"]) <= 1e-5 for found in ranks)


def test_autocast_sends_16_bits(ranks: list[dict]) -> None:
    assert all(found["mixed precision"] <= 0.02 for found in ranks)


@pytest.mark.parametrize("name", ALONE)
def test_states_cost_the_same_at_any_length(ranks: list[dict], name: str) -> None:
    for found in ranks:
        short, long = found["sent"][name]
        assert short == long > 0


def test_a_split_video_comes_back_whole(ranks: list[dict]) -> None:
    assert all(all(found["roundtrip"]) for found in ranks)


def test_errors_name_what_is_wrong(ranks: list[dict]) -> None:
    for found in ranks:
        messages = found["refusals"]
        assert "mixer Mamba does not" in messages["mixer alone"]
        assert "mixer Mamba does not" in messages["mixer nested"]
        assert "3 ranks a video" in messages["group"]
        assert "1 frames of tokens" in messages["too few frames"]
        assert "split_time" in messages["wrong slab"]
        assert "review tokens" in messages["few review tokens"]
        assert found["left"]
