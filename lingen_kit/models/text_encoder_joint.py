"""Several text encoders as one, as Movie Gen (arXiv 2410.13720) joins UL2, ByT5 and MetaCLIP.

Letters: B batch, L text tokens (L_i of encoder i), E channels (E_i of encoder i).
"""

import torch
from torch import Tensor, nn

from lingen_kit.errors import require_at_least
from lingen_kit.models.text_encoder import TextEncoder


class JointEncoder(TextEncoder):
    """Reads a prompt with several text encoders and puts their tokens one after another.

    A linear layer and a LayerNorm for each encoder bring its tokens to the common width. They train with the denoiser,
    as do encoders that are not frozen, and are in its checkpoints.

    Args:
        encoders: Text encoders, each with its own options. The order is that of the tokens.
        dim: Channels E.

    Raises:
        ValueError: If there is no encoder, or `dim` is below 1.
    """

    def __init__(self, encoders: list[TextEncoder], dim: int) -> None:
        """Build the projections."""
        super().__init__()
        require_at_least("JointEncoder", 1, dim=dim)
        if not encoders:
            raise ValueError("JointEncoder: the list of encoders is empty; name at least one, such as MiniLM")
        self.dim = dim
        self.encoders = nn.ModuleList(encoders)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(encoder.dim, dim), nn.LayerNorm(dim)) for encoder in encoders
        )

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode prompts with each encoder in turn; padding may stand between the tokens of two."""
        tokens, masks = zip(*(encoder(prompts) for encoder in self.encoders), strict=True)  # (B, L_i, E_i), (B, L_i)
        projected = [project(part) for project, part in zip(self.projections, tokens, strict=True)]  # (B, L_i, E)
        return torch.cat(projected, dim=1), torch.cat(masks, dim=1)
