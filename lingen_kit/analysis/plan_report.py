"""What `plan` says: parameters, a line of cost and one of memory for each stage, and beside them what was measured."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from lingen_kit.analysis.bench import times
from lingen_kit.analysis.devices import Device
from lingen_kit.analysis.plan import Memory, Plan, global_batch
from lingen_kit.analysis.plan_step import Measured
from lingen_kit.analysis.units import count, duration, exact, memory

_COST = "{:16} {:>14} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9} {:>7}"
_COST_HEADER = _COST.format(
    "stage", "video", "tokens", "batch", "steps", "FLOPs/vid", "FLOPs/step", "s/step", "GPU-days", "paper's", "its MFU"
)
_MEMORY = "{:16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9} {:>13}"
_MEMORY_HEADER = _MEMORY.format(
    "stage", "weights", "gradients", "optimizer", "average", "encoders", "sharing", "batch", "activations", "total",
    "checkpointed",
)  # fmt: skip


def report(plans: Sequence[Plan], device: Device, mfu: float, shards: int) -> list[str]:
    """All plans in lines."""
    lines = []
    for plan in plans:
        parts = [f"{name} {number:,}" for name, number in plan.parameters.items() if number]
        line = f"parameters: {', '.join(parts)}; {plan.trainable:,} trained"
        if line not in lines:
            lines.append(line)
    lines += [f"not counted: {name}" for name in dict.fromkeys(name for plan in plans for name in plan.unknown)]
    lines += ["", _COST_HEADER, *(_cost(plan) for plan in plans)]
    days = [plan.gpu_days for plan in plans if plan.gpu_days is not None]
    if len(plans) > 1 and days:
        lines.append(f"{sum(days):,.1f} GPU-days in all")
    training = plans[0].training
    lines += [
        "",
        f"memory of each {device.name} at the peak of a step, {training.precision}"
        + (f", {shards} shards" if shards > 1 else ""),
        _MEMORY_HEADER,
        *(_memory(plan) for plan in plans),
        *filter(None, (_too_large(plan, device) for plan in plans)),
        "",
        f"time: {mfu:.0%} of {count(device.flops_per_second)} FLOP/s assumed (--mfu), or memory at "
        f"{count(device.bytes_per_second)} B/s where that takes longer",
        "checkpointed: total with a checkpoint at each block (model.denoiser.checkpoint_every 1), a third more FLOPs",
    ]
    return lines


def _cost(plan: Plan) -> str:
    training = plan.training
    return _COST.format(
        training.name[:16],
        times(*plan.video),
        exact(math.prod(plan.grid)),
        str(global_batch(training)),
        "?" if training.steps is None else exact(training.steps),
        count(plan.forward_flops),
        f"{plan.step_flops:.3g}",
        duration(plan.seconds),
        "?" if plan.gpu_days is None else f"{plan.gpu_days:.3g}" if plan.gpu_days < 100 else f"{plan.gpu_days:,.0f}",
        "" if training.paper_h100_days is None else f"{training.paper_h100_days:,g}",
        "" if plan.paper_mfu is None else f"{plan.paper_mfu:.0%}",
    ).rstrip()


def _memory(plan: Plan) -> str:
    sizes = [*asdict(plan.memory).values(), plan.memory.total, plan.memory_checkpointed.total]
    return _MEMORY.format(plan.training.name[:16], *(memory(size) if size else "-" for size in sizes))


def _too_large(plan: Plan, device: Device) -> str | None:
    """What to do where a step does not fit."""
    if device.memory is None or plan.memory.total <= device.memory:
        return None
    words = f"{plan.training.name}: does not fit the {memory(device.memory)} of a {device.name}"
    if plan.memory_checkpointed.total <= device.memory:
        return f"{words}; with a checkpoint at each block it does"
    return f"{words}; share weights and states over devices (--shards), or lower the batch"


def compare(name: str, predicted: Memory, plan: Plan, measured: Measured) -> str:
    """A real step beside its plan, in words."""
    flops = plan.forward_flops * plan.training.batch_size
    return "\n".join(
        (
            f"{name}: a real step in fp32 on this CPU took {duration(measured.seconds)}",
            f"  peak memory {memory(measured.peak_bytes)}, planned {memory(predicted.total)} "
            f"({predicted.total / measured.peak_bytes - 1:+.1%})",
            f"  FLOPs of a forward pass {count(measured.flops)} by torch's counter, {count(flops)} by formula "
            f"({flops / measured.flops - 1:+.1%})",
            f"  parameters {measured.parameters:,}",
        )
    )
