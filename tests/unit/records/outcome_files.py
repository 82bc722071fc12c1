"""Outcomes files that tests write."""

from pathlib import Path

from numpy.typing import ArrayLike

from fairbench.core.files import write_atomic
from fairbench.core.identity import digest_bytes
from fairbench.records.outcomes import encoded


def write_outcomes(
    path: Path, label: ArrayLike, prediction: ArrayLike, correct: ArrayLike, **columns: ArrayLike
) -> str:
    """Write an outcomes file; its SHA-256."""
    content = encoded(label, prediction, correct, **columns)
    write_atomic(path, lambda file: file.write(content))
    return digest_bytes(content)
