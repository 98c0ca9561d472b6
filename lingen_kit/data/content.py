"""Hashes of what media files hold, so that a copy or a renamed file counts as the same."""

import hashlib

from lingen_kit.data.media import Source, open_bytes

_PIECE = 1 << 20


def content_hash(source: Source) -> str:
    """A hash of all bytes of a file.

    Raises:
        OSError: If it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open_bytes(source) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
