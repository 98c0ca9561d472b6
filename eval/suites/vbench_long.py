"""VBench-Long: VBench's dimensions for videos of five seconds and more, clip by clip.

Clips have two seconds, or ten for human action, temporal style and overall consistency, and for aesthetics and imaging,
whose prompts are those of the last. Subject and background are compared from clip to clip, too.
"""

from collections.abc import Sequence
from pathlib import Path

from eval.clips import Clips
from eval.metric import Metric
from eval.metrics.consistency import Consistency
from eval.metrics.dynamic_degree import Quirks
from eval.suites.vbench import VBench

__all__ = ["VBenchLong"]

_SHORT, _LONG = 2.0, 10.0
_LONG_CLIPS = {"human_action", "temporal_style", "overall_consistency", "aesthetic_quality", "imaging_quality"}


class VBenchLong(VBench):
    """The sixteen dimensions on the official prompts, of long videos.

    Args:
        full_info: The benchmark's VBench_full_info.json.
        configs: The folder vbench2_beta_long/configs of a checkout of VBench, whose tables bring clip-to-clip scores to
            the scale of the others. Without them subject and background consistency are unmapped, are called so, and
            there are no totals.
        dimensions: Which dimensions; all if null.
        weights: Folder of networks' weights; `evaluate weights` lists them.
        device: Where networks run: cpu, cuda or cuda:N.
        quirks: Whether to count as VBench's code does, or as its text says, where the two differ.
    """

    name = "vbench_long"

    def __init__(
        self,
        full_info: Path,
        configs: Path | None = None,
        dimensions: list[str] | None = None,
        weights: Path | None = None,
        device: str = "cpu",
        quirks: Quirks = "vbench",
    ) -> None:
        super().__init__(full_info, dimensions, weights, device, quirks)
        self.configs = Path(configs) if configs else None

    def metrics(self) -> Sequence[Metric]:
        """Those of VBench, each clip by clip."""
        return [self._of_clips(metric) for metric in super().metrics()]

    def _of_clips(self, metric: Metric) -> Metric:
        if not isinstance(metric, Consistency):
            long = {name.partition("/")[0] for name in metric.names} & _LONG_CLIPS
            return Clips(metric, _LONG if long else _SHORT)
        from eval.metrics.long_consistency import Dinov2Features, DreamSimFeatures, LongConsistency

        subject = metric.names == ("subject_consistency",)
        between = Dinov2Features(self.weights, self.device) if subject else DreamSimFeatures(self.device)
        table = f"{'subject' if subject else 'background'}_mapping_table.yaml"
        return LongConsistency(metric, between, _SHORT, self.configs / table if self.configs else None)
