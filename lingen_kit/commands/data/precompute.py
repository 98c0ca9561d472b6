"""`data precompute`: the latents and text embeddings of a config's data, computed once."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingen_kit.commands.data.config import overrides_of
from lingen_kit.commands.data.options import goes_on
from lingen_kit.commands.options import positive, workers

if TYPE_CHECKING:
    from lingen_kit.data.auto_data import AutoData
    from lingen_kit.data.latent_store import CachedClip

_FORMAT = 1
_SKIPPED = "skipped.jsonl"  # as `VideoDataModule.keep_report` calls it
_DTYPES = ("float32", "float16", "bfloat16")


def main(verb: str, arguments: list[str]) -> None:
    """Encode every clip of the config's data that the cache lacks, and write the cache's index."""
    options, words = _parser(verb).parse_known_args(arguments)
    overrides = overrides_of(words)

    from lingen_kit.data.latent_store import sole_writer  # after the options are known to be good: it takes seconds

    with sole_writer(options.out.expanduser()), goes_on():
        _precompute(options, overrides)


def _precompute(options: argparse.Namespace, overrides: list[str]) -> None:
    import torch

    from lingen_kit.commands.data.config import data_module
    from lingen_kit.commands.data.encoding import Job, encode, encoder_names
    from lingen_kit.commands.data.views import both_datasets, left_out, list_views, text_name
    from lingen_kit.config import build_encoders, read_config
    from lingen_kit.data.auto_data import AutoData
    from lingen_kit.data.hybrid import Hybrid
    from lingen_kit.data.latent_store import complete, listed

    out: Path = options.out.expanduser()
    data = data_module(options.config, overrides)
    if not isinstance(data, AutoData):
        raise ValueError(
            f"the data of the config is {type(data).__name__}, which reads no files; name VideoFolder, ImageFolder,"
            " WebDataset or AutoData"
        )
    if isinstance(data, Hybrid):
        raise ValueError(
            "a cache does not keep the ratio of images to videos: precompute the videos (VideoFolder) and the images"
            " (ImageFolder) each into a cache of its own"
        )
    model = read_config(options.config, [word for word in overrides if word.startswith("--model")])
    encoders = build_encoders(model)
    autoencoder, text_encoder = encoder_names(encoders, options.text)
    made_by = {
        "autoencoder": autoencoder,
        "text_encoder": text_encoder,
        "dtype": options.dtype,
        "fps": data.fps,
        "short": data.short,
        "decoder": data.decoder,
    }
    empty_text = text_name("", text_encoder)
    _begin(out, {"format": _FORMAT, **made_by, "empty_text": empty_text})
    (out / _SKIPPED).unlink(missing_ok=True)
    data.keep_report(out)
    middle, varied = both_datasets(data)
    contents = _contents(data, out, options.workers)
    views = list_views(middle, varied, contents, options.views, made_by)
    gone = left_out(listed(out), data.clips(), views, options.views)
    if gone and not options.replace:
        raise ValueError(
            f"{out} lists clips that are not in {data.root}, or not in this run's views. Name another folder with"
            f" --out, or take them out of the list with --replace:\n{_named(gone)}"
        )
    unreadable = encode(
        Job(
            folder=out,
            model=model,
            middle=middle,
            varied=varied,
            text=options.text,
            empty_text=str(empty_text),
            dtype=getattr(torch, options.dtype),
            batch_size=options.batch_size,
            workers=options.workers,
            shard_bytes=options.shard_mb << 20,
        ),
        encoders,
        views,
        _devices(options.device, options.processes),
    )
    data.note_unusable(unreadable.items())
    kept = [view.cached for view in views if view.cached.source not in unreadable]
    complete(out, kept)
    names = {clip.latents for clip in kept}
    print(f"{len(kept)} clips of {len({clip.name for clip in kept})} files in {out}, {len(names)} of them different")
    if gone:
        print(f"no longer listed there:\n{_named(gone)}")
    if skipped := data.summary():
        print(skipped)
    print(f"to train on them: fit --config ... --data lingen_kit.data.CachedLatents --data.root {out}")


def _contents(data: "AutoData", out: Path, workers: int) -> list[str | None]:
    """A hash of the file of each clip; what cannot be read is noted as unusable."""
    from lingen_kit.data.content import content_hash
    from lingen_kit.data.jobs import key_of_file, run_jobs

    clips = data.clips()
    keys = [key_of_file(clip) for clip in clips]
    items = {key: clip.path for key, clip in zip(keys, clips, strict=True)}
    found = run_jobs(
        content_hash,
        items,
        out / "contents.jsonl",
        workers=workers,
        settings={"contents": 1},
        label=f"hashing {len(items)} files",
        timeout=3600,
    )
    errors = [(str(clip.path), found[key].error) for key, clip in zip(keys, clips, strict=True)]
    data.note_unusable((source, error) for source, error in errors if error is not None)
    return [found[key].value for key in keys]


def _named(gone: "Sequence[CachedClip]") -> str:
    """The first entries of a cache out of some, and how many more there are."""
    from lingen_kit.data.clip import first_of, printable

    return first_of(f"  {printable(clip.name)}{f', view {clip.view}' if clip.view else ''}" for clip in gone)


def _begin(out: Path, about: dict[str, Any]) -> None:
    """Note what makes the cache.

    Raises:
        ValueError: If it was made by something else so far.
    """
    from lingen_kit.data.latent_store import read_about, write_about

    before = read_about(out)
    if before is None:
        write_about(out, about)
    elif before != about:
        changed = [key for key in about if before.get(key) != about.get(key)]
        named = "; ".join(f"{key}: {before.get(key)} -> {about.get(key)}" for key in changed)
        raise ValueError(
            f"{out} was made in another way, so nothing of it can be used: {named}. Name another folder with --out, or"
            " remove this one"
        )


def _devices(device: str, processes: int) -> list[str]:
    """Where each process encodes."""
    import torch

    from lingen_kit.commands.options import device as usable

    kind = usable(device)
    if kind == "cuda":
        return [f"cuda:{i % torch.cuda.device_count()}" for i in range(processes)]
    return [kind] * processes


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Encode the clips of a config's data with its autoencoder (and text encoder) once and for all. Run"
        " it again after a kill, or after clips were added: what is there is not computed again. Files that cannot be"
        " read are named and left out, up to data.max_bad_share of the config.",
        epilog="Overrides of the config follow as for fit: --data.root clips --model.autoencoder ...",
    )
    parser.add_argument(
        "--config", action="append", required=True, metavar="FILE", help="training config; several are stacked"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the cache")
    parser.add_argument(
        "--replace", action="store_true", help="go on where clips or views in the cache are not in the data any more"
    )
    parser.add_argument("--text", action="store_true", help="keep what the (pretrained) text encoder makes of captions")
    parser.add_argument(
        "--views",
        type=positive,
        default=1,
        metavar="N",
        help="stretches, crops and flips of each clip: its middle, then what training would draw (default 1)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (default: auto)")
    parser.add_argument(
        "--processes", type=positive, default=1, metavar="N", help="processes that encode, over all GPUs (default 1)"
    )
    parser.add_argument(
        "--workers",
        type=workers,
        default=2,
        metavar="N",
        help="processes that decode for each of them (default 2); 0 decodes where it encodes",
    )
    parser.add_argument(
        "--batch-size", "--batch_size", type=positive, default=8, metavar="N", help="clips at a time (default 8)"
    )
    parser.add_argument("--dtype", choices=_DTYPES, default="float32", help="of the latents on disk (default float32)")
    parser.add_argument("--shard-mb", type=positive, default=256, metavar="N", help="size of a shard (default 256)")
    return parser
