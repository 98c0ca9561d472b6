"""Plans beside real steps: storages counted on fake and on real tensors, extrapolation, states, FLOPs, and the sums."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.analysis import memory
from lingen_kit.analysis.bench import on_meta
from lingen_kit.analysis.devices import DEVICES, Device, find_device
from lingen_kit.analysis.measure import in_child
from lingen_kit.analysis.memory import (
    Activations,
    LiveBytes,
    allocate,
    checkpointing,
    loss,
    optimizer_bytes,
    trace_step,
)
from lingen_kit.analysis.plan import DAY, Training, plan_stage
from lingen_kit.analysis.plan_report import report
from lingen_kit.analysis.plan_step import Measured, measure_step
from lingen_kit.tasks import MuonAdamW

M = "lingen_kit.mixers."
MAMBA2 = {"class_path": M + "Mamba2", "init_args": {"state_size": 16, "head_dim": 48, "expand": 1}}
WINDOW = {"class_path": M + "WindowAttention", "init_args": {"window": [4, 2, 2]}}
MIXERS: dict[str, Any] = {
    "LinGen": {"class_path": M + "MATE", "init_args": {"ma": MAMBA2, "te": WINDOW}},
    "DiT": M + "SelfAttention",
    "hybrid": [*[M + "LinearAttention"] * 3, M + "SelfAttention"],
    "Mamba": M + "Mamba",
    "GatedDeltaNet": M + "GatedDeltaNet",
    "LinearAttention": M + "LinearAttention",
}
TINY = {"dim": 48, "depth": 2, "patch": [1, 4, 4]}
SIZE = (4, 16, 16)  # 64 tokens


class OnOtherDevices(torch.optim.SGD):
    """An optimizer that has no step for the CPU."""

    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no kernel for this device")


class Task(nn.Module):
    """The part of the training task that is planned."""

    def __init__(self, mixer: Any, optimizer: Any = torch.optim.AdamW, size: Any = SIZE, **denoiser: Any) -> None:
        super().__init__()
        arguments = {**TINY, **denoiser, "mixer": mixer}
        named = {"class_path": "lingen_kit.models.Denoiser", "init_args": arguments}
        frames, height, width = size
        self.pipeline = on_meta({"denoiser": named, "frames": frames, "height": height, "width": width, "fps": 8.0})
        self.optimizer = optimizer

    def losses(self, latents: Tensor, text: Tensor, mask: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        objective = self.pipeline.objective
        x_t = objective.add_noise(latents, noise, t)
        output = self.pipeline.denoiser(*objective.network_input(x_t, t), text, mask)
        return objective.loss(output, latents, noise, x_t, t)

    def configure_optimizers(self) -> Any:
        hidden = [m.weight for m in self.pipeline.denoiser.blocks.modules() if isinstance(m, nn.Linear)]
        others = [p for p in self.parameters() if all(p is not weight for weight in hidden)]
        return {"optimizer": self.optimizer([{"params": hidden, "hidden": True}, {"params": others}])}


def _real(task: Task) -> Task:
    """A twin on the CPU, whose weights are random."""
    twin = copy.deepcopy(task)
    allocate(twin, torch.float32)
    for tensor in (*twin.parameters(), *twin.buffers()):
        nn.init.normal_(tensor, std=0.02)
    return twin


def _peak(twin: Task, batch: int) -> int:
    """Peak of the storages of a real step."""
    with LiveBytes((*twin.parameters(), *twin.buffers())) as held:
        for parameter in twin.parameters():
            parameter.register_post_accumulate_grad_hook(lambda p: held.disown(p.grad))
        loss(twin, SIZE, batch, 8, None).backward()
    return held.peak


@pytest.mark.parametrize("mixer", ["LinGen", "DiT"])
def test_fake_tensors_hold_what_real_ones_do(mixer: str) -> None:
    task = Task(MIXERS[mixer], depth=1)
    assert max(trace_step(task, SIZE, 2, 8, "32-true")) == pytest.approx(_peak(_real(task), 2), rel=0.01)
    assert all(p.is_meta for p in task.parameters())


def test_half_precision_and_checkpoints_take_less() -> None:
    task = Task(MIXERS["DiT"])
    full = max(trace_step(task, SIZE, 4, 8, "32-true"))
    assert 0.4 * full < max(trace_step(task, SIZE, 4, 8, "bf16-mixed")) < 0.9 * full
    assert 0.45 * full < max(trace_step(task, SIZE, 4, 8, "bf16-true")) < 0.65 * full
    with checkpointing(task.pipeline.denoiser, 1):
        assert max(trace_step(task, SIZE, 4, 8, "32-true")) < 0.75 * full


@pytest.mark.parametrize("every", [0, 1], ids=["kept", "checkpointed"])
def test_large_steps_are_extrapolated_in_depth_batch_and_tokens(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task([M + "LinearAttention", M + "SelfAttention"], depth=5, checkpoint_every=every)
    whole, twice = (max(trace_step(task, SIZE, batch, 8, "bf16-mixed")) for batch in (5, 10))
    # With fewer tokens the peak of the checkpointed step is one of weights alone.
    monkeypatch.setattr(memory, "TRACED_TOKENS", 256 if every else 128)
    monkeypatch.setattr(memory, "TRACED_WIDTHS", 1)
    traced: list[Any] = []
    trace = memory.trace_step
    monkeypatch.setattr(memory, "trace_step", lambda task, *rest: traced.append(rest) or trace(task, *rest))
    activations = Activations()
    assert activations(task, SIZE, 5, 8, "bf16-mixed") == pytest.approx(whole, rel=0.03)
    assert len(task.pipeline.denoiser.blocks) == 5
    assert {batch for _, batch, *_ in traced} == {2, 3}
    before = len(traced)
    assert activations(task, SIZE, 10, 8, "bf16-mixed") == pytest.approx(twice, rel=0.03)
    assert len(traced) == before


def test_the_state_of_an_optimizer_is_asked_of_the_optimizer() -> None:
    task = Task(MIXERS["DiT"], MuonAdamW)
    parameters = sum(p.numel() for p in task.parameters())
    hidden = sum(m.weight.numel() for m in task.pipeline.denoiser.blocks.modules() if isinstance(m, nn.Linear))
    assert optimizer_bytes(task, torch.float32) == 8 * (parameters - hidden) + 4 * hidden
    task.optimizer = torch.optim.AdamW
    assert optimizer_bytes(task, torch.bfloat16) == 4 * parameters
    task.optimizer = lambda groups: torch.optim.SGD(groups, lr=1.0)
    assert optimizer_bytes(task, torch.float32) == 0
    task.optimizer = OnOtherDevices
    with pytest.raises(ValueError, match=r"optimizer cannot step on the CPU.*no kernel"):
        optimizer_bytes(task, torch.float32)


def test_a_plan_adds_up() -> None:
    task = Task(MIXERS["DiT"], depth=1)
    training = Training("a", 2, devices=4, accumulate=3, steps=10, average=True, paper_h100_days=2.0)
    device = Device("slow", 1e9, 1e15, None)
    plan = plan_stage(task, training, device, mfu=0.5, text_tokens=8)
    parameters = sum(plan.parameters.values())
    assert parameters == plan.trainable == sum(p.numel() for p in task.parameters())
    assert plan.memory.weights == plan.memory.gradients == plan.memory.average == plan.memory.sharing == 4 * parameters
    assert (plan.memory.optimizer, plan.memory.encoders, plan.memory.batch) == (8 * parameters, 0, 0)
    assert plan.memory.total == 24 * parameters + plan.memory.activations
    flops = 3 * plan.forward_flops + plan.encoder_flops
    assert plan.step_flops == flops * 24
    assert plan.seconds == pytest.approx(flops * 6 / 0.5e9)
    assert plan.gpu_days == pytest.approx(plan.seconds * 40 / DAY)
    assert plan.paper_mfu == pytest.approx(flops * 240 / (2 * DAY * 989e12))
    with checkpointing(task.pipeline.denoiser, 1):
        again = plan_stage(task, training, device, mfu=0.5, shards=2, text_tokens=8)
    assert again.step_flops == plan.step_flops and 1.2 < again.seconds / plan.seconds < 1.34
    assert again.memory.weights == plan.memory.weights // 2
    assert again.memory.total == again.memory_checkpointed.total
    columns = plan.columns()
    assert (columns["tokens"], columns["global_batch"], columns["memory"]["total"]) == (64, 24, plan.memory.total)
    slow = plan_stage(task, training, Device("slow", 1e15, 1e6, 1e6), text_tokens=8)
    assert slow.seconds > 1 and "does not fit" in "\n".join(report([slow, slow], Device("slow", 1, 1, 1e6), 0.4, 1))


def test_what_cannot_be_planned_is_refused() -> None:
    task = Task(MIXERS["DiT"], depth=1)
    with pytest.raises(ValueError, match=r"precision '8-bit'.*bf16-mixed"):
        plan_stage(task, Training("a", 1, precision="8-bit"), DEVICES["H100"])
    with pytest.raises(ValueError, match="3 shards do not divide the 4 devices"):
        plan_stage(task, Training("a", 1, devices=4), DEVICES["H100"], shards=3)
    with pytest.raises(ValueError, match=r"device 'B200'.*H100, H200, A100, 4090, cpu"):
        find_device("B200")


@pytest.mark.parametrize("mixer", ["DiT", "LinearAttention"])
def test_flops_are_those_of_torchs_counter(mixer: str) -> None:
    task = Task(MIXERS[mixer], dim=192, depth=2)
    with FlopCounterMode(display=False) as counter:
        loss(_real(task), SIZE, 1, 8, None)
    assert task.pipeline.denoiser.flops(SIZE, 8) == pytest.approx(counter.get_total_flops(), rel=0.02)


def _large(mixer: str) -> Task:
    return Task(MIXERS[mixer], size=(16, 64, 64), dim=192, depth=4)


def _measure(mixer: str) -> Measured:
    return measure_step(_large(mixer), Training(mixer, 1, average=True), 64)


@pytest.mark.slow
@pytest.mark.parametrize("mixer", MIXERS)
def test_plans_are_within_a_tenth_of_the_peak_of_real_steps(mixer: str) -> None:
    plan = plan_stage(_large(mixer), Training(mixer, 1, average=True), DEVICES["H100"], text_tokens=64)
    measured = in_child(_measure, mixer)
    assert plan.memory.total == pytest.approx(measured.peak_bytes, rel=0.1)
    assert sum(plan.parameters.values()) == measured.parameters
