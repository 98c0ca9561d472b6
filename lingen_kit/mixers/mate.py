"""MATE, the mixer of LinGen: a MAmba branch for the whole video beside a TEmporal attention branch for the vicinity.

The MA-branch (bidirectional Mamba2, rotary-major scan, review tokens) carries information over any distance at
linear cost; the TE-branch (temporal Swin attention) restores the short-range detail that a state space model loses.
Both read the same input and their outputs are added: the paper's body was not at hand, so this wiring is our reading.

Letters: B batch, T H W the grid of tokens, D channels.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from lingen_kit.mixers.base import Mixer
from lingen_kit.mixers.mamba2 import Mamba2
from lingen_kit.mixers.window import WindowAttention
from lingen_kit.scans import Grid


class MATE(Mixer):
    """A global and a local mixer side by side.

    Args:
        dim: Channels D.
        layer: Which mixer of its class it is, passed on to both branches.
        ma: The global branch, any mixer; bidirectional Mamba2 with 2x2x2 review tokens if null.
        te: The local branch, any mixer; windowed attention (TESA) if null.
        branches: Which branches there are: `both`, or one of them alone (the paper's ablations).
        combine: How the outputs of both become one: their `sum`, or `weighted`, a sum whose two weights each token
            computes for itself; it starts out as the plain sum.

    Raises:
        ValueError: If one branch alone is to be weighted.
    """

    context_parallel = True  # if its branches can

    def __init__(
        self,
        dim: int,
        layer: int,
        *,
        ma: Callable[[int, int], Mixer] | None = None,
        te: Callable[[int, int], Mixer] | None = None,
        branches: Literal["both", "ma", "te"] = "both",
        combine: Literal["sum", "weighted"] = "sum",
    ) -> None:
        """Build the branches with `(dim, layer)`."""
        super().__init__(dim, layer)
        if combine == "weighted" and branches != "both":
            raise ValueError(f"MATE: combine {combine!r} weighs two branches, but branches is {branches!r}; use 'sum'")
        self.ma = (ma or partial(Mamba2, review_pool=(2, 2, 2)))(dim, layer) if branches != "te" else None
        self.te = (te or WindowAttention)(dim, layer) if branches != "ma" else None
        self.weights = nn.Linear(dim, 2) if combine == "weighted" else None
        if self.weights is not None:
            nn.init.zeros_(self.weights.weight)
            nn.init.zeros_(self.weights.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        outputs = [branch(x) for branch in (self.ma, self.te) if branch is not None]
        if self.weights is not None:
            weights = 2 * self.weights(x).softmax(-1)  # (B, T, H, W, 2), 1 and 1 at the start
            outputs = [weight * output for weight, output in zip(weights.split(1, -1), outputs, strict=True)]
        return outputs[0] if len(outputs) == 1 else outputs[0] + outputs[1]

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add."""
        flops = sum(branch.flops(grid) for branch in (self.ma, self.te) if branch is not None)
        return flops + (4 * grid[0] * grid[1] * grid[2] * self.dim if self.weights is not None else 0)
