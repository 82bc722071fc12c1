"""`worker.log`: the log of all attempts at a cell."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class _Log(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: a run goes on without a log when the log cannot be written."""


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Append what the package logs inside the block to the file `path`, each line once."""
    package = logging.getLogger("fairbench")
    handler = _Log(path, delay=True)
    if _is_standard_error(path):  # then warnings are written to it already
        handler.addFilter(lambda record: record.levelno < logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    before = package.level
    package.addHandler(handler)
    package.setLevel(min(logging.INFO, before or logging.INFO))
    try:
        yield
    finally:
        package.setLevel(before)
        package.removeHandler(handler)
        handler.close()


def _is_standard_error(path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(sys.stderr.fileno()), path.stat())
    except (OSError, ValueError):  # no file, or no standard error
        return False
