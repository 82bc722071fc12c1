"""`worker.log`: what happened to a cell, attempt after attempt, whoever worked on it."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class _Log(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written stops nobody."""


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Inside the block, what the package logs is also appended to the file `path`, each line once."""
    package = logging.getLogger("fairbench")
    handler = _Log(path, delay=True)
    if _is_standard_error(path):  # of a process started for this cell: its warnings are there already
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
