"""Read the CIFAR pickles without running code from them.

Python's own loader calls any function that a file names. This one allows numpy arrays and plain containers.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fairbench.core.errors import DataError


def read_pickle(path: Path) -> Any:
    """The content of `path`: dictionaries, lists, numbers, strings and numpy arrays; Python 2 strings as str.

    Raises DataError when the file is damaged or names any other object.
    """
    try:
        return ArrayUnpickler(io.BytesIO(path.read_bytes()), path).load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle may raise any class
        raise damaged(path, f"is damaged: {type(error).__name__}: {error}.") from error


def damaged(path: Path, reason: str) -> DataError:
    """The error for a published file that is not what its publisher wrote."""
    return DataError(f"{path} {reason}", hint="delete it and prepare the data set again")


class ArrayUnpickler(pickle.Unpickler):
    """A pickle.Unpickler that allows only numpy's array constructors."""

    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """One of the allowed constructors. Raises DataError for every other name."""
        constructor = ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if constructor is None:
            raise DataError(
                f"{self.path} would call {module}.{name}, which no image file needs: it was not loaded.",
                hint="do not trust this file; get the data set from its official site",
            )
        return constructor


def make_dtype(text: str | bytes, align: object = False, copy: object = False) -> np.dtype[Any]:
    """A new numeric dtype object, whose byte order the pickle may set afterwards."""
    dtype = np.dtype(text.decode() if isinstance(text, bytes) else text)
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of type {dtype}")
    return np.dtype(dtype, copy=True)


def encode_text(text: str, encoding: str = "latin1") -> bytes:
    """Bytes from the string that Python 3 writes for them in pickles of protocol 2."""
    return text.encode(encoding)


RECONSTRUCT: Callable[..., Any] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]
FROM_BUFFER: Callable[..., Any] = np.empty(0).__reduce_ex__(5)[0]  # type: ignore[assignment]
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): FROM_BUFFER,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): make_dtype,
    ("_codecs", "encode"): encode_text,
}
