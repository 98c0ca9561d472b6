"""`data`: the verbs that check, describe, choose and prepare data. Each is a module that is imported when called."""

from importlib import import_module

# verb: (module with `main(verb, arguments)`, one line of help)
VERBS = {
    "validate": ("lingen_kit.commands.data.validate", "decode every file and name those with a problem"),
    "inspect": ("lingen_kit.commands.data.inspect", "what a data set holds, and what a config would make of it"),
    "curate": ("lingen_kit.commands.data.curate", "choose clips by filters, with a page for a person to decide"),
    "precompute": ("lingen_kit.commands.data.precompute", "encode clips and captions once, to train from the cache"),
    "export": ("lingen_kit.commands.data.export", "pack clips into WebDataset shards"),
}


def main(verb: str, arguments: list[str]) -> None:
    """Run one of the verbs of `data`.

    Raises:
        ValueError: If there is no such verb.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help(verb))
        return
    name, *rest = arguments
    if name not in VERBS:
        raise ValueError(f"unknown verb {verb} {name!r}; choose one of: {', '.join(VERBS)}")
    import_module(VERBS[name][0]).main(f"{verb} {name}", rest)


def _help(verb: str) -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {line}" for name, (_, line) in VERBS.items())
    return f"""usage: python -m lingen_kit {verb} VERB DATA [options]

DATA is a folder of clips, or a list of them (.jsonl, .csv, .parquet). It is only read; results go to a folder of
their own. A verb that was killed goes on where it stopped when it is called again.

verbs:
{verbs}

  VERB --help    the options of a verb

first steps:
  python -m lingen_kit {verb} validate clips
  python -m lingen_kit {verb} inspect clips --config experiments/recipes/own_videos.yaml
"""
