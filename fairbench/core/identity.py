"""Identities: a hash of what can change a result, and of nothing else."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """The one JSON text of plain data: sorted keys, no spaces, floats in shortest form.

    Raises ValueError for NaN and infinity, TypeError for what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any, length: int = 12) -> str:
    """First `length` hex digits of the SHA-256 of `canonical_json(value)`."""
    return digest_bytes(canonical_json(value).encode(), length)


def digest_bytes(data: bytes, length: int = 64) -> str:
    """First `length` hex digits of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()[:length]
