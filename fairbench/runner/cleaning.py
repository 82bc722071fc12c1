"""What a results folder could do without, how much that is, and its removal."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fairbench.core.errors import LeaseHeldError, RecordError, ResultsError
from fairbench.core.lease import hold_lease
from fairbench.records.read import UNFINISHED
from fairbench.records.results_folder import ResultsFolder, is_only_copy
from fairbench.records.run_folder import LEASE, RunFolder

FRESH_SECONDS = 3600.0  # temporary files younger than this may be at work, on another machine


@dataclass(frozen=True)
class Waste:
    """A file or folder of `run` to be removed, its bytes on disk, and why it is not needed."""

    path: Path
    size: int
    why: str
    run: RunFolder


def find_waste(
    results: Path, *, weights: bool = False, failed: bool = False, unfinished: bool = False
) -> Iterator[Waste]:
    """The files that can be deleted, except in runs that a process works on.

    Always: temporary files and stale leases of killed processes, states for a resume and unfinished blocks of
    runs that are done or diverged, and what was damaged and set aside. `weights`: checkpoints of done runs
    too (new attacks on them, `verify` and `export` then train again or refuse). `failed`, `unfinished`: whole
    folders of runs that failed or diverged, or never ended.
    """
    folder = ResultsFolder(results)
    for path in sorted(folder.runs.glob(".*/")):  # copies that were cut off
        if _is_old(path) and not is_only_copy(path):  # which the next merge or run puts back
            yield _waste(path, "copied in part by a process that is gone", RunFolder(path))
    for run in folder.run_folders():
        if run.path.is_symlink() or run.owner() is not None:
            continue
        try:
            run.require_plain()
            state = run.read().state
        except RecordError:
            continue  # damaged: for a person to look at
        if (failed and state in ("failed", "diverged")) or (unfinished and state == UNFINISHED):
            yield _waste(run.path, f"the run is {state}", run)
        else:
            yield from _inside(run, state, weights)


def remove(waste: Waste) -> bool:
    """Remove it, unless a process has begun to work on its run; whether it is gone.

    Raises ResultsError when it cannot be removed.
    """
    try:
        if waste.run.name.startswith("."):
            shutil.rmtree(waste.path)
            return True
        if waste.path.name == LEASE:
            with suppress(LeaseHeldError), hold_lease(waste.path):  # taking it over and leaving removes it
                return True
            return False
        with waste.run.lease():
            if waste.path == waste.run.path:
                gone = waste.path.with_name(f".{waste.path.name}.removed")
                os.replace(waste.path, gone)
                shutil.rmtree(gone)
            elif waste.path.is_dir():
                shutil.rmtree(waste.path)
            else:
                waste.path.unlink(missing_ok=True)
    except LeaseHeldError:
        return False
    except FileNotFoundError:
        return True
    except OSError as error:
        raise ResultsError(
            f"cannot remove {waste.path}: {error.strerror or error}.", hint="check the folder's permissions"
        ) from error
    return True


def _inside(run: RunFolder, state: str, weights: bool) -> Iterator[Waste]:
    if run.lease_file.exists():
        yield _waste(run.lease_file, "the process that held it is gone", run)
    for path in run.temporary_files():
        if _is_old(path):
            yield _waste(path, "written in part by a process that is gone", run)
    for path in run.damaged_files():
        yield _waste(path, "damaged; a new file has replaced it", run)
    if state in ("done", "diverged"):
        for path in filter(Path.exists, run.resume_files()):
            yield _waste(path, f"the run is {state} and resumes no more", run)
        for path in run.blocks():
            yield _waste(path, f"the run is {state} and has its outcomes", run)
    if weights and state == "done":
        for path in run.weights_files():
            yield _waste(path, "weights of a run that is done", run)


def _waste(path: Path, why: str, run: RunFolder) -> Waste:
    inside = (
        [Path(root, name) for root, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    )
    size = 0
    for each in inside:
        with suppress(OSError):
            size += each.lstat().st_blocks * 512
    return Waste(path, size, why, run)


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > FRESH_SECONDS
    return False
