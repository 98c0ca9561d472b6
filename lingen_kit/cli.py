"""The front door: `python -m lingen_kit VERB ...`. A verb's code is imported only when it is called.

Importing torch takes seconds and lightning several times that, so asking for help must pay for neither.
"""

import os
import sys
from importlib import import_module

from lingen_kit import __version__
from lingen_kit.errors import explain

# verb: (module with `main(verb, arguments)`, one line of help)
VERBS = {
    "fit": ("lingen_kit.commands.train", "train a model: fit --config experiments/quickstart.yaml"),
    "validate": ("lingen_kit.commands.train", "measure a checkpoint on the validation data"),
    "test": ("lingen_kit.commands.train", "measure a checkpoint on the test data"),
    "predict": ("lingen_kit.commands.train", "sample a video for each caption of the data"),
    "sample": ("lingen_kit.commands.sample", "sample videos for prompts from a checkpoint"),
    "evaluate": ("lingen_kit.commands.evaluate", "score a checkpoint or a folder of videos: evaluate --videos clips"),
    "arena": ("lingen_kit.commands.arena", "let people choose between the videos of two models or more"),
    "export": ("lingen_kit.commands.export", "write a model to a folder, for Python and the Hugging Face hub"),
    "data": ("lingen_kit.commands.data", "check, inspect, curate, encode or pack data: data validate clips"),
    "search": ("lingen_kit.commands.search", "find an architecture: search --config experiments/search/quick.yaml"),
    "bench": ("lingen_kit.commands.bench", "how latency, memory and FLOPs of configs grow with size"),
    "plan": ("lingen_kit.commands.plan", "what a training costs before it starts: memory, FLOPs, GPU-days"),
    "adjacency": ("lingen_kit.commands.adjacency", "how near scans keep adjacent tokens, with no model"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 0, with 2 for wrong usage or input, or with 130 when interrupted.

    Args:
        arguments: Words after the program's name; those of the process if None.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return
    if arguments[0] in ("-V", "--version"):
        print(f"lingen_kit {__version__}")
        return
    verb, *rest = arguments
    if verb not in VERBS:
        _fail(f"unknown verb {verb!r}; choose one of: {', '.join(VERBS)}")
    try:
        import_module(VERBS[verb][0]).main(verb, rest)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        message = explain(error)
        if debug or message is None:
            raise
        _fail(f"{message}\n(add --debug for the traceback)")


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {line}" for verb, (_, line) in VERBS.items())
    return f"""lingen_kit {__version__}: a wind tunnel for linear-complexity video generation

usage: python -m lingen_kit VERB [options]

verbs:
{verbs}

  VERB --help    the options of a verb
  --debug        show the traceback of an error
  --version      print the version

first steps:
  python -m lingen_kit fit --config experiments/quickstart.yaml
  python -m lingen_kit fit --config experiments/quickstart.yaml --model.denoiser.mixer lingen_kit.mixers.SelfAttention
  python -m lingen_kit sample --ckpt runs/quickstart/version_0/checkpoints/last.ckpt --prompt "a red circle moves left"
"""


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
