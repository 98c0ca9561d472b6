"""Seeds derived from what they are for: nothing random depends on what was drawn before it."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part: nearby inputs give unrelated seeds."""
    text = ":".join(str(part) for part in parts)
    data = text.encode(errors="backslashreplace")  # a file's name need not be UTF-8
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) >> 1
