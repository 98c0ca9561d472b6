"""Fully sharded data parallelism: each rank holds a share of weights, gradients, optimizer state and average.

On torch's FSDP2 (`fully_shard`; the idea is ZeRO's, arXiv 1910.02054): a module's weights are gathered just before it
runs, forward and backward, and its gradients are averaged into the shares.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


class FSDP2(ModelParallelStrategy):
    """Shards the model over all ranks, and saves checkpoints that know nothing of it.

    A checkpoint is one file with whole tensors, gathered on rank 0: any number of ranks, with or without sharding, can
    go on from it, and `sample` reads it. Lightning's own class numbers the optimizer's state by the order of the
    model's parameters; here it is that of the optimizer, as everywhere else.

    On the command line it is `--trainer.strategy fsdp2`; with options, in YAML, its class path.

    Args:
        timeout_minutes: After so long without an answer from another rank a rank gives up with an error.
        process_group_backend: `nccl` on GPUs and `gloo` on CPUs if null.
    """

    def __init__(self, timeout_minutes: float = 30.0, process_group_backend: str | None = None) -> None:
        """Leave the number of ranks to the trainer."""
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timedelta(minutes=timeout_minutes),
        )

    def setup_environment(self) -> None:
        """Shard over all ranks of all nodes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """The trainer asks for it, with `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole weights on rank 0, nothing elsewhere. All ranks must ask."""
        assert self.lightning_module is not None
        return self._on_rank_zero(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole optimizer state on rank 0, numbered as the optimizer does. All ranks must ask."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        state = optimizer.state_dict()
        whole_states = {i: self._on_rank_zero(values) for i, values in state["state"].items()}
        return {**state, "state": whole_states} if self.is_global_zero else {}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the file on each rank; nothing is loaded yet."""
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Each rank takes its shards of whole weights."""
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        weights = {
            name: shards_of(value, own[name]) if name in own else value
            for name, value in checkpoint["state_dict"].items()
        }
        self.lightning_module.load_state_dict(weights, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each rank takes its shards of whole optimizer state."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                i: {key: shards_of(value, parameters[i]) for key, value in values.items()}
                for i, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})

    def _on_rank_zero(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Gather values one by one, so that only rank 0 ever holds more than one whole tensor."""
        gathered = {}
        for name, value in values.items():
            gathered_value = whole(value)
            if self.is_global_zero:
                gathered[name] = gathered_value
        return gathered


StrategyRegistry.register("fsdp2", FSDP2, description="Fully sharded data parallelism")


def shard(module: nn.Module, parts: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Shard a module in place, so that its `parts` are gathered one after the other and the rest with its own call.

    Weights stay in their type, so that a precision such as bf16-mixed means what it means elsewhere: products in bf16,
    and step sizes and decays of state spaces, which rounding would change, in fp32. Frozen weights outside of the
    parts, such as those of a text encoder from a hub, stay whole on each rank.

    Args:
        module: What is called in training.
        parts: Modules inside it, none within another, called in this order.
        mesh: One-dimensional mesh of the ranks.
    """
    for part in parts:
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    frozen = {p for p in module.parameters() if not p.requires_grad and not isinstance(p, DTensor)}
    # By default the outermost weights stay gathered after a forward pass without a backward one, that of a validation.
    # Training would then go on with those, whatever is loaded into the shards in between, such as the average.
    fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)


def whole(value: Any) -> Any:
    """A sharded tensor, gathered, on the CPU; all ranks must ask. Anything else as it is."""
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def shards_of(value: Any, like: Tensor) -> Any:
    """This rank's shards of a whole tensor that it holds, laid out as another of its shape; anything else as it is."""
    if not isinstance(value, Tensor) or not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    local = value.detach().to(like.device)
    return distribute_tensor(local, like.device_mesh, like.placements, src_data_rank=None)
