"""Whether the outcomes of a record are those that it was written with, and have the hits that it counts.

A check reads every outcomes file of the record. What was found right is remembered in the user's cache folder
and not read again while the inode, size and times of each file stay the same.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from fairbench.core.errors import DataError, EnvironmentFault, RecordError
from fairbench.core.home import user_cache
from fairbench.core.regular import append_regular, read_regular

KEY_BYTES = 16
MAX_BYTES = 64 << 20  # of the file that remembers: four million records
SETTLED_NS = 2_000_000_000  # a file as young as this may change again without another time


class RecordedOutcomes(Protocol):
    """The entry of a record about an outcomes file."""

    @property
    def file(self) -> str: ...

    @property
    def digest(self) -> str | None: ...

    @property
    def hits(self) -> tuple[int, ...]: ...


class RecordedRun(Protocol):
    """The part of a record that this module looks at."""

    @property
    def folder(self) -> Path: ...

    @property
    def evaluations(self) -> Sequence[RecordedOutcomes]: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def class_count(self) -> tuple[int, ...]: ...

    def inside(self, file: str) -> Path: ...


def outcome_faults(record: RecordedRun) -> Mapping[int, str]:
    """What is wrong with the outcomes of each evaluation, by its place in the record; {} for none."""
    key, newest = _key(record)
    if key is not None and key in _remembered():
        return {}
    now = time.time_ns()
    faults = {}
    for place, evaluation in enumerate(record.evaluations):
        fault = _fault(record, evaluation)
        if fault:
            faults[place] = fault
    if key is not None and not faults and newest < now - SETTLED_NS:
        _remember(key)
    return faults


def _key(record: RecordedRun) -> tuple[bytes | None, int]:
    """A hash of the record's entries about its outcomes and of each file's inode, size and times.

    None when a file is missing. Also the newest of these times, in nanoseconds.
    """
    folder, newest, facts = str(record.folder), 0, []
    try:
        for e in record.evaluations:
            status = os.lstat(f"{folder}/{e.file}")
            newest = max(newest, status.st_ctime_ns)
            times = status.st_mtime_ns, status.st_ctime_ns
            facts.append((e.file, e.digest, e.hits, status.st_ino, status.st_size, times))
    except (OSError, ValueError):
        return None, 0
    return sha256(repr((record.class_count, facts)).encode()).digest()[:KEY_BYTES], newest


def _fault(record: RecordedRun, evaluation: RecordedOutcomes) -> str:
    """What is wrong with the outcomes of one evaluation; "" for nothing."""
    import numpy as np

    from fairbench.metrics.classwise import class_count, class_hits
    from fairbench.records.outcomes import read_outcomes

    if not os.path.lexists(record.folder / evaluation.file):
        return f"{evaluation.file} is gone"
    try:
        rows = read_outcomes(record.inside(evaluation.file), evaluation.digest)
        hits = class_hits(rows["correct"], rows["label"], record.num_classes)
        count = class_count(rows["label"], record.num_classes)
    except (RecordError, DataError) as error:
        return error.message
    if (rows["correct"] & (rows["prediction"] != rows["label"])).any():
        return f"{evaluation.file} counts images as correct that were predicted as another class"
    if evaluation.hits and not np.array_equal(hits, evaluation.hits):
        return f"the record counts other hits than {evaluation.file} has"
    if record.class_count and not np.array_equal(count, record.class_count):
        return f"the record counts other images of the classes than {evaluation.file} has"
    return ""


@cache
def _remembered() -> set[bytes]:
    """The keys in the user's cache folder; empty where there is none, and when the file was cut off."""
    content = b""
    with suppress(OSError, EnvironmentFault):
        content = read_regular(user_cache() / "checked", MAX_BYTES)
    return {content[i : i + KEY_BYTES] for i in range(0, len(content) - KEY_BYTES + 1, KEY_BYTES)}


def _remember(key: bytes) -> None:
    """Add a key, also to the file in the user's cache folder if that can be written."""
    _remembered().add(key)
    with suppress(OSError, EnvironmentFault):
        folder = user_cache()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "checked"
        size = path.stat().st_size if path.exists() else 0
        if size > MAX_BYTES or size % KEY_BYTES:
            path.unlink()
        append_regular(path, key)
