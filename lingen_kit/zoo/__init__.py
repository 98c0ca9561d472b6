"""Small trained models that come with the kit: `zoo:lingen-shapes` wherever a checkpoint is asked for.

Each is a folder that `export` wrote, with a card that says how it was trained and what it can do. Imports nothing of
ours.
"""

from pathlib import Path

__all__ = ["PREFIX", "find", "names"]

PREFIX = "zoo:"
_HERE = Path(__file__).parent


def names() -> list[str]:
    """The models that there are."""
    return sorted(path.parent.name for path in _HERE.glob("*/config.json"))


def find(path: str | Path) -> Path:
    """The folder of a model of the zoo; any other path as it is.

    Args:
        path: A path, or `zoo:` and a name.

    Raises:
        ValueError: If the zoo has no such model.
    """
    if not str(path).startswith(PREFIX):
        return Path(path)
    name = str(path).removeprefix(PREFIX)
    if name not in names():
        raise ValueError(f"the zoo has no {name!r}; it has {', '.join(PREFIX + known for known in names())}")
    return _HERE / name
