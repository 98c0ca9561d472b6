"""Tiny text encoders with random weights and real tokenizers, in the folders that the hub's repositories are."""

import json
import string
from pathlib import Path

import torch

WORDS = ["a", "red", "blue", "green", "circle", "square", "moves", "left", "right", "up", "and", "the"]
KINDS = ["byt5", "umt5", "clip", "bert"]


def write_model(kind: str, folder: Path) -> Path:
    """Save network and tokenizer of one kind; the weights are those that a seed gives."""
    torch.manual_seed(1)
    network = {"byt5": _t5, "umt5": _umt5, "clip": _clip, "bert": _bert, "gpt2": _gpt2}[kind](folder)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:  # at this scale each word shows in the output
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.25)
    network.save_pretrained(folder)
    return folder


def _t5(folder: Path) -> torch.nn.Module:
    from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

    ByT5Tokenizer().save_pretrained(folder)
    sizes = {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**sizes))


def _umt5(folder: Path) -> torch.nn.Module:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import UMT5Config, UMT5EncoderModel

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *(("\u2581" + word, -1.0) for word in WORDS)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", **special}))
    sizes = {"vocab_size": len(pieces), "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return UMT5EncoderModel(UMT5Config(**sizes))


def _clip(folder: Path) -> torch.nn.Module:
    from transformers import CLIPConfig, CLIPModel

    letters = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    start, end = "<|startoftext|>", "<|endoftext|>"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate([*letters, start, end])}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 32, **special})
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": 16}
    ids = {"bos_token_id": len(letters), "eos_token_id": len(letters) + 1, "pad_token_id": len(letters) + 1}
    text = {**sizes, **ids, "num_hidden_layers": 3, "vocab_size": len(letters) + 2, "max_position_embeddings": 32}
    vision = {**sizes, "num_hidden_layers": 1, "image_size": 8, "patch_size": 4}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))


def _bert(folder: Path) -> torch.nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    folder.mkdir()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=40,
        )
    )


def _gpt2(folder: Path) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2Model

    sizes = {"vocab_size": 30, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
    return GPT2Model(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))
