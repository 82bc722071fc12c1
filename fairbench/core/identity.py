"""Identities: a hash of what can change a result, and of nothing else."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

_MARK = 98989898989898989898  # stands for a number in a text; nothing else looks like it


def canonical_json(value: Any) -> str:
    """The one JSON text of plain data: sorted keys, no spaces, floats in shortest form.

    Raises ValueError for NaN and infinity, TypeError for what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any, length: int = 12) -> str:
    """First `length` hex digits of the SHA-256 of `canonical_json(value)`."""
    return digest_bytes(canonical_json(value).encode(), length)


def digest_by_number(value: Callable[[int], Any], length: int = 12) -> Callable[[int], str]:
    """`number -> digest(value(number), length)`, where the number stands in one place of `value`.

    The text is made once: ten thousand seeds take no longer than their hashes.
    """
    before, after = canonical_json(value(_MARK)).split(str(_MARK))
    return lambda number: digest_bytes(f"{before}{number}{after}".encode(), length)


def digest_bytes(data: bytes, length: int = 64) -> str:
    """First `length` hex digits of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()[:length]
