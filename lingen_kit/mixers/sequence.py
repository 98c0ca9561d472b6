"""What every mixer that reads a sequence shares: the scan that flattens the grid, and review tokens.

Review tokens (LinGen, Sec. 3): a pooled overview of the whole video that the model reads before the video itself,
so that its state already knows the far end. They have no parameters and their outputs are dropped. How the paper
pools is not known; average pooling is our reading, its size an option.

Letters: B batch, T H W the grid of tokens, D channels, R review tokens, N = T*H*W.
"""

from abc import abstractmethod
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.mixers.base import Mixer, require_context_parallel
from lingen_kit.ops.backend import lower_for_autocast
from lingen_kit.parallel import Context, current, fetch
from lingen_kit.parallel.stretches import even_cuts, plan_route, to_slab, to_stretch
from lingen_kit.scans import Grid, RotaryMajor, Scan


class SequenceMixer(Mixer):
    """Flattens the grid along a scan, mixes the sequence, and puts it back.

    Args:
        dim: Channels D.
        layer: Which mixer of its class it is; selects the order of the scan.
        scan: The order of the tokens; rotary-major if None.
        review_pool: Average-pooling window (t, h, w) of the review tokens; no review tokens if None.
    """

    def __init__(self, dim: int, layer: int, scan: Scan | None, review_pool: Grid | None) -> None:
        """Keep the scan and the pooling window."""
        super().__init__(dim, layer)
        if review_pool is not None and min(review_pool) < 1:
            raise ValueError(
                f"review_pool {review_pool} must be three sizes of at least 1, or null for no review tokens"
            )
        self.scan = scan if scan is not None else RotaryMajor()
        self.review_pool = review_pool

    @abstractmethod
    def mix(self, sequence: Tensor, review: int) -> Tensor:
        """Mix `sequence` `(B, R + N, D)`, whose first `review` = R tokens every direction reads first.

        Returns:
            `(B, N, D)`: the outputs of the review tokens are dropped.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        context = current()
        if context is not None:
            return self._forward_slab(x, context)
        grid: Grid = (x.shape[1], x.shape[2], x.shape[3])
        sequence = self.scan.flatten(x, self.layer)
        review = 0
        if self.review_pool is not None:
            overview = self.scan.flatten(pool(x, self.review_pool), self.layer)
            review = overview.shape[1]
            sequence = torch.cat([overview, sequence], dim=1)
        return self.scan.unflatten(self.mix(sequence, review), grid, self.layer)

    def mix_stretch(self, pieces: list[Tensor], lengths: list[tuple[int, ...]], context: Context) -> Tensor:
        """Mix this rank's stretches of a sequence that is split over ranks, as `mix` would the whole.

        A mixer that has this says so by `context_parallel`.

        Args:
            pieces: This rank's stretch `(B, r, D)` of the review tokens, if there are any, and `(B, n, D)` of the
                video. Every direction reads the review tokens of all ranks first.
            lengths: For each of these the tokens of all ranks.
            context: The split.

        Returns:
            `(B, n, D)`.
        """
        raise NotImplementedError

    def _forward_slab(self, x: Tensor, context: Context) -> Tensor:
        """`forward` for this rank's slab of a video."""
        require_context_parallel(self)
        grid, area = context.grid(x), x.shape[2] * x.shape[3]
        (lowered,) = lower_for_autocast(x)  # as the projection does: sends half
        cuts = tuple(border * area for border in context.borders)
        route = plan_route(self.scan, self.layer, grid, context.borders, cuts, context.rank, x.device)
        pieces, lengths = [to_stretch(lowered, route, context)], [_differences(cuts)]
        if self.review_pool is not None:
            overview, borders = pool_slab(x, self.review_pool, context)
            (overview,) = lower_for_autocast(overview)
            size = (borders[-1], overview.shape[2], overview.shape[3])
            cuts = even_cuts(size[0] * size[1] * size[2], context.size)
            review = plan_route(self.scan, self.layer, size, borders, cuts, context.rank, x.device)
            pieces.insert(0, to_stretch(overview, review, context))
            lengths.insert(0, _differences(cuts))
            if 0 in lengths[0]:
                raise ValueError(
                    f"{type(self).__name__}: {cuts[-1]} review tokens cannot be split over {context.size} ranks; "
                    f"choose a review_pool smaller than {self.review_pool}, null for none, or fewer ranks"
                )
        y = self.mix_stretch(pieces, lengths, context)
        return to_slab(y, (x.shape[1], x.shape[2], x.shape[3]), route, context)

    def sequence_length(self, grid: Grid) -> int:
        """Tokens that `mix` reads on a grid, review tokens included."""
        tokens = grid[0] * grid[1] * grid[2]
        if self.review_pool is None:
            return tokens
        sizes = [-(-size // window) for size, window in zip(grid, self.review_pool, strict=True)]
        return tokens + sizes[0] * sizes[1] * sizes[2]

    def extra_repr(self) -> str:
        """The scan and the review tokens."""
        return f"scan={self.scan!r}, review_pool={self.review_pool}"


def review_last(x: Tensor, review: int) -> Tensor:
    """Move the first `review` tokens of `(B, R + N, ...)` to the end, where the reverse direction starts."""
    return torch.cat([x[:, review:], x[:, :review]], dim=1) if review else x


def pool_slab(x: Tensor, window: Grid, context: Context) -> tuple[Tensor, tuple[int, ...]]:
    """`pool` for slabs `(B, t, H, W, D)` of a video: each rank pools the windows whose first frame it holds.

    Returns:
        This rank's part, which may be empty, and where each rank's part starts and the last one's ends.
    """
    frames = min(context.frames, window[0])
    borders = tuple(-(-border // frames) for border in context.borders)
    wanted = [
        (min(first * frames, context.frames), min(end * frames, context.frames)) for first, end in pairwise(borders)
    ]
    x = fetch(x, context.borders, wanted, context)
    return pool(x, window) if x.shape[1] else x[:, :, :: window[1], :: window[2]], borders


def _differences(cuts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(end - start for start, end in pairwise(cuts))


def pool(x: Tensor, window: Grid) -> Tensor:
    """Average `(B, T, H, W, D)` over windows; one at the border averages the tokens that it has."""
    window = (min(x.shape[1], window[0]), min(x.shape[2], window[1]), min(x.shape[3], window[2]))
    if all(size % w == 0 for size, w in zip(x.shape[1:4], window, strict=True)):
        for axis, w in zip((1, 3, 5), window, strict=True):
            x = x.unflatten(axis, (-1, w))  # (B, T', t, H', h, W', w, D)
        return x.mean(dim=(2, 4, 6))
    channels_first = x.movedim(-1, 1).to(torch.promote_types(x.dtype, torch.float32))  # no CPU kernel for 16 bits
    pooled = F.avg_pool3d(channels_first, window, ceil_mode=True, count_include_pad=False)
    return pooled.movedim(1, -1).to(x.dtype)
