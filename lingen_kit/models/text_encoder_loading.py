"""Encoder networks, configs and tokenizers of the package transformers, with errors that say what to do.

A model is a folder, as `save_pretrained` of a network and of its tokenizer fill one, or a name on the Hugging Face hub,
which is read through its cache. No code that comes with a model is ever executed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lingen_kit.errors import MissingPackage

ENCODERS = {
    "t5": "T5EncoderModel",  # ByT5 and UL2, too
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "clip": "CLIPTextModel",  # MetaCLIP, too
    "clip_text_model": "CLIPTextModel",
    "metaclip_2": "MetaClip2TextModel",
    "metaclip_2_text_model": "MetaClip2TextModel",
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "distilbert": "DistilBertModel",
    "deberta-v2": "DebertaV2Model",
    "modernbert": "ModernBertModel",
}
"""The class for each `model_type` that a config may have."""

_VOCABULARIES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model")


def transformers() -> Any:
    """The package.

    Raises:
        MissingPackage: If it is not installed.
    """
    # Captions come a few at a time. With threads of its own it would complain, or hang, when loader workers are forked.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import transformers as package
    except ImportError as error:
        raise MissingPackage(
            'pretrained text encoders need the package transformers: pip install "lingen_kit[hub]"'
        ) from error
    return package


def read_config(model: str, revision: str | None, *, download: bool = True) -> Any:
    """The config of a model.

    Args:
        model: Folder or name on the hub.
        revision: Branch, tag or commit on the hub; its main branch if None.
        download: Whether the hub may be asked for what its cache lacks.

    Raises:
        MissingPackage: If transformers is not installed.
        ValueError: If there is no such model, or it cannot be had.
    """
    auto = transformers().AutoConfig
    folder = Path(model).expanduser()
    if folder.is_dir():
        # transformers would guess the kind of model from the folder's name.
        if not (folder / "config.json").is_file():
            raise ValueError(f"text encoder {model}: the folder has no config.json; save_pretrained writes one")
    elif folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ValueError(f"text encoder {model}: there is no such folder")
    with _explained(model, "config"):
        return auto.from_pretrained(_where(model), revision=revision, local_files_only=not download)


def network_class(model: str, config: Any) -> Any:
    """The class of the encoder that a config describes.

    Raises:
        ValueError: If it describes something else, such as a decoder.
    """
    decodes = getattr(config, "is_decoder", False)
    if config.model_type not in ENCODERS or decodes:
        raise ValueError(
            f"text encoder {model}: {config.model_type}{' as a decoder' if decodes else ''} is no encoder that the kit "
            f"knows; these are: {', '.join(ENCODERS)}"
        )
    return getattr(transformers(), ENCODERS[config.model_type])


def read_network(model: str, revision: str | None, config: Any, dtype: torch.dtype) -> nn.Module:
    """The network of a model with its weights, on the CPU.

    Raises:
        ValueError: If it is no encoder, or weights are missing: nothing is ever left as it was initialized.
    """
    kind = network_class(model, config)
    # The CPU, whatever the default device is: transformers would want another package to load onto it.
    with _explained(model, "weights"), _without_reports(), torch.device("cpu"):
        network, found = kind.from_pretrained(_where(model), revision=revision, dtype=dtype, output_loading_info=True)
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ValueError(
            f"text encoder {model}: the weights lack {len(missing)} tensors of a {kind.__name__}, such as {missing[0]}"
        )
    if found["missing_keys"]:
        network.pooler = None  # a checkpoint of masked language modeling has none
    return network


def plan_network(model: str, config: Any, dtype: torch.dtype) -> nn.Module:
    """The network of a config on the meta device: its parameters can be counted, and take no memory.

    Raises:
        ValueError: If it is no encoder.
    """
    kind = network_class(model, config)
    with torch.device("meta"):
        network: nn.Module = kind(getattr(config, "text_config", config))
    return network.to(dtype)


def read_tokenizer(model: str, revision: str | None, vocabulary: int) -> Any:
    """The tokenizer of a model, which pads on the right.

    Args:
        model: Folder or name on the hub.
        revision: As for `read_config`.
        vocabulary: Tokens that the network knows.

    Raises:
        ValueError: If there is none, or it cannot be that of the network.
    """
    folder = Path(model).expanduser()
    if folder.is_dir() and not any((folder / name).is_file() for name in _VOCABULARIES):
        raise ValueError(
            f"text encoder {model}: the folder has no tokenizer (none of {', '.join(_VOCABULARIES)}); save_pretrained "
            "of the tokenizer writes it"
        )
    with _explained(model, "tokenizer"), _without_reports():
        tokenizer = transformers().AutoTokenizer.from_pretrained(_where(model), revision=revision, padding_side="right")
    ids = tokenizer(["", "red", "blue"])["input_ids"]
    if max(map(max, ids[1:])) >= vocabulary or ids[1] == ids[2]:  # transformers makes do with an empty vocabulary
        raise ValueError(
            f"text encoder {model}: its tokenizer's vocabulary is missing or not that of the network, which has "
            f"{vocabulary} tokens"
        )
    if not ids[0]:
        raise ValueError(
            f"text encoder {model}: its tokenizer makes no token of the empty prompt, which guidance needs; take one "
            "that adds a start or an end token"
        )
    return tokenizer


def _where(model: str) -> str:
    folder = Path(model).expanduser()
    return str(folder) if folder.is_dir() else model


@contextmanager
def _explained(model: str, part: str) -> Iterator[None]:
    """Turns what transformers and the hub raise, a dozen types of error, into one that names model, cause and fix."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        if isinstance(error, ImportError) or "sentencepiece" in reason:
            fix = 'If a package is missing: pip install "lingen_kit[hub]"'
        elif Path(model).expanduser().is_dir():
            fix = "Write the folder anew with save_pretrained of the network and of the tokenizer"
        else:
            fix = (
                "Check name, revision and connection; without one, copy the model over and name its folder, or set "
                "HF_HOME to a cache that holds it, with HF_HUB_OFFLINE=1"
            )
        raise ValueError(f"text encoder {model}: its {part} cannot be loaded: {reason.rstrip('.')}. {fix}") from error


@contextmanager
def _without_reports() -> Iterator[None]:
    """Hushes lists of weights that another part of the model would need, such as CLIP's for images."""
    logging = transformers().utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
