"""MATE, the mixer of LinGen: a MAmba branch for the whole video beside a TEmporal attention branch for the vicinity.

The MA-branch (bidirectional Mamba2, rotary-major scan, review tokens) carries information over any distance at
linear cost; the TE-branch (temporal Swin attention) restores the short-range detail that a state space model loses.
Both read the same input and their outputs are added: the paper's body was not at hand, so this wiring is our reading.

Letters: B batch, T H W the grid of tokens, D channels.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lingen_kit.mixers.base import Mixer
from lingen_kit.mixers.mamba2 import Mamba2
from lingen_kit.mixers.window import WindowAttention
from lingen_kit.scans import Grid


class MATE(Mixer):
    """Sum of a global and a local mixer.

    Args:
        dim: Channels D.
        layer: Which mixer of its class it is, passed on to both branches.
        ma: The global branch; bidirectional Mamba2 with 2x2x2 review tokens if null.
        te: The local branch; windowed attention (TESA) if null.
    """

    def __init__(
        self,
        dim: int,
        layer: int,
        *,
        ma: Callable[[int, int], Mixer] | None = None,
        te: Callable[[int, int], Mixer] | None = None,
    ) -> None:
        """Build both branches with `(dim, layer)`."""
        super().__init__(dim, layer)
        self.ma = (ma or partial(Mamba2, review_pool=(2, 2, 2)))(dim, layer)
        self.te = (te or WindowAttention)(dim, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        return self.ma(x) + self.te(x)

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add."""
        return self.ma.flops(grid) + self.te.flops(grid)
