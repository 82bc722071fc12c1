"""Files that are either whole or absent."""

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from fairbench.core.errors import RecordError, ResultsError


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk and rename it into place.

    Raises ResultsError when the folder cannot be written. A crash leaves the old file or the
    new one, never half of either.
    """
    try:
        # Not tempfile: its files stay private, and colleagues read results.
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with name.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise ResultsError(
            f"cannot write {path}: {error.strerror or error}.",
            hint="check the folder's permissions and free space, or choose another with --results DIR",
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the renames in `folder` survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON. NaN is refused: write None."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """The value in the JSON file `path`. Raises RecordError when it is missing or damaged."""
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse)
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise RecordError(
            f"{path} is not valid JSON ({error}).", hint="the file is damaged; move it away and run again"
        ) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def make_folder(path: Path) -> Path:
    """Create `path` with its parents. Raises ResultsError when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(
            f"cannot create the folder {path}: {error.strerror or error}.",
            hint="choose another with --results DIR",
        ) from error
    if not os.access(path, os.W_OK):
        raise ResultsError(
            f"the folder {path} is not writable.",
            hint=f"make it writable (chmod u+w {path}) or choose another with --results DIR",
        )
    return path
