"""`evaluate`: score a checkpoint or a folder of videos. Its helpers are verbs of their own, imported when called."""

from importlib import import_module

# verb: (module with `main(verb, arguments)`, one line of help)
VERBS = {
    "weights": (
        "lingen_kit.commands.evaluate.weights",
        "which weights of networks are here, and where to get the others",
    ),
    "compare": ("lingen_kit.commands.evaluate.compare", "a page that shows several results side by side"),
    "distance": ("lingen_kit.commands.evaluate.distance", "how far a set of videos is from real ones: FVD and others"),
    "convert": ("lingen_kit.commands.evaluate.convert", "results of VBench's own scripts to ours, and back"),
}


def main(verb: str, arguments: list[str]) -> None:
    """Run one of the verbs of `evaluate`, or score videos."""
    if arguments and arguments[0] in VERBS:
        import_module(VERBS[arguments[0]][0]).main(f"{verb} {arguments[0]}", arguments[1:])
        return
    from lingen_kit.commands.evaluate.score import main as score

    score(verb, arguments)
