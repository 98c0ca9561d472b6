"""The training task of ShapeBench's trained judge: what does a clip of moving shapes show?

Clips are made worse at random (noise, blur, shifted colors, flicker), as those of models are, so that the judge need
not see perfect pixels. As in the other tasks, everything random in a step is a function of (seed, step, place in the
global batch).

Letters: B clips, T frames, H height, W width, K colors.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from eval.shapes.judge_network import SLOT_COLORS, Reading, ShapeJudgeNetwork
from lingen_kit.data.sample import Batch
from lingen_kit.data.seeds import derive_seed
from lingen_kit.data.shapes_grammar import ACTIONS, BACKGROUNDS, SHAPES, SIZES, canonical_color
from lingen_kit.errors import require_at_least
from lingen_kit.tasks.schedule import warmup_cosine

__all__ = ["ShapeJudging"]

_WORDS = {"shape": SHAPES, "action": ACTIONS, "size": tuple(SIZES)}


class ShapeJudging(LightningModule):
    """Trains the judge on `lingen_kit.data.MovingShapes`, whose truth is known.

    Logs the shares of right words in validation, on clean clips: `validation/objects` (exactly the right colors are
    there), `shape`, `action`, `size` and `background`. At the end of training the weights, averaged if there is an
    average, go to `judge.safetensors` in the run folder, in half precision.

    Args:
        network: The judge; the default one if null.
        frames: Frames of a video (taken from the data).
        height: Height of a video in pixels (taken from the data).
        width: Width of a video in pixels (taken from the data).
        fps: Frames per second of a video (taken from the data).
        optimizer: Class path of the optimizer and its options.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule_steps: Length of the cosine schedule (taken from trainer.max_steps). Constant after warm-up if -1.
        final_lr_ratio: Learning rate at the end of the schedule over its peak.
        position_weight: Weight of the error of positions, in shares of the frame; those of words are 1.
        damage: How much worse clips are made: 0 leaves them, 1 is the default.
        seed: Seed of what makes clips worse.
    """

    def __init__(
        self,
        network: ShapeJudgeNetwork | None = None,
        *,
        frames: int = 8,
        height: int = 32,
        width: int = 32,
        fps: float = 8.0,
        optimizer: Callable[[Iterable[Any]], Optimizer] = AdamW,
        warmup_steps: int = 50,
        schedule_steps: int = -1,
        final_lr_ratio: float = 0.01,
        position_weight: float = 10.0,
        damage: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_at_least("ShapeJudging", 0, warmup_steps=warmup_steps, position_weight=position_weight, damage=damage)
        self.network = network or ShapeJudgeNetwork()
        self.optimizer = optimizer
        self.warmup_steps, self.schedule_steps, self.final_lr_ratio = warmup_steps, schedule_steps, final_lr_ratio
        self.position_weight, self.damage, self.seed = position_weight, damage, seed
        names = ("loss", "objects", "background", *_WORDS)
        self.validated = nn.ModuleDict({name: MeanMetric(nan_strategy=float("nan")) for name in names})

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The summed losses of a batch of clips that were made worse."""
        video = _video_of(batch)
        step = derive_seed("shape_judge", self.seed, self.global_step, batch_idx)
        first = self.global_rank * len(video)
        clips = [worsened(clip, derive_seed(step, first + index), self.damage) for index, clip in enumerate(video)]
        parts = self.losses(self.network(torch.stack(clips)), _truth(batch, video))
        loss = torch.stack(list(parts.values())).sum()
        for name, value in {"loss": loss, **parts}.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss", batch_size=len(video), sync_dist=True)
        return loss

    def losses(self, reading: Reading, truth: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parts of the loss by name; words and positions count for the objects that are there.

        Args:
            reading: What the network says.
            truth: `present` `(B, K)`, `shape`, `action` and `size` `(B, K)` indices, `positions` `(B, K, T, 2)` in
                shares of the frame, and `background` `(B,)`.
        """
        there = truth["present"]
        parts = {
            "present": len(SLOT_COLORS)
            * F.binary_cross_entropy_with_logits(reading.present, there.to(reading.present.dtype)),
            "background": F.cross_entropy(reading.background, truth["background"]),
            "positions": self.position_weight * (reading.positions - truth["positions"])[there].abs().mean(),
        }
        for word in _WORDS:
            parts[word] = F.cross_entropy(getattr(reading, word)[there], truth[word][there])
        return parts

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss and the shares of right words on the clips as they are."""
        video = _video_of(batch)
        reading, truth = self.network(video), _truth(batch, video)
        counts = torch.tensor([place is not None for place in batch.get("places") or [0] * len(video)])
        counts = counts.to(video.device).float()
        there = truth["present"]
        figures = {
            "loss": (torch.stack(list(self.losses(reading, truth).values())).sum().expand(len(video)), counts),
            "objects": (((reading.present > 0) == there).all(1).float(), counts),
            "background": ((reading.background.argmax(1) == truth["background"]).float(), counts),
        }
        for word in _WORDS:
            right = (getattr(reading, word).argmax(-1) == truth[word]).float()
            figures[word] = (right, there * counts[:, None])
        for name, (values, weights) in figures.items():
            metric: MeanMetric = self.validated[name]  # type: ignore[assignment]
            metric.update(values, weight=weights)
            self.log(f"validation/{name}", metric, on_step=False, on_epoch=True, prog_bar=name in ("loss", "shape"))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same measurement as validation."""
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, with no weight decay on vectors, and warm-up followed by a cosine."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = self.optimizer(groups)
        schedule = LambdaLR(
            optimizer,
            lambda step: warmup_cosine(step, self.warmup_steps, self.schedule_steps, self.final_lr_ratio),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_end(self) -> None:
        """Write the weights: by now the model holds the average, if there is one."""
        folder = self.trainer.log_dir
        if folder is not None and self.trainer.is_global_zero:
            path = Path(folder) / "judge.safetensors"
            weights = {name: value.half().contiguous().cpu() for name, value in self.network.state_dict().items()}
            save_file(weights, path)
            rank_zero_info(f"judge: {path}")


def worsened(clip: Tensor, seed: int, damage: float) -> Tensor:
    """A clip `(3, T, H, W)` in [-1, 1] as a model might have made it.

    Args:
        clip: The clip.
        seed: Of what happens to it.
        damage: 0 leaves it as it is; 1 is the usual strength.
    """
    if damage == 0:
        return clip
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    frames = clip.shape[1]
    chances = draw(4)
    shift = (draw(3, 1, 1, 1) - 0.5) * 0.3 * (chances[0] < 0.7) + (draw(1, frames, 1, 1) - 0.5) * 0.2 * (
        chances[1] < 0.3
    )
    result = clip + damage * shift.to(clip)
    if chances[2] < 0.5:
        blurred = F.avg_pool2d(F.pad(result, (1, 1, 1, 1), mode="replicate"), 3, 1)
        result = torch.lerp(result, blurred, float(draw(1)) * min(1.0, damage))
    if chances[3] < 0.7:
        noise = torch.randn(clip.shape, generator=generator)
        result = result + damage * 0.15 * float(draw(1)) * noise.to(clip)
    return result.clamp(-1, 1)


def _truth(batch: Batch, video: Tensor) -> dict[str, Tensor]:
    """What the clips show, by slot; see `ShapeJudging.losses`."""
    count, _, frames, height, width = video.shape
    slots = len(SLOT_COLORS)
    present = torch.zeros(count, slots, dtype=torch.bool)
    words = {word: torch.zeros(count, slots, dtype=torch.long) for word in _WORDS}
    positions = torch.zeros(count, slots, frames, 2)
    background = torch.zeros(count, dtype=torch.long)
    for index, attributes in enumerate(batch["attributes"]):
        if "background" not in attributes:
            raise ValueError("the judge learns from moving shapes, whose truth is known: give it MovingShapes")
        background[index] = list(BACKGROUNDS).index(attributes["background"])
        for thing in attributes["objects"]:
            slot = SLOT_COLORS.index(canonical_color(thing["color"]))
            present[index, slot] = True
            for word, known in _WORDS.items():
                words[word][index, slot] = known.index(thing[word])
            # Pixel centers are at whole numbers: the left edge of the frame is at -0.5.
            center = (torch.as_tensor(thing["positions"]) + 0.5) / torch.tensor([width, height])
            positions[index, slot] = center.float()
    truth = {"present": present, "positions": positions, "background": background, **words}
    return {name: value.to(video.device) for name, value in truth.items()}


def _video_of(batch: Batch) -> Tensor:
    if "video" not in batch:
        raise ValueError("the judge learns from videos, and this data holds cached latents: give it MovingShapes")
    return batch["video"]
