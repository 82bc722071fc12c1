"""Outcomes on disk: one row per test example, whole or refused.

A structured array in numpy's .npy format 1.0, never a pickle. Columns `label`, `prediction`,
`correct`, then any bool columns that an attack adds, for instance `correct_every_step`.
"""

import io
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError, RecordError
from fairbench.core.identity import digest_bytes
from fairbench.core.regular import read_regular
from fairbench.records import MAX_CLASSES

_COLUMNS = [("label", "<u2"), ("prediction", "<u2"), ("correct", "?")]


def outcome_dtype(*columns: str) -> np.dtype[Any]:
    """The row of an outcomes file whose attack adds the bool `columns`."""
    return np.dtype([*_COLUMNS, *((name, "?") for name in columns)])


def encoded(label: ArrayLike, prediction: ArrayLike, correct: ArrayLike, **columns: ArrayLike) -> bytes:
    """The file of the outcomes of N examples.

    label, prediction (N,) int in 0..65535; correct and every further column (N,) bool. Equal
    outcomes give equal bytes. Raises DataError when a column does not fit.
    """
    given = {"label": label, "prediction": prediction, "correct": correct, **columns}
    arrays = {name: np.asarray(values) for name, values in given.items()}
    shape = arrays["label"].shape
    rows = np.empty(shape, dtype=outcome_dtype(*columns))
    for name, values in arrays.items():
        if values.ndim != 1 or values.shape != shape:
            raise DataError(f"{name} {values.shape} is not one value for each of the labels {shape}.")
        rows[name] = _integers(name, values) if name in ("label", "prediction") else _bools(name, values)
    buffer = io.BytesIO()
    npy.write_array(buffer, rows, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def read_outcomes(path: Path, expected_digest: str | None = None) -> NDArray[Any]:
    """The rows of an outcomes file, read-only.

    Raises RecordError when the file is missing, truncated, damaged, of another layout, or when
    its SHA-256 is not `expected_digest`. Nothing in the file is ever executed.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise RecordError(f"cannot read the outcomes {path}: {error.strerror or error}.") from error
    if expected_digest is not None and digest_bytes(content) != expected_digest:
        raise _damaged(path, "its digest is not the one in the record")
    header = content[: 10 + int.from_bytes(content[8:10], "little")]
    try:
        shape, dtype = _layout(header)
    except Exception as error:  # numpy parses the header as Python data: anything may come
        raise _damaged(path, "its header cannot be read") from error
    if len(shape) != 1 or not _is_outcome_dtype(dtype):
        raise _damaged(path, "its columns are not those of outcomes")
    size, expected = len(content) - len(header), math.prod(shape) * dtype.itemsize
    if size != expected:
        raise _damaged(path, f"it holds {size} bytes of rows, not {expected}")
    return np.frombuffer(content, dtype=dtype, offset=len(header))


@lru_cache(maxsize=64)
def _layout(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and row of a .npy header. The files of a results folder share few headers, parsed once each."""
    stream = io.BytesIO(header)
    version = npy.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"format {version}")
    shape, _, dtype = npy.read_array_header_1_0(stream)
    return shape, dtype


def _is_outcome_dtype(dtype: np.dtype[Any]) -> bool:
    names = dtype.names or ()
    return names[: len(_COLUMNS)] == tuple(name for name, _ in _COLUMNS) and dtype == outcome_dtype(
        *names[len(_COLUMNS) :]
    )


def _damaged(path: Path, why: str) -> RecordError:
    return RecordError(
        f"the outcomes {path} are damaged: {why}.",
        hint="delete the file and run the same command again: only this evaluation is repeated",
    )


def _integers(name: str, values: NDArray[Any]) -> NDArray[Any]:
    fits = values.dtype.kind in "iu" and not ((values < 0) | (values >= MAX_CLASSES)).any()
    if not fits:
        raise DataError(f"{name} must be integers in 0..{MAX_CLASSES - 1}.")
    return values


def _bools(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype != np.bool_:
        raise DataError(f"{name} must be true or false for each example, not {values.dtype}.")
    return values
