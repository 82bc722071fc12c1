"""Standard streams that cannot be written to: what happens when a reader has ended or a disk is full.

Progress, notes and log lines are dropped. Results on standard output are an error with an exit code of its
own, unless their reader has ended, as `head` does.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO, cast

from fairbench.core.errors import OutputFault


class _Stream:
    """A text stream with other rules for what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Dropping(_Stream):
    """Drops what cannot be written."""

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class Results(_Stream):
    """Raises BrokenPipeError when the reader has ended, and OutputFault for any other reason."""

    def write(self, text: str) -> int:
        with _faults():
            return self._stream.write(text)

    def flush(self) -> None:
        with _faults():
            self._stream.flush()


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFault(
            f"the output cannot be written: {error.strerror}.",
            hint="free space, or write to another file; finished runs are stored: "
            "fairbench table prints them",
        ) from error


@contextmanager
def guarded() -> Iterator[None]:
    """A block in which standard error drops what cannot be written, and standard output raises."""
    before = sys.stdout, sys.stderr
    out, error = (stream or io.StringIO() for stream in before)  # None: closed when Python started
    sys.stdout, sys.stderr = cast(TextIO, Results(out)), cast(TextIO, Dropping(error))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def output_dropped() -> Iterator[None]:
    """A block in which standard output, too, drops what cannot be written: cells are at work."""
    with redirect_stdout(cast(TextIO, Dropping(sys.stdout))):
        yield


@contextmanager
def reader_may_end() -> Iterator[None]:
    """A block of output that ends early, without an error, when its reader has ended."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)


def discard(stream: TextIO) -> None:
    """Send what `stream` still holds nowhere, so that Python does not fail on it when it ends."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # not a file, as in tests
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def end_streams() -> None:
    """Write what the streams still hold; the rest of standard error is dropped. Raises as `Results` does."""
    try:
        sys.stderr.flush()
        cast(Any, sys.stderr)._stream.flush()
    except OSError:
        discard(sys.stderr)
    sys.stdout.flush()
