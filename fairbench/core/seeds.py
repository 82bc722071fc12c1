"""Seeds: every random draw has a name, and its seed depends on this name only.

There is no global generator. A draw for one purpose, epoch and step gives the same numbers
regardless of earlier draws. So all methods under one seed get the same noise, and a resumed run
needs no saved generator state.
"""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in 0..2**63-1 from names and numbers, for instance `(seed, "attack", epoch, step)`."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
