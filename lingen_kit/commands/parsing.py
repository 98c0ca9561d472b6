"""A parser of the trainer's verbs whose errors are a line or two."""

from lightning.pytorch.cli import LightningArgumentParser

from lingen_kit.config import NullParser
from lingen_kit.parse_errors import condense, name_unknown


class PlainErrorParser(NullParser, LightningArgumentParser):
    """Raises ValueError with the gist of a parsing error instead of printing the usage and exiting."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Report a wrong command line or config."""
        raise ValueError(condense(name_unknown(message, self))) from ex
