"""Folders such as a hub gives, with networks of transformers that are tiny and random: nothing is fetched."""

from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    PreTrainedModel,
    SwinConfig,
)

WORDS = ["a", "photo", "of", "red", "blue", "green", "bicycle", "cat", "dog", "alley", "street", "train", "station"]
# Numbers of special tokens as in BERT's vocabulary: Grounding DINO tells sentences apart by them.
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
NARROW = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def owlv2(folder: Path) -> Path:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    names = {*letters, *(f"{letter}</w>" for letter in letters)}
    merges = {}
    for word in WORDS:  # each is one token, put together from the left
        *parts, last = word
        known = ""
        for part in [*parts, f"{last}</w>"]:
            if known:
                merges[known, part] = None
            known += part
            names.add(known)
    vocabulary = {name: number for number, name in enumerate([*sorted(names), "<|startoftext|>", "<|endoftext|>"])}
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    words = NARROW | {
        "vocab_size": len(vocabulary), "max_position_embeddings": 16, "bos_token_id": start, "eos_token_id": end,
        "pad_token_id": end,
    }  # fmt: skip
    pictures = NARROW | {"image_size": 48, "patch_size": 16}
    network = Owlv2ForObjectDetection(Owlv2Config(text_config=words, vision_config=pictures, projection_dim=16))
    processor = Owlv2Processor(
        Owlv2ImageProcessor(size={"height": 48, "width": 48}),
        CLIPTokenizer(vocabulary, list(merges), model_max_length=16),
    )
    processor.save_pretrained(folder)
    return saved(network, folder)


def grounding_dino(folder: Path) -> Path:
    swin = SwinConfig(
        image_size=32, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = NARROW | {"model_type": "bert", "vocab_size": 1030, "max_position_embeddings": 256}
    network = GroundingDinoForObjectDetection(
        GroundingDinoConfig(
            backbone_config=swin, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2,
            encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=9,
        )
    )  # fmt: skip
    sizes = {"shortest_edge": 64, "longest_edge": 128}
    GroundingDinoProcessor(GroundingDinoImageProcessor(size=sizes), bert_tokenizer()).save_pretrained(folder)
    return saved(network, folder)


def blip(folder: Path) -> Path:
    text = NARROW | {
        "vocab_size": 1030, "max_position_embeddings": 64, "bos_token_id": 101, "eos_token_id": 102,
        "sep_token_id": 102, "pad_token_id": 0, "encoder_hidden_size": 16, "projection_dim": 16,
    }  # fmt: skip
    pictures = NARROW | {"image_size": 32, "patch_size": 16, "projection_dim": 16}
    network = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=pictures, projection_dim=16, image_text_hidden_size=16)
    )
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), bert_tokenizer()).save_pretrained(folder)
    return saved(network, folder)


def bert_tokenizer() -> BertTokenizer:
    words = {word: 200 + number for number, word in enumerate(WORDS)} | SPECIAL
    rest = (number for number in range(1030) if number not in words.values())
    return BertTokenizer(words | {f"[unused{number}]": number for number in rest})


def saved(network: PreTrainedModel, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():  # as initialized, networks say the same of everything
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
    network.save_pretrained(folder)
    return folder
