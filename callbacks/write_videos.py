"""What `predict` leaves behind: a folder of videos with their captions."""

import json
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.sampling import clip_fps
from lingen_kit.data.sample import Batch
from lingen_kit.video import write_mp4


class WriteVideos(Callback):
    """Writes each predicted video as an mp4, and `metadata.jsonl` with its caption: a folder that trains as data.

    Args:
        folder: Where to write; with several ranks each writes its own `metadata_rank<n>.jsonl`.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is written before the first batch."""
        self.folder = folder

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the videos `(B, 3, T, H, W)` of a batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        with (self.folder / f"metadata{rank}.jsonl").open("w" if batch_idx == 0 else "a", encoding="utf-8") as file:
            for i, (video, caption) in enumerate(zip(outputs, batch["caption"], strict=True)):
                path = self.folder / f"{batch_idx:05d}_{i:03d}{rank}.mp4"
                write_mp4(path, video.float().cpu(), clip_fps(trainer, None))
                file.write(json.dumps({"file_name": path.name, "text": caption}, ensure_ascii=False) + "\n")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where they are."""
        if trainer.is_global_zero:
            print(f"videos and metadata.jsonl in {self.folder}")
