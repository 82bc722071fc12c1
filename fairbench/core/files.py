"""Atomic writes: after a crash, a file is complete or absent. Reading of JSON files, with their digest."""

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from fairbench.core.errors import RecordError, ResultsError
from fairbench.core.identity import digest_bytes
from fairbench.core.regular import read_regular

MAX_DEPTH = 40  # of values in values; what fairbench writes has less than 12

_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
_NO_BRACKET = bytes(set(range(256)) - set(b'[]{}"\\'))
WRITE_AGAIN = "run the same command again: it rewrites this file from the other files of the run folder"
_UNSEALED = "0" * 64
_END = f'"digest": "{_UNSEALED}"\n}}\n'  # last line of a sealed file, with the digest still unset


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk and rename it into place.

    Raises ResultsError when the folder cannot be written. After a crash, `path` holds the old content or
    the new content, never a mixture.
    """
    try:
        # The module tempfile makes files that only their owner can read; results are shared.
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
        if isinstance(error, FileNotFoundError) and not path.parent.exists():
            raise gone(path.parent) from error
        raise ResultsError(
            f"cannot write {path}: {error.strerror or error}.",
            hint="check the folder's permissions and free space, or choose another with --results DIR",
        ) from error


def sync_folder(folder: Path) -> None:
    """Flush the entries of `folder` to disk, so that renames survive a power cut (POSIX only)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON. Raises ValueError for NaN and infinity: write None."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def read_json(path: Path, *, links: bool = False) -> Any:
    """The value in the JSON file `path`. Raises RecordError when it is missing, damaged or no regular file.

    links: whether `path` may be a symbolic link.
    """
    return _read_and_parse(path, links)[1]


def parse_json(content: bytes) -> Any:
    """The value of a JSON text. Raises ValueError when it is none, or nested more than `MAX_DEPTH` deep."""
    try:
        value = _DECODER.decode(content.decode())
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(content, value)
    return value


def _read_and_parse(path: Path, links: bool) -> tuple[bytes, Any]:
    """The bytes of a JSON file and its value."""
    try:
        content = read_regular(path, links=links)
        return content, parse_json(content)
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise RecordError(
            f"{path} is not valid JSON ({error}).", hint="the file is damaged; move it away and run again"
        ) from error


def _check_depth(content: bytes, value: Any) -> None:
    """Raise ValueError when `value`, whose text is `content`, is nested too deep.

    Counting in the text without all but its brackets takes a third of the time of a walk over `value`.
    """
    brackets = content.translate(None, _NO_BRACKET).replace(b'""', b"")
    if b'"' not in brackets and b"\\" not in brackets:  # else a string holds brackets or an escape
        for _ in range(MAX_DEPTH):
            brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
            if not brackets:
                return
    level = [value]
    for _ in range(MAX_DEPTH):
        nested = [node for node in level if type(node) in (dict, list)]
        level = [item for node in nested for item in (node.values() if type(node) is dict else node)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write `value` as `write_json` does, with a last field "digest": the SHA-256 of the rest of the file."""
    plain = {key: item for key, item in value.items() if key != "digest"}
    text = json.dumps({**plain, "digest": _UNSEALED}, indent=1, allow_nan=False) + "\n"
    sealed = text[: -len(_END)] + _END.replace(_UNSEALED, digest_bytes(text.encode()))
    write_atomic(path, lambda file: file.write(sealed.encode()))


def read_sealed(path: Path) -> tuple[Any, bool]:
    """The value in the JSON file `path` without its field "digest", and whether it has that field.

    Raises RecordError when the file is missing or damaged, or when the digest does not match the content.
    """
    content, value = _read_and_parse(path, links=False)
    if not isinstance(value, dict):
        return value, False
    stored_digest = value.pop("digest", None)
    if stored_digest is None:
        return value, False
    end = _END.replace(_UNSEALED, str(stored_digest)).encode()
    if not content.endswith(end) or digest_bytes(content[: -len(end)] + _END.encode()) != stored_digest:
        raise RecordError(
            f"{path} was damaged or edited after it was written: its content does not match its digest.",
            hint=WRITE_AGAIN,
        )
    return value, True


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def gone(folder: Path) -> ResultsError:
    """The error for a folder that was there when the work began."""
    return ResultsError(
        f"the folder {folder} was removed, renamed or unmounted.",
        hint="nothing is written in its place; put it back and run the same command again",
    )


def make_folder(path: Path, *, parents: bool = True) -> Path:
    """Create `path`, with its `parents`. Raises ResultsError when that is not possible.

    Without `parents` in a folder that was removed or unmounted, so that nothing is made in its place.
    """
    try:
        path.mkdir(parents=parents, exist_ok=True)
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
