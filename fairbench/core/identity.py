"""Identities: hashes of exactly those settings that can change a result."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

ID_DIGITS = 12
_PLACEHOLDER = 98989898989898989898  # replaced by the number; long enough to occur nowhere else


def canonical_json(value: Any) -> str:
    """The unique JSON text of plain data: sorted keys, no spaces, floats in shortest form.

    Raises ValueError for NaN and infinity, TypeError for types that JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any, length: int = ID_DIGITS) -> str:
    """First `length` hex digits of the SHA-256 of `canonical_json(value)`."""
    return digest_bytes(canonical_json(value).encode(), length)


def digest_by_number(value: Callable[[int], Any], length: int = ID_DIGITS) -> Callable[[int], str]:
    """A function `number -> digest(value(number), length)`, for a `value` that contains the number once.

    The JSON text is built once, so that each number (a seed) costs one hash only.
    """
    before, after = canonical_json(value(_PLACEHOLDER)).split(str(_PLACEHOLDER))
    return lambda number: digest_bytes(f"{before}{number}{after}".encode(), length)


def digest_bytes(data: bytes, length: int = 64) -> str:
    """First `length` hex digits of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()[:length]
