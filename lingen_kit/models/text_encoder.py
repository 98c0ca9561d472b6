"""Text encoders: prompts in, tokens out. The built-in one needs no download and trains with the denoiser.

Letters: B batch, L text tokens, E channels.
"""

import re
import zlib
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lingen_kit.errors import require_at_least
from lingen_kit.mixers.attention import split_heads

_WORD = re.compile(r"\w+|[^\w\s]")


class TextEncoder(nn.Module, ABC):
    """Interface of every text encoder.

    Attributes:
        dim: Channels E of the tokens.
    """

    dim: int

    @abstractmethod
    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode `B` prompts; the empty prompt is the unconditional one.

        Returns:
            Tokens `(B, L, E)` and a mask `(B, L)` that is True where a token is one. Every row has at least one.
        """


class WordEncoder(TextEncoder):
    """Trainable word-level transformer with an open vocabulary.

    Words are hashed twice into one table and the two rows are added, so that two words are confused only if both
    hashes collide (hash embeddings, arXiv 1709.03933). There is no vocabulary to build, store or mismatch.

    Args:
        dim: Channels E.
        depth: Transformer layers over the words; they let a color find its object.
        heads: Attention heads; must divide `dim`.
        buckets: Rows of the table of words.
        max_words: Longest prompt; the words after it are dropped.
    """

    def __init__(
        self, dim: int = 96, *, depth: int = 1, heads: int = 4, buckets: int = 2048, max_words: int = 64
    ) -> None:
        """Build the table, the positions and the layers."""
        super().__init__()
        require_at_least("WordEncoder", 1, dim=dim, heads=heads, buckets=buckets, max_words=max_words)
        require_at_least("WordEncoder", 0, depth=depth)
        split_heads(dim, heads, "the text encoder")
        self.dim, self.buckets, self.max_words = dim, buckets, max_words
        self.words = nn.Embedding(buckets, dim)
        self.start = nn.Parameter(torch.randn(dim))
        self.position = nn.Parameter(0.02 * torch.randn(max_words + 1, dim))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(depth)
        )

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode prompts; the first token of each is a learned start token, all that the empty prompt has."""
        device = self.start.device
        hashes = [[_hash(word, self.buckets) for word in _WORD.findall(p.lower())[: self.max_words]] for p in prompts]
        lengths = torch.tensor([len(row) + 1 for row in hashes], device=device)
        # At least one column, masked where it is padding: a batch of empty prompts still reaches every parameter,
        # which training on several ranks relies on.
        longest = max([1, *(len(row) for row in hashes)])
        table = torch.tensor([row + [(0, 0)] * (longest - len(row)) for row in hashes], device=device, dtype=torch.long)
        tokens = torch.cat([self.start.expand(len(prompts), 1, -1), self.words(table).sum(2)], dim=1)
        tokens = tokens + self.position[: longest + 1]
        mask = torch.arange(longest + 1, device=device) < lengths[:, None]
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=~mask)
        return tokens, mask


def _hash(word: str, buckets: int) -> tuple[int, int]:
    """Two stable hashes of a word (Python's own changes from process to process)."""
    data = word.encode()
    return zlib.crc32(data) % buckets, zlib.crc32(b"\x01" + data[::-1]) % buckets
